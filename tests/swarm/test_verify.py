"""`swarm verify` as somebody meets it who removes, changes or forges results."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet

from coordinator.app import create_app
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from shared import checkpoints
from shared.export import BUNDLE_FILE, CHECKPOINT_FILE, HISTORY_FILE, MANIFEST_FILE
from swarm.listing import CommandError
from swarm.verify import verify_folder
from tests.support.databases import SqliteFolder
from tests.support.history import publish, seal, write_export
from tests.support.seeds import write_seed
from tests.support.swarm_data import write_history
from tests.swarm.conftest import Swarm

SECRET = bytes(range(32))
ORIGIN = f"swarm/tiny/{checkpoints.fingerprint(checkpoints.public_of(SECRET))}"
KEY = checkpoints.format_key(ORIGIN, checkpoints.public_of(SECRET))

Lines = list[str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sqlite_folder: SqliteFolder) -> Path:
    """An export whose log a key of the test signs."""
    folder = tmp_path_factory.mktemp("verify")
    application = create_app(CoordinatorSettings(database_url=sqlite_folder.create_migrated(folder)))
    database = application.state.database
    with database.write() as session:
        write_history(session, create_project(session, write_seed(folder / "seed"))[0], 12)
    export = write_export(database, "tiny", folder / "export")
    database.close()
    return publish(export, [f'{{"log":{{"key":"{KEY}"}}}}', *read(export)[1:]], SECRET, ORIGIN)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "export"))


def read(folder: Path, name: str = HISTORY_FILE) -> Lines:
    return (folder / name).read_text().splitlines()


def write(folder: Path, name: str, lines: Lines) -> None:
    (folder / name).write_text("".join(f"{line}\n" for line in lines))


def edit(folder: Path, name: str, change: Callable[[Lines], Lines]) -> None:
    write(folder, name, change(read(folder, name)))


def better(line: str) -> str:
    row = json.loads(line)
    fields = row.get("result", row)
    return json.dumps(row | fields | {"metric": 0.5} if "result" not in row else {"result": fields | {"metric": 0.5}})


def test_a_whole_export_is_verified_by_the_command(swarm: Swarm, whole: Path) -> None:
    done = swarm("verify", whole, "--since", whole / CHECKPOINT_FILE, "--key", KEY)
    assert done.exit_code == 0 and "Verified" in done.output, done.output
    unpinned = swarm("verify", whole)
    assert unpinned.exit_code == 0 and "the key is the log's own word" in unpinned.output


def test_what_a_server_exports_is_verified(swarm: Swarm, tmp_path: Path) -> None:
    assert swarm("export", tmp_path / "dump", "--format", "jsonl").exit_code == 0
    assert verify_folder(tmp_path / "dump", None, None).problems == []


def rotate(new: bytes, old: bytes) -> str:
    key = checkpoints.format_key(ORIGIN, checkpoints.public_of(new))
    return json.dumps({"key": {"key": key, "signed": checkpoints.endorse(key, old)}}, separators=(",", ":"))


def exchange(text: str, one: str, other: str) -> str:
    return text.replace(one, "x" * 40).replace(other, one).replace("x" * 40, other)


ATTACKS: dict[str, tuple[str, Callable[[Lines], Lines], str]] = {
    "a run is removed": ("runs.jsonl", lambda rows: [*rows[:3], *rows[4:]], "is in the log and not in runs.jsonl"),
    "a metric is changed": ("runs.jsonl", lambda rows: [better(rows[0]), *rows[1:]], "metric is 0.5, it was 3.301"),
    "a run is made up": (
        "runs.jsonl", lambda rows: [*rows[:2], rows[2].replace('"id":3,', '"id":0,'), *rows[2:]], "run 0"
    ),
    "two runs are exchanged": ("runs.jsonl", lambda rows: [rows[1], rows[0], *rows[2:]], "rows were moved"),
    "a finding has other words": (
        "findings.jsonl", lambda rows: [rows[0].replace("One run", "Two runs"), *rows[1:]], "other words than were"
    ),
    "a paper is removed": ("findings.jsonl", lambda rows: rows[1:], "finding 1 is in the log and not in"),
    "a paper has a version that nobody entered": (
        "findings.jsonl", lambda rows: [rows[0].replace('"version":1', '"version":"1"'), *rows[1:]],
        'finding 1 has version 1, the log'
    ),
    "a paper is made up": (
        "findings.jsonl", lambda rows: [*rows, rows[0].replace('"id":1,', '"id":0,')], "of finding 0 was never entered"
    ),
    "a paper is that of another experiment": (
        "findings.jsonl", lambda rows: [rows[0].replace('"experiment_id":1,', '"experiment_id":2,'), *rows[1:]],
        "other words than were"
    ),
    "a field of a finding has another name": (
        "findings.jsonl", lambda rows: [rows[0].replace('"stored":', '"stoned":'), *rows[1:]], "other words than were"
    ),
    "a run is removed from the table": (
        "runs.csv", lambda rows: [*rows[:3], *rows[4:]], "is in the log and not in runs.csv"
    ),
    "a metric is changed in the table": (
        "runs.csv", lambda rows: [rows[0], rows[1].replace("3.301", "0.5"), *rows[2:]], "metric is 0.5, it was 3.301"
    ),
    "a finding has other words in the table": (
        "findings.csv", lambda rows: [row.replace("One run", "Two runs") for row in rows], "other words than were"
    ),
    "an experiment is removed": (
        "experiments.jsonl", lambda rows: rows[1:], "experiment 1 is in the log and not in experiments.jsonl"
    ),
    "an experiment is given to another worker": (
        "experiments.jsonl", lambda rows: [json.dumps(json.loads(rows[0]) | {"worker": "mine"}), *rows[1:]],
        "experiment 1 in experiments.jsonl is not the commit, or not of the worker"
    ),
    "two experiments have each other's commits": (
        "experiments.csv", lambda rows: [exchange(row, *(line.split(",")[3] for line in rows[1:3])) for row in rows],
        "experiment 2 in experiments.csv is not the commit"
    ),
    "an entry is removed": (HISTORY_FILE, lambda lines: [*lines[:5], *lines[6:]], "the checkpoint signs"),
    "an entry is changed": (HISTORY_FILE, lambda lines: [lines[0], better(lines[1]), *lines[2:]], "was changed, moved"),
    "two entries are exchanged": (
        HISTORY_FILE, lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "was changed, moved or exchanged"
    ),
    "the log is cut": (HISTORY_FILE, lambda lines: lines[:-2], "the checkpoint signs"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_attack_is_found_and_named(folder: Path, attack: str) -> None:
    name, change, words = ATTACKS[attack]
    edit(folder, name, change)
    assert any("its checksum is another" in problem for problem in verify_folder(folder, None, None).problems)
    seal(folder)
    problems = verify_folder(folder, None, KEY).problems
    assert any(words in problem for problem in problems), problems


def test_rows_of_parquet_are_compared_with_the_log(folder: Path) -> None:
    table = parquet.read_table(folder / "runs.parquet")
    parquet.write_table(table.slice(1), folder / "runs.parquet")
    seal(folder)
    assert verify_folder(folder, None, KEY).problems == ["run 1 is in the log and not in runs.parquet"]


def test_code_of_the_bundle_is_that_of_the_log(folder: Path) -> None:
    bundle = (folder / BUNDLE_FILE).read_bytes()
    tag = re.search(rb"(\w{40}) (refs/tags/experiments/3)\n", bundle)
    assert tag is not None
    (folder / BUNDLE_FILE).write_bytes(bundle.replace(tag[0], bytes(reversed(tag[1])) + b" " + tag[2] + b"\n"))
    assert verify_folder(seal(folder), None, KEY).problems == [
        "the tag of experiment 3 in history.bundle is not the commit that was entered"
    ]
    (folder / BUNDLE_FILE).write_bytes(b"# v2 git bundle\n")
    assert verify_folder(seal(folder), None, KEY).problems == ["history.bundle is no git bundle"]


def test_it_is_said_what_only_the_checksums_of_the_folder_speak_for(folder: Path) -> None:
    (said,) = (note for note in verify_folder(folder, None, KEY).notes if note.startswith("unsigned"))
    assert (
        "citations.jsonl" in said
        and "columns of tables" in said
        and not {"runs.csv", "history.bundle"} & {*said.split(", ")}
    )


def test_a_foreign_folder_sends_nothing_to_the_terminal(swarm: Swarm, folder: Path) -> None:
    (folder / "extra\x1b]0;title\x07\nVerified: all is well").touch()
    said = swarm("verify", folder).stdout
    assert "extra ]0;title" in said and "\x1b" not in said and "\nVerified: all is well" not in said


def test_columns_of_a_newer_coordinator_are_no_fault(folder: Path) -> None:
    edit(folder, "runs.csv", lambda rows: [f"{row},{'new' if row == rows[0] else 1}" for row in rows])
    assert verify_folder(seal(folder), None, KEY).problems == []


def test_a_table_is_enough_in_any_format(folder: Path) -> None:
    for path in (*folder.glob("*.jsonl"), *folder.glob("*.csv")):
        if path.name != HISTORY_FILE:
            path.unlink()
    assert verify_folder(seal(folder), None, KEY).problems == []


def test_who_has_no_key_cannot_sign_what_they_changed(folder: Path, whole: Path) -> None:
    lines, other = read(folder), bytes(32)
    own = checkpoints.format_key(ORIGIN, checkpoints.public_of(other))
    edit(folder, "runs.jsonl", lambda rows: [better(rows[0]), *rows[1:]])
    publish(folder, [lines[0], better(lines[1]), *lines[2:]], other, ORIGIN)
    assert any("no signature of the log's newest key" in one for one in verify_folder(folder, None, None).problems)
    publish(folder, [f'{{"log":{{"key":"{own}"}}}}', better(lines[1]), *lines[2:]], other, ORIGIN)
    pinned = verify_folder(folder, None, KEY).problems
    assert any("never signed by the key that you named" in one for one in pinned)
    assert any("is that of another first key" in one for one in verify_folder(folder, None, None).problems)
    publish(folder, [lines[0], better(lines[1]), *lines[2:], rotate(other, other)], other, ORIGIN)
    assert any("no signature of the key before it" in one for one in verify_folder(folder, None, KEY).problems)
    publish(folder, [f'{{"log":{{"key":"{own}"}}}}', better(lines[1]), *lines[2:]], other, ORIGIN)
    assert any(
        "no signature of a key of this log" in one
        for one in verify_folder(folder, whole / CHECKPOINT_FILE, None).problems
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [lines[0], better(lines[1]), *lines[2:]], "history was rewritten"),  # two logs of one size
        (lambda lines: lines[:-1], "entries were removed"),
        (lambda lines: [*lines[:2], *lines[3:], lines[2], lines[2]], "history was rewritten"),
        (lambda lines: [*lines[:-3], '{"restored":{"at":"now"}}', *lines[-1:]], "says that it was restored"),
    ],
)
def test_a_coordinator_that_rewrites_is_found_by_who_kept_a_checkpoint(
    folder: Path, whole: Path, change: Callable[[Lines], Lines], words: str
) -> None:
    publish(folder, change(read(folder)), SECRET, ORIGIN)
    problems = verify_folder(folder, whole / CHECKPOINT_FILE, None).problems
    assert any(words in problem for problem in problems), problems


def test_a_log_that_went_on_agrees_with_what_was_kept(folder: Path, whole: Path) -> None:
    new = checkpoints.make_key()
    publish(folder, [*read(folder), '{"moderation":{"volunteer":"ada"}}', rotate(new, SECRET)], new, ORIGIN)
    assert verify_folder(folder, whole, KEY).problems == [], "a folder in the place of its checkpoint"


def test_papers_of_who_is_in_quarantine_may_be_hidden_and_newer_ones_are_told(folder: Path) -> None:
    edit(folder, "findings.jsonl", lambda rows: [*rows[1:-1], rows[-1].replace('"version":1', '"version":2')])
    author = json.loads(read(folder, "runs.jsonl")[3])["volunteer"]
    for state, hidden in (("true", True), ("false", False)):
        decision = f'{{"moderation":{{"volunteer":"{author}","worker":null,"in_quarantine":{state}}}}}'
        publish(folder, [*read(folder), decision], SECRET, ORIGIN)
        verdict = verify_folder(folder, None, KEY)
        assert any("finding 1 is in the log" in one for one in verdict.problems) is not hidden, verdict.problems
    assert "not covered 1 versions of findings.jsonl that are newer than the checkpoint" in verdict.notes


def test_a_retraction_that_is_hidden_is_found(folder: Path) -> None:
    note = '{"note":{"finding_id":2,"kind":"retraction"}}'
    publish(folder, [*read(folder), note], SECRET, ORIGIN)
    assert any("finding 2 was retracted" in problem for problem in verify_folder(folder, None, None).problems)
    publish(folder, [*read(folder), note.replace("retraction", "restoration")], SECRET, ORIGIN)
    assert verify_folder(folder, None, None).problems == []


def test_who_holds_the_key_cannot_enter_what_stands_there_anew(folder: Path) -> None:
    lines = read(folder)
    edit(folder, "runs.jsonl", lambda rows: [better(rows[0]), *rows[1:]])
    publish(folder, [*lines, better(lines[1])], SECRET, ORIGIN)
    assert any("was entered again" in one for one in verify_folder(folder, None, KEY).problems)


@pytest.mark.parametrize(
    ("name", "content"),
    [(HISTORY_FILE, "a\n"), (HISTORY_FILE, '{"result":{}}\n'), (CHECKPOINT_FILE, "x"), ("runs.jsonl", "[]\n"),
     (HISTORY_FILE, '{"log":{"key":5}}\n'), (MANIFEST_FILE, "["), (MANIFEST_FILE, '{"a":1}'),
     ("runs.jsonl", '{"id":1,"worker":"\\ud800"}\n'), ("runs.csv", "id\nx\n"), ("runs.parquet", "x")],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_a_sentence(swarm: Swarm, folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(CommandError):
        verify_folder(folder, None, None)
    done = swarm("verify", folder)
    assert done.exit_code == 1 and done.stderr.startswith("swarm: ") and "Traceback" not in done.output
