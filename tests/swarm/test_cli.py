"""The researcher's command line, against a real coordinator."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from pyarrow import parquet
from rich.console import Console
from typer.testing import CliRunner

from swarm.cli import app
from swarm.client import Client
from swarm.tables import show_comparison
from tests.support.git import Git, run_git
from tests.swarm.conftest import EXPERIMENTS, Swarm

COMMANDS = [
    ["records", "tiny"], ["findings", "learning rate"], ["tried", "LEARNING_RATE 0.003 -> 0.004"], ["show", "3"],
    ["lineage", "3"], ["diff", "1", "3"], ["experiments"], ["topics", "tiny"], ["runs", "tiny"], ["projects"],
    ["compare", "1", "3", "5"], ["findings", "--sort", "best"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_people_get_lines_that_fit(swarm: Swarm, command: list[str]) -> None:
    done = swarm(*command)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) >= 2 and (command[0] == "diff" or max(map(len, lines)) <= 80)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_pipes_get_json_lines_of_the_chosen_fields(swarm: Swarm, command: list[str]) -> None:
    documents = [json.loads(line) for line in swarm(*command, "--json", "all").stdout.splitlines()]
    assert documents
    name = next(iter(documents[0]))
    chosen = swarm(*command, "--json", name)
    assert [json.loads(line) for line in chosen.stdout.splitlines()] == [{name: row[name]} for row in documents]
    unknown = swarm(*command, "--json", "nope")
    assert unknown.exit_code == 1 and "Known fields: " in unknown.stderr and not unknown.stdout


def test_findings_are_narrowed(swarm: Swarm) -> None:
    rows = swarm("findings", "LEARNING_RATE", "--verdict", "worse", "--json", "finding.posterior.verdict").stdout
    assert {json.loads(line)["finding.posterior.verdict"] for line in rows.splitlines()} <= {"worse"}
    assert swarm("findings", "LEARNING_RATE", "--failure", "slower").stdout == ""
    nothing = swarm("findings", "zebra", "--axis", "none-such")
    assert nothing.exit_code == 0 and nothing.stdout == "" and "No finding matches" in nothing.stderr


def test_lists_are_narrowed_and_sorted(swarm: Swarm) -> None:
    def ask(*arguments: object) -> list[dict[str, object]]:
        done = swarm(*arguments)
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    metric = "posterior.metric_mean"
    best = [row[metric] for row in ask("experiments", "tiny", "--sort", "best", "--limit", 5, "--json", metric)]
    assert len(best) == 5 and best == sorted(best, key=float)  # type: ignore[arg-type]
    worse = ask("experiments", "tiny", "--verdict", "worse", "--worker", "ada/w1", "--json", "posterior.verdict,worker")
    assert worse and all(row == {"posterior.verdict": "worse", "worker": "ada/w1"} for row in worse)
    assert ask("experiments", "tiny", "--until", "2020-01-01", "--json", "id") == []
    assert {row["outcome"] for row in ask("runs", "--failed", "--json", "outcome")} == {"crashed"}
    assert {row["experiment_id"] for row in ask("runs", "--experiment", 3, "--json", "experiment_id")} == {3}
    counts = [
        row["experiments"] for row in ask("topics", "--sort", "experiments", "--ascending", "--json", "experiments")
    ]
    assert counts == sorted(counts, key=int) and len(counts) > 2  # type: ignore[call-overload]
    assert ask("topics", "--volunteer", "nobody", "--verdict", "worse", "--json", "axis") == []
    assert swarm("findings", "lr", "--sort", "best").exit_code == 1
    assert swarm("experiments", "tiny", "--effect-above", "nan").exit_code == 1


def test_a_project_is_named_once(swarm: Swarm) -> None:
    named = swarm("experiments", "--project", "tiny", "--json", "id").stdout
    assert named == swarm("experiments", "tiny", "-p", "tiny", "--json", "id").stdout != ""
    assert "give one project" in swarm("runs", "tiny", "--project", "other").output


def test_an_address_needs_no_scheme_and_a_misspelt_setting_is_an_error(
    swarm: Swarm, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given in (url.removeprefix("http://"), f"{url}/"):
        assert swarm("projects", "--coordinator", given, "--json", "name").stdout == '{"name": "tiny"}\n'
    done = swarm("projects", "--coordinator", "ftp://swarm.test")
    assert done.exit_code == 1 and "'ftp://swarm.test' is none: give an address" in done.stderr
    monkeypatch.setenv("SWARM_COORDINATOR_ULR", url)
    assert "is no setting; did you mean SWARM_COORDINATOR_URL?" in swarm("projects").stderr


def test_a_mistyped_file_is_an_error_in_our_words(swarm: Swarm, tmp_path: Path) -> None:
    for name in ("idea.ptach/idea.patch", "./idea.pacth", str(tmp_path / "idea"), "idea.DIFF", "~/idea", "my.idea.txt"):
        done = swarm("tried", name)
        assert done.exit_code == 1 and f"the file {name} is not there" in done.stderr, name
    done = swarm("tried", tmp_path)
    assert done.exit_code == 1 and "is a folder" in done.stderr
    assert "at least 1 characters" in swarm("tried", "").stderr
    for sentence in (
        "weight_decay",
        "lr/2",
        "matrix_lr 0.015->0.01",
        "WEIGHT_DECAY=0.1",
        "0.5",
        "batch 2/3 in train.py",
    ):
        assert swarm("tried", sentence, "--json", "kind").stdout == '{"kind": "sentence"}\n', sentence
    empty = swarm("tried", "")
    assert empty.exit_code == 1 and empty.stderr.startswith("swarm: ") and "pydantic" not in empty.output


def test_a_field_that_is_not_there_names_the_nested_ones(swarm: Swarm) -> None:
    done = swarm("experiments", "tiny", "--json", "id,posterior.efect_mean")
    assert done.exit_code == 1 and not done.stdout and "Did you mean posterior.effect_mean?" in done.stderr
    assert "posterior.metric_sd" in done.stderr
    nothing = swarm("experiments", "tiny", "--axis", "NONE_SUCH", "--json", "nope")
    assert nothing.exit_code == 1 and "Known fields: " in nothing.stderr, "also where there is no row"
    (row,) = swarm("show", 3, "--json", "posterior,runs").stdout.splitlines()
    assert json.loads(row)["posterior"]["runs"] >= 1 and json.loads(row)["runs"]
    (of_each,) = swarm("show", 3, "--json", "runs.id,runs.seconds.training").stdout.splitlines()
    assert json.loads(of_each)["runs.id"] == [run["id"] for run in json.loads(row)["runs"]]
    assert json.loads(of_each)["runs.seconds.training"] == [
        run["seconds"]["training"] for run in json.loads(row)["runs"]
    ]
    assert [swarm("show", 3, "--json", wrong).exit_code for wrong in ("runs.metrc", "sha.length")] == [1, 1]


def test_a_pair_has_one_effect(swarm: Swarm) -> None:
    (shown,) = swarm("show", 1, "--json", "parent_sha,sha,posterior.effect_mean").stdout.splitlines()
    one = json.loads(shown)
    (compared,) = swarm("compare", one["parent_sha"], 1, "--json", "classes").stdout.splitlines()
    assert json.loads(compared)["classes"][0]["difference_mean"] == one["posterior.effect_mean"]


def test_a_question_may_be_a_file_or_come_through_a_pipe(swarm: Swarm, tmp_path: Path) -> None:
    patch = swarm("diff", 1, 3).stdout
    (tmp_path / "idea.patch").write_text(patch)
    from_file = swarm("tried", tmp_path / "idea.patch", "--json", "kind").stdout
    piped = swarm("tried", "-", "--json", "kind", input=patch).stdout
    assert from_file == piped == '{"kind": "diff"}\n'
    assert swarm("tried", "larger steps", "--json", "kind").stdout == '{"kind": "sentence"}\n'


def test_a_diff_at_a_terminal_shows_what_nobody_would_see(url: str) -> None:
    """Code is kept as it is: sequences that move a cursor or write the clipboard, and overrides of direction."""
    with Client(url) as client:
        hostile = client.compare("1", "3").model_copy(update={"diff": "+a = 1  # \x1b]52;c;eA==\x07\u202e\rb\n"})
    screen = io.StringIO()
    show_comparison(hostile, Console(file=screen, force_terminal=True, width=120), Console(file=io.StringIO()))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert "+a = 1  # <U+001B>]52;c;eA==<U+0007><U+202E><U+000D>b" in shown and "\x1b" not in shown


def test_a_diff_can_be_applied(swarm: Swarm, tmp_path: Path) -> None:
    assert swarm("checkout", 1, tmp_path / "one").exit_code == 0
    assert swarm("checkout", 3, tmp_path / "three").exit_code == 0
    git = Git.init(tmp_path / "one")
    git("apply", "-", stdin=swarm("diff", 1, 3).stdout.encode())
    for file in (tmp_path / "three").iterdir():
        assert (tmp_path / "one" / file.name).read_text() == file.read_text()
    again = swarm("checkout", 1, tmp_path / "three")
    assert again.exit_code == 1 and "not an empty folder" in again.stderr


def test_a_finding_is_cited(swarm: Swarm) -> None:
    assert swarm("show", 3, "--bibtex").stdout.startswith("@misc{swarm-tiny-3,")


def test_an_export_is_whole_and_needs_no_server(swarm: Swarm, tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    done = swarm("export", folder)
    assert done.exit_code == 0 and done.stdout.strip() == str(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest) | {"manifest.json"} == {file.name for file in folder.iterdir()}
    assert all((folder / name).stat().st_size == row["bytes"] for name, row in manifest.items())
    rows = list(csv.DictReader(io.StringIO((folder / "experiments.csv").read_text(), newline="")))
    assert len(rows) == len((folder / "experiments.jsonl").read_text().splitlines()) == EXPERIMENTS
    assert parquet.read_metadata(folder / "experiments.parquet").num_rows == EXPERIMENTS
    assert (folder / "results.tsv").read_text().startswith("commit\tval_bpb")
    run_git("clone", "--quiet", str(folder / "history.bundle"), str(tmp_path / "clone"))
    assert (
        run_git("-C", str(tmp_path / "clone"), "show", f"{rows[2]['sha']}:swarm.toml")
        == (folder / "swarm.toml").read_text()
    )
    again = swarm("export", folder)
    assert again.exit_code == 1 and "exists already" in again.stderr
    few = swarm("export", tmp_path / "few", "--format", "jsonl")
    assert few.exit_code == 0 and not list((tmp_path / "few").glob("*.csv"))


def test_mistakes_are_one_clear_line(swarm: Swarm) -> None:
    for arguments, words in (
        (["experiments", "nope"], "There is no project 'nope'"),
        (["show", "999"], "There is no experiment 999"),
        (["lineage", "ffffffff"], "no commit ffffffff"),
        (["export", "/proc/nowhere"], "cannot write"),
        (["records", "--coordinator", "http://127.0.0.1:9"], "reached: Connection refused. Is"),
    ):
        done = swarm(*arguments)
        assert done.exit_code == 1 and words in done.stderr and done.stderr.count("\n") == 1, done.output


def test_help_teaches_each_command() -> None:
    whole = CliRunner().invoke(app, ["--help"]).output
    for name in ("records", "findings", "tried", "show", "lineage", "diff", "checkout", "reproduce", "export", "mcp"):
        assert f" {name} " in whole
        text = CliRunner().invoke(app, [name, "--help"]).output
        assert f"swarm {name}" in text.partition("Example")[2] or name == "mcp", name


def test_a_token_is_read_from_its_file(url: str, tmp_path: Path) -> None:
    missing = {"SWARM_TOKEN_FILE": str(tmp_path / "none"), "SWARM_COORDINATOR_URL": url}
    done = CliRunner().invoke(app, ["records"], env=missing)
    assert done.exit_code == 1 and "SWARM_TOKEN_FILE" in done.stderr
