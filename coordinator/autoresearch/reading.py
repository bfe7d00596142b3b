"""Reads a session from disk: its results, the commits that its repository still has, and a contract made from them."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from math import ceil
from pathlib import Path
from statistics import median
from typing import NamedTuple

from coordinator.autoresearch.git_repository import ForeignRepository, RepositoryInvalidError, open_repository
from coordinator.autoresearch.plan import ImportPlan, make_plan
from coordinator.autoresearch.results_file import (
    ResultRow,
    ResultsFile,
    ResultsInvalidError,
    find_direction,
    parse_results,
    read_zeros_as_crashes,
)
from shared.commits import CommitWords
from shared.contract import CONTRACT_FILE, Contract, Direction, parse_contract
from shared.runs import DeviceKind, Hardware
from shared.seeds import CHANNEL_FILE

RESULTS_FILE = "results.tsv"
HARNESS = "swarm_harness"
SCRIPT = "train.py"
MAX_METRIC, MAX_NAME, MAX_HARDWARE = 40, 63, 120
UNKNOWN = "unknown"

MAX_EDITABLE = 16
MIN_FILE_BYTES = 65_536
MAX_TEXT = 180
NORMAL_MAD = 1.4826  # the sd of a normal distribution over its median absolute deviation
LARGEST_GAIN_SD = 5.0  # largest gain of a session, in sd of effects; beyond 10 one is held as too good

NOISE_SHARE = 0.1
"""Guessed noise over the sd of effects, since a session has no replications; the swarm's own replace it."""

FLOOR_SD = 20.0


@dataclass(frozen=True)
class ImportOptions:
    """The session to import, and facts from its author. `budget_seconds` is the total time of a run.
    A name that is None is made of repository and branch; direction and script are then found in the session."""

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


class Code(NamedTuple):
    """A commit of the repository: the editable files, and its author, time and message."""

    files: dict[str, str]
    words: CommitWords


class Material(NamedTuple):
    """Everything that is written to the database. `codes` are the commits with code, by key; `root_files` are all files
    of the first; `left_out` are files of it that cannot be part of a project, with the reasons."""

    contract: Contract
    contract_text: str
    results: ResultsFile
    plan: ImportPlan
    codes: dict[str, Code]
    root_files: dict[str, str]
    left_out: dict[str, str]
    hardware: Hardware
    source: str
    branch: str


def choose_name(options: ImportOptions) -> str:
    """The project's name: the one given, or one made of repository and branch."""
    if options.name is not None:
        return options.name
    repository = options.repository.resolve().name.removesuffix(".git")
    slug = re.sub(r"[^a-z0-9]+", "-", f"{repository}-{options.branch}".lower()).strip("-")
    return slug[:MAX_NAME].rstrip("-") or "imported"


def read_material(options: ImportOptions, known: Contract | None, known_text: str) -> Material:
    """Read a session. `known` is the contract of the project, if a part of the session was imported before.

    Raises RepositoryInvalidError, ResultsInvalidError, ContractError.
    """
    with open_repository(options.repository, options.branch) as repository:
        results = parse_results(_read_results(options, repository))
        if not results.rows:
            raise ResultsInvalidError("It has no row that can be read.")
        direction = (known.objective.direction if known else options.direction) or find_direction(
            results.metric, results.rows
        )
        rows = read_zeros_as_crashes(results.rows, direction)
        plan = make_plan(rows, repository, direction)
        texts, left_out = _read_texts(repository, plan)
        editable = known.files.editable if known else _find_editable(plan, texts, options.script)
        sizes = (len(files.get(path, "").encode()) for files in texts.values() for path in editable)
        text = known_text or write_contract(
            choose_name(options), f"{options.repository.resolve().name}, branch {options.branch}",
            clean_metric(results.metric), direction, estimate_priors(rows, direction), editable, editable[0],
            max(sizes), options.budget_seconds,
        )  # fmt: skip
        words = {key: repository.read_words(key) for key in texts}
    codes = {key: Code({path: files.get(path, "") for path in editable}, words[key]) for key, files in texts.items()}
    root_files = texts[plan.root] | codes[plan.root].files | {CONTRACT_FILE: text} | read_harness()
    return Material(
        parse_contract(text), text, results, plan, codes, root_files, left_out, describe_hardware(options, rows),
        options.repository.resolve().name, options.branch,
    )  # fmt: skip


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
    main = _find_script(script, [path for path, _ in changes.most_common()], texts[plan.root])
    return [main, *(path for path, _ in changes.most_common() if path != main)][:MAX_EDITABLE]


def _find_script(script: str | None, changed: Sequence[str], root: Mapping[str, str]) -> str:
    """The file that is run: the one named, `train.py`, or the first program. Raises RepositoryInvalidError."""
    programs = [path for path in [*changed, *root] if path.endswith(".py")]
    found = script or (SCRIPT if SCRIPT in programs else next(iter(programs), None))
    if found is None or found not in {*changed, *root}:
        raise RepositoryInvalidError(f"It has no {script or 'Python program'} to run; name one with --script.")
    return found


def clean_metric(name: str) -> str:
    """A metric's name as contracts spell it."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return (slug if slug[:1].isalpha() else f"metric_{slug}")[:MAX_METRIC].rstrip("_")


def describe_hardware(options: ImportOptions, rows: Sequence[ResultRow]) -> Hardware:
    """The device as far as it is known. Its memory: as given, as its name says, or at least what a run took."""
    named = re.search(r"(\d+)\s*Gi?B", options.hardware, re.IGNORECASE)
    taken = ceil(max((row.peak_memory_mib for row in rows), default=0) / 1024)
    memory_gib = options.memory_gib or (int(named[1]) if named else taken) or 1
    return Hardware(
        kind=DeviceKind.CUDA, model=options.hardware[:MAX_HARDWARE], memory_mib=1024 * memory_gib, cores=1,
        power_cap_watts=options.power_cap_watts, torch_version=options.torch_version, precision=options.precision,
    )  # fmt: skip


def read_harness() -> dict[str, str]:
    """The protected files of a project that scores itself, path -> text."""
    folder = resources.files("coordinator.autoresearch") / HARNESS
    files = [*(file for file in folder.iterdir() if file.name.endswith(".py")), CHANNEL_FILE]
    return {f"{HARNESS}/{file.name}": file.read_text() for file in files}


class Priors(NamedTuple):
    """In the metric's unit: sd of noise and of effects, and the value beyond which a result is held."""

    noise_sd: float
    effect_sd: float
    plausible_floor: float


def estimate_priors(rows: Sequence[ResultRow], direction: Direction) -> Priors:
    """The noise and effects that a session reports. It has at least one row."""
    sign = 1.0 if direction is Direction.MINIMIZE else -1.0
    scores = [sign * row.metric for row in rows if row.metric is not None]
    changes = list(_list_changes(rows, sign))
    typical = NORMAL_MAD * median(map(abs, changes)) if changes else 0.0
    largest_gain = max((-change for change in changes), default=0.0)
    size = max(map(abs, scores), default=1.0) or 1.0
    effect_sd = max(typical, largest_gain / LARGEST_GAIN_SD) or 0.01 * size
    best, first = min(scores, default=0.0), scores[0] if scores else 0.0
    floor = best - max(first - best, FLOOR_SD * effect_sd)
    return Priors(_round(NOISE_SHARE * effect_sd), _round(effect_sd), sign * _round(floor))


def _list_changes(rows: Sequence[ResultRow], sign: float) -> Iterator[float]:
    """Differences to the best kept before, below zero where it is better."""
    best: float | None = None
    for row in rows:
        if row.metric is None:
            continue
        score = sign * row.metric
        if best is not None and score != best:
            yield score - best
        if row.is_kept:
            best = score if best is None else min(best, score)


def _round(number: float) -> float:
    """The number to three significant digits."""
    return float(f"{number:.3g}")


def write_contract(
    name: str, source: str, metric: str, direction: Direction, priors: Priors, editable: Sequence[str], script: str,
    largest_file: int, budget_seconds: float,
) -> str:  # fmt: skip
    """The text of the contract. `source` says in words where the session is from."""
    better = "lowers" if direction is Direction.MINIMIZE else "raises"
    return f"""\
# Written when the session was imported. The project scores itself: the metric is the one that {script} prints.

[project]
name = {_quote(name)}
title = {_quote(f"{name}, an imported session")}
question = {_quote(f"What {better} {metric}? Imported from {source}.")}
version = 1

[objective]
metric = {_quote(metric)}
unit = {_quote("bits per byte" if metric.endswith("bpb") else metric)}
direction = {_quote(direction.value)}
min_effect = {priors.noise_sd!r}
plausible_floor = {priors.plausible_floor!r}
result = "summary"

[budget]
training_seconds = {budget_seconds!r}
may_end_early = true
handover_seconds = 1.0
starting_seconds = 60
scoring_seconds = 60

[limits]
memory_mib = 16384
processes = 512
disk_mib = 4096
weights_mib = 1

[files]
editable = {json.dumps(list(editable))}
max_bytes = {max(MIN_FILE_BYTES, 2 * largest_file)}

[commands]
prepare = "swarm_harness.prepare"
trainer = "swarm_harness.trainer"
host = "swarm_harness.host"
scorer = "swarm_harness.scorer"

[data.settings]
script = {_quote(script)}
metric = {_quote(metric)}

[evidence]
noise_sd = {priors.noise_sd!r}
effect_sd = {priors.effect_sd!r}
"""


def _quote(text: str) -> str:
    """A string of TOML; its escapes are those of JSON."""
    return json.dumps(" ".join(text.split())[:MAX_TEXT], ensure_ascii=False)
