"""The commands: what they print, and their exit status."""

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.db import Database


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"SWARM_DATABASE_URL": url})


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_maintainers_day(filled: Database, empty_url: str, tmp_path: Path) -> None:
    file, url = tmp_path / "swarm.backup", filled.url.render_as_string()
    done = run(url, "backup", str(file))
    assert (done.exit_code, done.stderr) == (0, "") and done.stdout.startswith(f"Wrote {file}: ")
    refused = run(url, "backup", str(file))
    assert refused.exit_code == 1 and refused.stderr.startswith("swarm-coordinator: ") and "--force" in refused.stderr
    assert refused.stderr.count("\n") == 1 and refused.stdout == ""
    done = run(empty_url, "restore", str(file))
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Verified: nothing is missing, all numbers agree."
    packed = json.loads(run(empty_url, "repack", "--dry-run", "--json").stdout)
    assert packed["commits"] == 13 and packed["bytes_after"] <= packed["bytes_before"]
    with sqlite3.connect(empty_url.removeprefix("sqlite:///")) as connection:
        connection.execute("delete from findings where id = 1")
        connection.execute("update branches set head_sha = 'nowhere'")
    connection.close()
    found = run(empty_url, "verify", "--json")
    assert found.exit_code == 1 and found.stderr == ""
    assert json.loads(found.stdout)["problems"][0] == "branches 1: head_sha names nowhere, which does not exist"
