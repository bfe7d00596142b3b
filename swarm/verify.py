"""`swarm verify`: checks an export or a snapshot offline, against the signed log of its history.

It proves that the rows are those that were entered when they came, and that nothing between was removed or rewritten,
as far as the log goes back to a checkpoint that the reader kept. It does not prove that a result was true.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import ValidationError

from shared import checkpoints
from shared.checkpoints import Checkpoint, CheckpointError
from shared.claims import WORDS, fits
from shared.export import (
    BUNDLE_FILE,
    CHECKPOINT_FILE,
    HISTORY_FILE,
    MANIFEST_FILE,
    SIGNED_SUMS_FILE,
    SNAPSHOT_FILE,
    SUMS_FILE,
    ExportedExperiment,
    ExportedFinding,
    ExportedRun,
    ExportFormat,
    ExportTable,
)
from shared.findings import NoteKind
from shared.history import LeafKind, ResultLeaf, hash_text, hash_words, read_leaf, write_canonical
from shared.merkle import GrowingTree
from shared.protocol import Message
from swarm.listing import CommandError

MAX_CELL = 2**27
"""Characters of a cell of CSV."""

NO_PAPER = 0, "", 0
MAX_NAMED = 20
"""Rows that are named one by one; of further ones the number is told."""


@dataclass
class Verification:
    """The findings: sentences about what is wrong, and about what holds."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Log:
    """The contents of a log: its keys by place, digests of runs, papers (version, digest, experiment), and which of
    them are retracted. `origins` are account, worker and commit of each experiment; `quarantined` are accounts with a
    worker, or whole ones.
    """

    tree: GrowingTree = field(default_factory=GrowingTree)
    keys: list[str] = field(default_factory=list)
    runs: dict[int, str] = field(default_factory=dict)
    papers: dict[int, tuple[int, str, int]] = field(default_factory=dict)
    retracted: set[int] = field(default_factory=set)
    origins: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    quarantined: set[tuple[str, str | None]] = field(default_factory=set)
    restored: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    root_before: bytes | None = None


def verify_folder(folder: Path, since: Path | None, key: str | None) -> Verification:
    """Check an export or a snapshot. Raises CommandError where it holds nothing that can be checked."""
    verdict = Verification()
    try:
        note = (folder / CHECKPOINT_FILE).read_text(encoding="utf-8")
        since = since / CHECKPOINT_FILE if since and since.is_dir() else since
        old_note = since.read_text(encoding="utf-8") if since else None
        verdict.problems += _check_sums(folder)
        head = _parse(note, CHECKPOINT_FILE)
        old = _parse(old_note, str(since)) if old_note is not None else None
        log = _read_log(folder / HISTORY_FILE, old.size if old else None)
        verdict.problems += [*_check_head(log, head, note, key), *log.wrong, *_check_signed_sums(folder, log, head)]
        if old is not None and old_note is not None:
            verdict.problems += _check_since(log, head, old, old_note)
        verdict.problems += _check_tables(folder, log, verdict.notes)
    except (OSError, ValueError) as error:
        raise CommandError(f"{folder} cannot be verified: {error}. It must hold {CHECKPOINT_FILE}.") from error
    verdict.notes.append(f"log        {head.origin}, {log.tree.size} entries, {len(log.runs)} results")
    verdict.notes += [f"key        {one}" for one in log.keys]
    if key is None and since is None:
        verdict.notes.append(
            "trust      the key is the log's own word: compare it (--key), or an old checkpoint (--since)"
        )
    if not (folder / SUMS_FILE).exists():
        compared = {*CHECKS, MANIFEST_FILE, HISTORY_FILE, CHECKPOINT_FILE, BUNDLE_FILE}
        rest = sorted(path.name for path in folder.iterdir() if compared.isdisjoint({path.name, path.stem}))
        verdict.notes.append(f"unsigned   {', '.join([*rest, 'and columns of tables that no entry of the log has'])}")
    verdict.notes += [
        f"restored   from a backup at entry {number}: what followed before is lost" for number in log.restored
    ]
    return verdict


def _parse(note: str, name: str) -> Checkpoint:
    try:
        return checkpoints.parse(note)
    except CheckpointError as error:
        raise CommandError(f"{name}: {error}.") from error


def _check_sums(folder: Path) -> Iterator[str]:
    """Every file has the checksum that the folder states."""
    if (folder / SUMS_FILE).exists():
        lines = (folder / SUMS_FILE).read_text(encoding="utf-8").splitlines()
        sums = {name or line: digest for line in lines for digest, _, name in [line.partition("  ")]}
    else:
        try:
            manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
            sums = {name: entry["sha256"] for name, entry in manifest.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CommandError(f"{folder / MANIFEST_FILE} is no list of checksums.") from error
    for name, digest in sums.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
            continue
        with path.open("rb") as file:
            if file_digest(file, "sha256").hexdigest() != digest:
                yield f"{name} is not the file that was published: its checksum is another"


def _read_log(file: Path, old_size: int | None) -> _Log:
    log = _Log()
    if old_size == 0:
        log.root_before = log.tree.root()
    with file.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            leaf = line.removesuffix("\n")
            try:
                _take(log, *read_leaf(leaf))
            except (ValueError, KeyError, TypeError) as error:
                raise CommandError(f"{file.name}, line {log.tree.size + 1}: it is no leaf of a history.") from error
            log.tree.append(leaf.encode())
            if log.tree.size == old_size:
                log.root_before = log.tree.root()
    return log


def _take(log: _Log, kind: LeafKind, content: dict[str, Any]) -> None:
    if kind is LeafKind.LOG and not log.tree.size:
        log.keys.append(str(content["key"]))
    elif kind is LeafKind.LOG:
        log.wrong.append(f"entry {log.tree.size} begins a log, in the midst of one")
    elif kind is LeafKind.KEY:
        if not log.keys or not checkpoints.is_endorsed(str(content["key"]), content["signed"], log.keys[-1]):
            log.wrong.append(f"the key of entry {log.tree.size} has no signature of the key before it")
        log.keys.append(str(content["key"]))
    elif kind is LeafKind.RESULT:
        if content["id"] in log.runs:
            log.wrong.append(f"run {content['id']} was entered again, at entry {log.tree.size}: what it was counts")
            return
        log.runs[content["id"]] = hash_text(write_canonical(content))
        if content.get("experiment_id"):
            origin = content["volunteer"], content["worker"], content["commit_sha"]
            log.origins.setdefault(content["experiment_id"], origin)
    elif kind is LeafKind.PAPER:
        number, version = content["finding_id"], content["version"]
        if version <= log.papers.get(number, NO_PAPER)[0]:
            log.wrong.append(f"version {version} of finding {number} was entered again, at entry {log.tree.size}")
            return
        log.papers[number] = (version, content["words_sha256"], content["experiment_id"])
    elif kind is LeafKind.NOTE and content["kind"] == NoteKind.RETRACTION:
        log.retracted.add(content["finding_id"])
    elif kind is LeafKind.NOTE and content["kind"] == NoteKind.RESTORATION:
        log.retracted.discard(content["finding_id"])
    elif kind is LeafKind.MODERATION and "in_quarantine" in content:
        change = log.quarantined.add if content["in_quarantine"] else log.quarantined.discard
        change((content["volunteer"], content["worker"]))
    elif kind is LeafKind.RESTORED:
        log.restored.append(log.tree.size)


def _check_head(log: _Log, head: Checkpoint, note: str, key: str | None) -> Iterator[str]:
    if (log.tree.size, log.tree.root()) != (head.size, head.root):
        yield (
            f"the log has {log.tree.size} entries, the checkpoint signs {head.size}"
            if log.tree.size != head.size
            else "the log is not the one that was signed: an entry was changed, moved or exchanged"
        )
    if not log.keys:
        yield "the log does not begin with its key"
    elif not head.origin.endswith(f"/{checkpoints.fingerprint(checkpoints.parse_key(log.keys[0])[1])}"):
        yield f"the log's name {head.origin} is that of another first key"
    if log.keys and not _is_signed(note, head.origin, log.keys[-1:]):
        yield "the checkpoint has no signature of the log's newest key"
    if key is not None and key.strip() not in log.keys:
        yield f"the log was never signed by the key that you named; its keys are {', '.join(log.keys)}"


def _is_signed(note: str, origin: str, keys: list[str]) -> bool:
    """Whether one of the keys, which are those of the log `origin`, signed a note."""
    for key in keys:
        try:
            of, public = checkpoints.parse_key(key)
        except CheckpointError:
            continue
        if of == origin and checkpoints.is_signed_by(note, public):
            return True
    return False


def _check_since(log: _Log, head: Checkpoint, old: Checkpoint, old_note: str) -> Iterator[str]:
    """The log begins with that of an older checkpoint."""
    before = ", which says that it was restored from a backup" if log.restored else ""
    if old.origin != head.origin:
        yield f"the older checkpoint is of another log, {old.origin}"
    elif not _is_signed(old_note, head.origin, log.keys):
        yield "the older checkpoint has no signature of a key of this log"
    elif old.size > head.size:
        yield f"the older checkpoint has {old.size} entries, the log{before} only {head.size}: entries were removed"
    elif log.root_before != old.root:
        what = f"the first {old.size} entries are not those of the older checkpoint"
        yield f"history was rewritten: {what}, in this log{before}"


def _check_signed_sums(folder: Path, log: _Log, head: Checkpoint) -> Iterator[str]:
    """The checksums of a snapshot are those that its coordinator signed, by the log's newest key: whoever stole one
    that was replaced signs no snapshot."""
    if not (folder / SUMS_FILE).exists() and not (folder / SNAPSHOT_FILE).exists():
        return
    note = (folder / SIGNED_SUMS_FILE).read_text(encoding="utf-8")
    signed, sums = _parse(note, SIGNED_SUMS_FILE), (folder / SUMS_FILE).read_bytes()
    if signed != checkpoints.head_of_sums(head.origin, sums) or not _is_signed(note, head.origin, log.keys[-1:]):
        yield f"{SIGNED_SUMS_FILE} is no signature of {SUMS_FILE} by the log's newest key"


def _list_files(folder: Path, table: ExportTable) -> list[Path]:
    """The files of a table, one for each format that was exported."""
    names = [f"{table}.{format_}" for format_ in ExportFormat]
    return [folder / name for name in names if (folder / name).exists()]


def _read_rows(file: Path, model: type[Message]) -> Iterator[dict[str, Any]]:
    read = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}[file.suffix]
    for number, row in enumerate(read(file), 1):
        try:
            plain = row if file.suffix == ".jsonl" else _restore_types(row, model)
        except ValidationError:
            plain = {}
        if not isinstance(plain, dict) or not isinstance(plain.get("id"), int):
            raise CommandError(f"{file.name}, row {number}: it is no row of an export.")
        yield plain


def _read_jsonl(file: Path) -> Iterator[Any]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                yield None


def _read_csv(file: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(MAX_CELL)
    with file.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def _read_parquet(file: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import ArrowException, parquet  # noqa: PLC0415  who has no such file needs no Arrow: 50 MB

    try:
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches():
                yield from batch.to_pylist()
    except ArrowException as error:
        raise CommandError(f"{file.name} is no Parquet file.") from error


def _restore_types(row: dict[str, Any], model: type[Message]) -> dict[str, Any]:
    """A row of text, or of Arrow's values, as its line of JSON would be: an empty cell of what may be missing is.
    Columns of a newer coordinator are left out."""
    optional = {name for name, known in model.model_fields.items() if NoneType in get_args(known.annotation)}
    given = {name: None if value == "" and name in optional else value for name, value in row.items()}
    return model.model_validate(given, strict=False, extra="ignore").model_dump(mode="json")


def _check_tables(folder: Path, log: _Log, notes: list[str]) -> Iterator[str]:
    """The tables of runs, papers and experiments, in each of their formats, and the tags of the bundle."""
    checks = {table: check for table, check in CHECKS.items() if _list_files(folder, table)}
    if ExportTable.RUNS not in checks:
        yield "runs.jsonl is missing, so results cannot be compared with the log: export the runs"
    if ExportTable.FINDINGS not in checks:
        yield "findings.jsonl is missing, so papers cannot be compared with the log"
    for table, check in checks.items():
        for file in _list_files(folder, table):
            try:
                yield from check(file, log, notes)
            except ModuleNotFoundError:
                notes.append(f"not covered {file.name}: it is read with pyarrow, which is not installed")
    if (folder / BUNDLE_FILE).exists():
        yield from _check_bundle(folder / BUNDLE_FILE, log)


def _check_runs(file: Path, log: _Log, notes: list[str]) -> list[str]:
    """Each run has its entry and each entry its run; where the tables were read beside new results, up to those."""
    folder = file.parent
    is_frozen = (folder / SUMS_FILE).exists()
    problems, last, newest, beyond = [], 0, max(log.runs, default=0), 0
    left = dict(log.runs)
    for row in _read_rows(file, ExportedRun):
        number = row["id"]
        said = left.pop(number, None)
        if number <= last:
            problems.append(f"run {number} stands in {file.name} after run {last}: rows were moved or repeated")
        elif said is None and number > newest and not is_frozen:
            beyond += 1
        elif said is None:
            problems.append(f"run {number} was never entered in the log")
        elif said != hash_text(write_canonical({name: row.get(name) for name in ResultLeaf.model_fields})):
            problems.append(f"run {number} is not what was entered: {_name_changes(folder, row)}")
        last = max(last, number)
    problems += [f"run {number} is in the log and not in {file.name}" for number in left if is_frozen or number <= last]
    if beyond:
        notes.append(f"not covered {beyond} runs of {file.name} that are newer than the checkpoint")
    rest = len(problems) - MAX_NAMED
    return problems if rest <= 0 else [*problems[:MAX_NAMED], f"... and {rest} further runs"]


def _name_changes(folder: Path, row: dict[str, Any]) -> str:
    """The fields in which a row differs from its entry."""
    with (folder / HISTORY_FILE).open(encoding="utf-8") as lines:
        for line in lines:
            kind, content = read_leaf(line)
            if kind is LeafKind.RESULT and content["id"] == row["id"]:
                return ", ".join(
                    f"{name} is {row.get(name)!r}, it was {was!r}"
                    for name, was in content.items()
                    if row.get(name) != was
                )
    return "its entry is gone"


def _has_words(row: dict[str, Any], words_sha256: str) -> bool:
    """Whether a finding's words are those of the hash, with results in the place of placeholders."""
    try:
        stored = json.loads(row["stored"])
        shown = {**row, "tags": json.loads(row["tags"])}
        return hash_words(stored) == words_sha256 and all(
            fits(text, shown[name]) if name in WORDS else text == shown[name] for name, text in stored.items()
        )
    except (KeyError, TypeError, ValueError):  # a name of a field was changed, or what stands in it is no JSON
        return False


def _check_findings(file: Path, log: _Log, notes: list[str]) -> Iterator[str]:
    """Each paper has the words that were entered, and each entry its paper, unless a quarantine hides it."""
    is_frozen = (file.parent / SUMS_FILE).exists()
    newest, beyond, left = max(log.papers, default=0), 0, dict(log.papers)
    for row in _read_rows(file, ExportedFinding):
        number, version = row["id"], row.get("version")
        left.pop(number, None)
        known, words, experiment_id = log.papers.get(number, NO_PAPER)
        if known == version and known:
            if row.get("experiment_id") != experiment_id or not _has_words(row, words):
                yield f"finding {number} has other words than were entered"
        elif known > version if isinstance(version, int) else True:
            yield f"finding {number} has version {version}, the log has version {known}"
        elif is_frozen or (not known and number < newest):
            yield f"version {version} of finding {number} was never entered in the log"
        else:
            beyond += 1
        if number in log.retracted and row.get("state") == "published":
            yield f"finding {number} was retracted, and {file.name} has it as published"
    for number, (_, _, experiment_id) in left.items():
        account, worker, _ = log.origins.get(experiment_id, ("", "", ""))
        if log.quarantined.isdisjoint({(account, worker), (account, None)}):
            yield f"finding {number} is in the log and not in {file.name}, and its author is not in quarantine"
    if beyond:
        notes.append(f"not covered {beyond} versions of {file.name} that are newer than the checkpoint")


def _check_experiments(file: Path, log: _Log, _: list[str]) -> Iterator[str]:
    """Each experiment has the commit of its first result, and is of whoever sent that."""
    left = dict(log.origins)
    last = 0
    for row in _read_rows(file, ExportedExperiment):
        last = row["id"]
        is_known, origin = last in log.origins, (row.get("volunteer"), row.get("worker"), row.get("sha"))
        if left.pop(last, origin) != origin:
            yield f"experiment {last} in {file.name} is not the commit, or not of the worker, that was entered"
        elif not is_known and (file.parent / SUMS_FILE).exists():
            yield f"experiment {last} has no result in the log"
    yield from (f"experiment {number} is in the log and not in {file.name}" for number in left if number <= last)


def _check_bundle(file: Path, log: _Log) -> Iterator[str]:
    """The tag of each experiment is the commit that was entered. A commit's hash is that of its code, lineage and
    author, and git checks it when the bundle is cloned."""
    with file.open("rb") as lines:
        for line in iter(lines.readline, b"\n"):
            sha, _, name = line.decode("utf-8", "replace").strip().partition(" refs/tags/experiments/")
            if not line:
                yield f"{file.name} is no git bundle"
                return
            if name.isdecimal() and int(name) in log.origins and log.origins[int(name)][2] != sha:
                yield f"the tag of experiment {name} in {file.name} is not the commit that was entered"


CHECKS: dict[ExportTable, Callable[[Path, _Log, list[str]], Iterable[str]]] = {
    ExportTable.RUNS: _check_runs, ExportTable.FINDINGS: _check_findings, ExportTable.EXPERIMENTS: _check_experiments
}  # fmt: skip
"""The tables whose rows are compared with the log."""
