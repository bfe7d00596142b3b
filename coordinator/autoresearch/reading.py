"""Reads a session from disk: its results, the commits that its repository still has, and a contract made from them."""

import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from coordinator.autoresearch.columns import HASH, clean_metric
from coordinator.autoresearch.contract_text import MAX_FILE_BYTES, estimate_priors, write_contract
from coordinator.autoresearch.directions import FoundDirection, find_direction
from coordinator.autoresearch.git_repository import (
    NOT_HERE,
    WRITTEN,
    ForeignRepository,
    RepositoryInvalidError,
    open_repository,
)
from coordinator.autoresearch.plan import ImportPlan, make_plan
from coordinator.autoresearch.results_file import (
    NEWEST_FIRST,
    ODD,
    ReadingOptions,
    ResultRow,
    ResultsFile,
    keep_gains,
    parse_results,
    read_odd_as_crashes,
)
from coordinator.autoresearch.tables import ResultsInvalidError
from shared.commits import CommitWords
from shared.contract import CONTRACT_FILE, Contract, ContractError, Direction, parse_contract
from shared.formatting import count_noun
from shared.protocol import Slug
from shared.runs import DeviceKind, Hardware, HardwareView
from shared.seeds import CHANNEL_FILE

RESULTS_FILE = "results.tsv"
HARNESS = "swarm_harness"
SCRIPT = "train.py"
MAX_NAME, MAX_HARDWARE = 63, 120
UNKNOWN = "unknown"

MAX_EDITABLE = 16
MAX_EDITABLE_BYTES = MAX_FILE_BYTES // 2  # of a file; contracts allow twice what the largest has


@dataclass(frozen=True)
class ImportOptions:
    """The session to import, and facts from its author. `budget_seconds` is the total time of a run, and
    `power_cap_watts` 0 where the device has none. A name that is None is made of repository and branch; direction and
    script are then found in the session."""

    repository: Path
    branch: str
    results: Path | None
    hardware: str
    name: str | None = None
    direction: Direction | None = None
    script: str | None = None
    budget_seconds: float = 600.0
    memory_gib: int | None = None
    power_cap_watts: int | None = None
    torch_version: str = ""
    precision: str = UNKNOWN
    reading: ReadingOptions = field(default_factory=ReadingOptions)


class Code(NamedTuple):
    """A commit of the repository: the editable files, and its author, time and message."""

    files: dict[str, str]
    words: CommitWords


class Material(NamedTuple):
    """Everything that is written to the database. `codes` are the commits with code, by key; `root_files` are all files
    of the first; `account` says in sentences how the session was read."""

    contract: Contract
    contract_text: str
    results: ResultsFile
    plan: ImportPlan
    codes: dict[str, Code]
    root_files: dict[str, str]
    hardware: Hardware
    source: str
    branch: str
    account: list[str]


def choose_name(options: ImportOptions) -> str:
    """The project's name: the one given, or one made of repository and branch."""
    if options.name is not None:
        return options.name
    repository = options.repository.resolve().name.removesuffix(".git")
    slug = re.sub(r"[^a-z0-9]+", "-", f"{repository}-{options.branch}".lower()).strip("-")
    return slug[:MAX_NAME].rstrip("-") or "imported"


def read_material(options: ImportOptions, known: Contract | None, known_text: str) -> Material:
    """Read a session. `known` is the contract of the project, if a part of the session was imported before.

    Raises RepositoryInvalidError, ResultsInvalidError.
    """
    _check_options(options)
    with open_repository(options.repository, options.branch) as repository:
        reading = replace(options.reading, metric=known.objective.metric if known else "")
        results = parse_results(_read_results(options, repository), reading)
        if known and clean_metric(results.metric) != known.objective.metric:
            raise ResultsInvalidError(
                f"The project measures {known.objective.metric}, and this file {results.metric}. Name the column with "
                "--column metric=NAME, or import it as --name OTHER."
            )
        if not results.rows:
            reasons = "; ".join(f"line {line}: {why}" for line, why in list(results.unreadable.items())[:3])
            raise ResultsInvalidError(f"It has no row that can be read. {reasons}".strip())
        ordered, order = _follow_history(results.rows, repository)
        voting = [row for row in ordered if row.metric or row.is_kept]  # 0 stands for nothing in many logs
        if known is None:
            found = find_direction(results.metric, voting, options.direction, results.direction)
        elif options.direction in (None, known.objective.direction):
            found = FoundDirection(known.objective.direction, "as when the project was imported")
        else:
            raise ResultsInvalidError(
                "--direction is not that of the project. Leave it out, or import it as --name OTHER."
            )
        rows = read_odd_as_crashes(ordered, found.direction)
        rows = rows if results.has_status else keep_gains(rows, found.direction)
        plan = make_plan(rows, repository, found.direction)
        texts, left_out = _read_texts(repository, plan)
        editable = known.files.editable if known else _find_editable(plan, texts, options.script)
        sizes = (len(files.get(path, "").encode()) for files in texts.values() for path in editable)
        priors = estimate_priors(plan, found.direction, results.metric)
        text = known_text or write_contract(
            choose_name(options), f"{options.repository.resolve().name}, branch {options.branch}",
            clean_metric(results.metric), results.unit, found.direction, priors, editable, editable[0], max(sizes),
            options.budget_seconds,
        )  # fmt: skip
        words = {key: repository.read_words(key) for key in texts}
    codes = {key: Code({path: files.get(path, "") for path in editable}, words[key]) for key, files in texts.items()}
    root_files = texts[plan.root] | codes[plan.root].files | {CONTRACT_FILE: text} | read_harness()
    try:
        contract = parse_contract(text)
    except ContractError as error:
        raise ResultsInvalidError(f"No contract can be made of it: {error}") from error
    hardware = describe_hardware(options)
    account = [f"Hardware class: {hardware.hardware_class}.", *_describe_reading(results, plan, found), *order]
    account += [] if known else [priors.why]
    if lost := sum(step.parent is not None and step.key not in codes for step in plan.steps):
        account.append(f"Without code: {count_noun(lost, 'experiment')}. The history does not hold their commits.")
    if left_out:
        account.append(
            f"Left out of the code: {', '.join(f'{path} ({why})' for path, why in sorted(left_out.items()))}."
        )
    account += _describe_unread(results.unreadable)
    return Material(
        contract, text, results, plan, codes, root_files, hardware, options.repository.resolve().name,
        options.branch, account,
    )  # fmt: skip


def _describe_unread(unreadable: Mapping[int, str]) -> Iterator[str]:
    """A sentence for each reason: `Lines 3 and 8 to 11 are not read: why.`"""
    by_reason: dict[str, list[range]] = {}
    for line, why in unreadable.items():
        spans = by_reason.setdefault(why, [])
        if spans and spans[-1].stop == line:
            spans[-1] = range(spans[-1].start, line + 1)
        else:
            spans.append(range(line, line + 1))
    for why, spans in by_reason.items():
        *others, last = (f"{one.start}" if len(one) == 1 else f"{one.start} to {one.stop - 1}" for one in spans)
        named = f"{', '.join(others)} and {last}" if others else last
        are = f"Line {named} is" if named.isdigit() else f"Lines {named} are"
        yield f"{are} not read: {why}."


def _follow_history(rows: Sequence[ResultRow], repository: ForeignRepository) -> tuple[list[ResultRow], list[str]]:
    """The rows, the oldest first as their commits on the branch tell, and what there is to say of their order.

    Raises ResultsInvalidError where most commits stand before those that they were made upon.
    """
    position = {sha: number for number, sha in enumerate(repository.list_branch())}
    lines: dict[int, int] = {}
    for row in rows:
        if row.may_be_hash and (sha := repository.resolve(row.commit)) in position:
            lines.setdefault(position[sha], row.line)  # where it was measured first
    order = list(lines)
    if len(order) > 2 and order == sorted(order, reverse=True):
        return list(reversed(rows)), [NEWEST_FIRST]
    before: list[int] = []  # in ascending order
    swapped, found = 0, None
    for one in order:
        at = bisect(before, one)
        swapped += len(before) - at
        if found is None and at < len(before):
            found = next(earlier for earlier in order if earlier > one), one
        before.insert(at, one)
    if found is None:
        return list(rows), []
    first, second = (lines[one] for one in found)
    stands = f"line {first} stands before line {second}, upon whose commit its own was made"
    if 4 * swapped > len(order) * (len(order) - 1):
        raise ResultsInvalidError(
            "Its rows do not stand in the order of their commits, as in a list that is sorted by its numbers: "
            f"{stands}. Sort them by time, the oldest first."
        )
    return list(rows), [f"Order: {stands}; rows are read as they stand."]


_SLUG = TypeAdapter(Slug)


def _check_options(options: ImportOptions) -> None:
    """Raises ResultsInvalidError for a name or a device that nothing can be called."""
    try:
        _SLUG.validate_python(choose_name(options))
    except ValidationError as error:
        raise ResultsInvalidError(
            f"{choose_name(options)[:80]!r} cannot be a project's name: use lower-case letters, digits and hyphens, "
            f"at most {MAX_NAME}. Choose one with --name."
        ) from error
    for option, text in (("--hardware", options.hardware), ("--torch-version", options.torch_version or "2"),
                         ("--precision", options.precision)):  # fmt: skip
        if not text.strip() or not text.isprintable():
            raise ResultsInvalidError(f"{option} needs a text of printable characters.")
    if len(options.torch_version) > 60 or len(options.precision) > 20:
        raise ResultsInvalidError("--torch-version takes at most 60 characters, --precision at most 20.")


def _describe_reading(results: ResultsFile, plan: ImportPlan, found: FoundDirection) -> Iterator[str]:
    yield from results.account
    better = "Less" if found.direction == Direction.MINIMIZE else "More"
    for value in sorted({step.row.reason.removeprefix(ODD) for step in plan.steps if step.row.reason.startswith(ODD)}):
        yield f"{value} stands for no result, and is read as a failure."
    yield f"Direction: {better} {results.metric} is better, {found.reason}."
    named = {step.row.line for step in plan.steps if HASH.fullmatch(step.row.commit)}
    if not plan.found:
        problem = (
            "No row's commit is in the repository: is it the right one, and the right branch?"
            if named else "No row names a commit."
        )  # fmt: skip
        yield (
            f"{problem} The project begins with the repository's commit {plan.root[:10]}, which may not be what the "
            "first row measured."
        )
    elif lost := len(named - plan.found.keys()):
        yield f"Hashes: {lost} of {len(named)} name no commit of the repository, or several."
    if plan.split:
        yield (
            f"{count_noun(len(plan.split), 'row')} of another's hash and other words: experiments without code, "
            "children of that commit."
        )
    if plan.orphans:
        yield (
            f"{count_noun(len(plan.orphans), 'row')} with a parent that is no row above: children of the best before, "
            "or of git's parent."
        )
    if plan.repeats:
        yield f"{count_noun(len(plan.repeats), 'row')} of what was there: further runs of the same commit."


def _read_results(options: ImportOptions, repository: ForeignRepository) -> bytes:
    """The file given, else the work tree's (it is not committed, as a rule), else the branch's."""
    path = options.results or options.repository / RESULTS_FILE
    if options.results is None and not path.is_file():
        committed = repository.read_file(RESULTS_FILE)
        if committed is None:
            raise ResultsInvalidError(f"{options.repository} has no {RESULTS_FILE}; name the file with --results.")
        return committed
    try:
        return path.read_bytes()
    except OSError as error:
        raise ResultsInvalidError(f"{path} cannot be read: {error.strerror}.") from error


def _read_texts(repository: ForeignRepository, plan: ImportPlan) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """All text files of each commit with code, by key; and what was left out of the first."""
    sources = {step.key: step.source for step in plan.steps if step.source is not None} | {plan.root: plan.root}
    files = {key: repository.read_files(source) for key, source in sources.items()}
    if not files[plan.root][0] and NOT_HERE in files[plan.root][1].values():
        raise RepositoryInvalidError(
            "The clone is partial: it lacks the files' contents. Clone the repository as a whole."
        )
    return {key: _keep_own(texts) for key, (texts, _) in files.items()}, files[plan.root][1]


def _keep_own(texts: Mapping[str, str]) -> dict[str, str]:
    """Files that are the project's code: not the results, and nothing that would replace ours."""
    return {
        path: text
        for path, text in texts.items()
        if path not in (RESULTS_FILE, CONTRACT_FILE) and not path.startswith(f"{HARNESS}/")
    }


def _find_editable(plan: ImportPlan, texts: Mapping[str, Mapping[str, str]], script: str | None) -> list[str]:
    """The files that the session's commits changed, the most often changed first; without any, the script."""
    changes: Counter[str] = Counter()
    for step in plan.steps:
        if step.parent is not None and step.parent in texts and step.key in texts:
            before, after = texts[step.parent], texts[step.key]
            changes.update(path for path in sorted({*before, *after}) if before.get(path) != after.get(path))
    for path in list(changes):
        if not _is_code(path, *(files.get(path, "") for files in texts.values())):
            del changes[path]
    main = _find_script(script, [path for path, _ in changes.most_common()], texts[plan.root])
    return [main, *(path for path, _ in changes.most_common() if path != main)][:MAX_EDITABLE]


def _is_code(path: str, *texts: str) -> bool:
    """Whether a file is one that people edit: no log, and not larger than a contract allows."""
    return not path.lower().endswith(WRITTEN) and all(len(text.encode()) <= MAX_EDITABLE_BYTES for text in texts)


def _find_script(script: str | None, changed: Sequence[str], root: Mapping[str, str]) -> str:
    """The file that is run: the one named, `train.py`, or the first program. Raises RepositoryInvalidError."""
    programs = [path for path in [*changed, *root] if path.endswith(".py")]
    found = script or (SCRIPT if SCRIPT in programs else next(iter(programs), None))
    if found is None or found not in {*changed, *root}:
        files = ", ".join([path for path in root if not path.lower().endswith((*WRITTEN, ".md"))][:8])
        raise RepositoryInvalidError(
            f"It has no {script or 'Python program'} to run in the commit that the project begins with; name another "
            f"file with --script. It has {files or 'none'}."
        )
    return found


def describe_hardware(options: ImportOptions) -> Hardware:
    """The device as far as it is known. Its memory is what was given, or what its name says."""
    named = re.search(r"(\d+)\s*Gi?B", options.hardware, re.IGNORECASE)
    memory_gib = options.memory_gib or (int(named[1]) if named else None)
    return HardwareView(
        kind=DeviceKind.CUDA, model=options.hardware[:MAX_HARDWARE], memory_mib=memory_gib and 1024 * memory_gib,
        cores=1, power_cap_watts=options.power_cap_watts or None, torch_version=options.torch_version,
        precision=options.precision, is_reported=memory_gib is not None and options.power_cap_watts is not None,
    )  # fmt: skip


def read_harness() -> dict[str, str]:
    """The protected files of a project that scores itself, path -> text."""
    folder = resources.files("coordinator.autoresearch") / HARNESS
    files = [*(file for file in folder.iterdir() if file.name.endswith(".py")), CHANNEL_FILE]
    return {f"{HARNESS}/{file.name}": file.read_text() for file in files}
