"""The commands: what they print, and their exit status."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import text
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.db.database import Database


def run(url: str, *arguments: str, pg_bin: Path | None = None) -> Result:
    programs = {"SWARM_PG_BIN": str(pg_bin)} if pg_bin else {}
    return CliRunner().invoke(app, arguments, env={"SWARM_DATABASE_URL": url} | programs)


def assert_one_clear_line(done: Result, words: str) -> None:
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("swarm-coordinator: ") and done.stderr.count("\n") == 1 and words in done.stderr


def test_a_maintainers_day(filled: Database, empty_url: str, tmp_path: Path, pg_bin: Path | None) -> None:
    file, url = tmp_path / "swarm.backup", filled.url.render_as_string(hide_password=False)
    done = run(url, "backup", str(file), pg_bin=pg_bin)
    assert (done.exit_code, done.stderr) == (0, "") and done.stdout.startswith(f"Wrote {file}: ")
    assert_one_clear_line(run(url, "backup", str(file), pg_bin=pg_bin), "--force")
    done = run(empty_url, "restore", str(file), pg_bin=pg_bin)
    assert done.exit_code == 0, done.stderr
    verified = "Verified 13 commits and 15 runs: nothing is missing, all numbers agree."
    assert done.stdout.splitlines()[-1] == verified
    assert_one_clear_line(run(empty_url, "restore", str(file), pg_bin=pg_bin), "has tables")
    packed = json.loads(run(empty_url, "repack", "--dry-run", "--json").stdout)
    assert packed["commits"] == 13 and packed["bytes_after"] <= packed["bytes_before"]
    restored = Database(empty_url)
    with restored.write() as session:
        session.execute(text("update commit_posteriors set metric_mean = 1 where effect_mean is null"))
    restored.close()
    found = run(empty_url, "verify", "--json")
    assert (found.exit_code, found.stderr) == (1, "")
    problems = json.loads(found.stdout)["problems"]
    assert any("metric_mean is 1.0, the runs give 3.3" in problem for problem in problems)


def test_a_reason_forges_no_entry_of_the_printed_log(filled: Database) -> None:
    url = filled.url.render_as_string(hide_password=False)
    forged = "spam\n99  2026-01-01 00:00  boss (web)  release account eve"
    done = [run(url, "create-maintainer", "eve"), run(url, "suspend", "eve", "--reason", forged)]
    assert [one.exit_code for one in done] == [0, 0], done[-1].output
    assert done[-1].stdout.count("\n") == 1
    log = run(url, "audit", "--subject", "account", "--key", "eve").stdout.splitlines()
    assert not [line for line in log if line.startswith("99 ")] and "spam 99" in log[0]
    assert not [line for line in run(url, "accounts").stdout.splitlines() if line.startswith("99 ")]


@pytest.mark.parametrize("command", ["backup", "restore", "verify"])
def test_a_database_that_does_not_answer(command: str, tmp_path: Path) -> None:
    file = tmp_path / "swarm.backup"
    if command == "restore":
        file.write_bytes(b"PGDMP")
    arguments = () if command == "verify" else (str(file),)
    done = run("postgresql://ada:secret@127.0.0.1:1/swarm", command, *arguments)
    assert_one_clear_line(done, "Connection refused")
    assert "secret" not in done.stderr and file.exists() == (command == "restore")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "list.db").write_text("bread, butter and a long line that makes this file longer than a header" * 20)
    for command in (["verify"], ["repack"], ["backup", str(tmp_path / "swarm.backup")]):
        assert_one_clear_line(run(f"sqlite:///{tmp_path}/list.db", *command), "file is not a database")
    assert [path.name for path in tmp_path.iterdir()] == ["list.db"]


def test_a_class_that_is_derived_again_is_named(filled: Database) -> None:
    url = filled.url.render_as_string(hide_password=False)
    with filled.write() as session:
        session.execute(
            text("update evidence_epochs set underived_sha = (select root_sha from projects where id = project_id)")
        )
    for command, words in ((["verify"], "the other numbers agree"), (["recompute", "--check"], "The other numbers")):
        done = run(url, *command)
        assert done.exit_code == 0, done.stderr
        assert "derived again in the background" in done.stdout and words in done.stdout
    assert run(url, "new-epoch").exit_code == 0
    for command in (["verify"], ["recompute", "--check"]):
        done = run(url, *command)
        assert done.stdout.count("\n") == 1 and "all numbers" in done.stdout.casefold(), done.stdout
