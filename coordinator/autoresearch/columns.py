"""Which column of a log holds what: known by its name, by what was said of it, or by what stands in it. Pure."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import chain, pairwise
from math import nan
from statistics import fmean

from coordinator.autoresearch.directions import is_rate, read_goal, read_name, split_goal
from coordinator.autoresearch.numbers import MISSING, NOT_FINITE, read_number, read_time
from coordinator.autoresearch.statuses import Fate, read_status
from coordinator.autoresearch.tables import MAX_COLUMNS, LogTable, ResultsInvalidError, clean_name


class ColumnRole(StrEnum):
    """The contents of a column."""

    COMMIT = "commit"
    METRIC = "metric"
    METRIC_NAME = "metric-name"
    UNIT = "unit"
    DIRECTION = "direction"
    BEFORE = "before"
    STATUS = "status"
    DESCRIPTION = "description"
    HYPOTHESIS = "hypothesis"
    MECHANISM = "mechanism"
    FOLLOW_UPS = "follow-ups"
    LABEL = "label"
    PARENT = "parent"
    GROUP = "group"
    SEED = "seed"
    STEPS = "steps"
    MEMORY = "memory"
    TIME = "time"
    AUTHOR = "author"


WORDS = (ColumnRole.HYPOTHESIS, ColumnRole.MECHANISM, ColumnRole.FOLLOW_UPS)
"""Columns of an agent's thoughts, beside the description of its change."""

KEPT_NAMES = frozenset({"kept", "keep", "is_kept", "accepted", "improved"})
YES, NO = ("1", "1.0", "y"), ("0", "0.0", "n")
"""Cells of a column that asks whether a row was kept."""

_NAMES: dict[ColumnRole, tuple[str, ...]] = {
    ColumnRole.COMMIT: ("commit", "commit_hash", "commit_sha", "commit_id", "git_commit", "git_sha", "git_hash", "sha",
                  "hash", "rev", "revision"),
    ColumnRole.STATUS: ("status", "decision", "outcome", "verdict", "kept", "keep", "is_kept", "accepted", "improved",
                  "result", "state", "correct", "correctness"),
    ColumnRole.DESCRIPTION: ("description", "desc", "change", "summary", "title", "notes", "note", "message", "comment",
                       "idea", "what", "hypothesis", "experiment", "name"),
    ColumnRole.HYPOTHESIS: ("hypothesis",),
    ColumnRole.MECHANISM: ("mechanism", "interpretation", "insight", "insights", "learned", "learning", "learnings",
                     "lesson", "analysis", "explanation", "conclusion", "takeaway", "rollback_reason"),
    ColumnRole.FOLLOW_UPS: ("next_hypothesis", "next_action_hint", "next_step", "next_steps", "next", "follow_up",
                      "follow_ups"),
    ColumnRole.LABEL: ("exp", "experiment", "exp_id", "experiment_id", "run_id", "run", "id", "trial", "iteration",
                 "iter", "idx", "n", "num", "number", "config_id", "round", "label"),
    ColumnRole.PARENT: ("parent", "parent_commit", "parent_sha", "parent_hash", "parent_id", "base_commit", "base",
                  "based_on"),
    ColumnRole.GROUP: ("branch", "gpu", "worker", "session", "agent", "lane", "track", "thread", "device", "machine",
                 "run", "run_id", "group"),
    ColumnRole.SEED: ("seed", "random_seed", "rng_seed"),
    ColumnRole.STEPS: ("steps", "num_steps", "n_steps", "optimizer_steps"),
    ColumnRole.METRIC_NAME: ("metric_name", "metric", "objective"),
    ColumnRole.UNIT: ("metric_unit",),
    ColumnRole.DIRECTION: ("metric_direction", "direction", "objective_direction", "goal"),
    ColumnRole.MEMORY: (),
    ColumnRole.TIME: ("timestamp", "datetime", "date", "time", "utc", "started_at", "finished_at", "created_at", "ts"),
    ColumnRole.AUTHOR: ("author", "user", "researcher"),
}  # fmt: skip
_PATTERNS: dict[ColumnRole, re.Pattern[str]] = {
    ColumnRole.PARENT: re.compile(r"(^|_)parent_"),
    ColumnRole.COMMIT: re.compile(
        r"^(?!.*(config|data|param|model|file|prompt|image|env|code|best|prev)).*(^|_)(commit|sha|hash|ref)(_|$)"
    ),
    ColumnRole.STATUS: re.compile(r"_(status|decision|verdict|outcome)$"),
    ColumnRole.TIME: re.compile(r"(^|_)(date|time|datetime|timestamp|at|when|created|started|finished)(_|$)"),
    ColumnRole.SEED: re.compile(r"_seed$"),
}
"""Names of columns that have a role where no column has one of the exact names."""

_WORDS = re.compile(r"[^\W\d_]")
_MEMORY = re.compile(r"((peak|max|gpu|device)_?)*(v?ram|mem|memory)_?(used_?|peak_?)*(gi?b|mi?b)")
_HEADER_ROLES = (ColumnRole.COMMIT, ColumnRole.STATUS, ColumnRole.DESCRIPTION, ColumnRole.LABEL)
_DIFFERENCE = re.compile(r"^(delta|diff|improvement|change|gain)(_|$)|_(delta|diff)$")
_AUXILIARY = re.compile(
    r"^(delta|diff|improvement|change|gain|best|prev|previous|old|baseline|target|expected|budget|n|num|count|param|params|"
    r"parameters|epochs?|batch|lr|vram|mem|memory|ram|util|gpu|cost|usd|price|seconds?|time|duration|elapsed|wall|tokens|"
    r"size|lines|loc|std|sd|stderr|ci|train|training|attempt|timeout)(_|$)|"
    r"_(before|best|prev|previous|delta|util|std|sd|stderr|params|count|gi?b|mi?b|pct|min|minutes|s|secs?|seconds)$"
)
HASH = re.compile(r"[0-9a-f]{7,40}")
FULL = ("description", "desc")
NO_COLUMN = "none"
"""Said of a role that no column of a log has."""

MAX_METRIC, MAX_DIGITS = 40, 10
EXPLAINED, CLEARLY, DECIDED = 0.8, 0.25, 3
"""Share of decisions that a column must explain, and explain more than the one that is first by name, to be the
metric; and number of rows kept, and of others, without which nothing is said."""

GOALS = ("metric", "metric_value", "objective", "score")
"""Names of columns that a log has for what it works towards, whatever else it measures."""

_MEAN = re.compile(r"(^|_)(mean|avg|average)(_|$)")
_AFTER = re.compile(r"(^|_)(after|new|post)(_|$)")


def is_header(cells: Sequence[str], given: Sequence[str] = ()) -> bool:
    """Whether cells are names of columns: two of them are known ones, or one was `given`, and none is a number."""
    if len(cells) > MAX_COLUMNS:
        return False
    names = {_spell(cell) for cell in cells}
    said = {_spell(text.partition("=")[2]) for text in given} - {""}
    if said & names and len(names) > 1:
        return not any(read_number(cell) for cell in cells)
    known = {name for role in _HEADER_ROLES for name in _NAMES[role]} | {
        name for role in (ColumnRole.COMMIT, ColumnRole.STATUS) for name in names if _PATTERNS[role].search(name)
    }
    return len(known & names) > 1 and not any(read_number(cell) for cell in cells)


def asks_if_kept(name: str) -> bool:
    """Whether a column's name is a question whether rows were kept, which 0 and 1 answer."""
    return _spell(name) in KEPT_NAMES


def _spell(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", clean_name(name)).strip("_")


_MICRO = str.maketrans("\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}", "uu")


def clean_metric(name: str) -> str:
    """A metric's name as contracts spell it."""
    slug = _spell(split_goal(name)[0].translate(_MICRO))
    return (slug if slug[:1].isalpha() else f"metric_{slug}")[:MAX_METRIC].rstrip("_")


def find_columns(table: LogTable, given: Sequence[str], metric: str = "") -> dict[ColumnRole, str]:
    """The column of each role. `given` are roles with the names (or numbers, from 1) of their columns: `status=NAME`;
    one without a column has an empty name. `metric` is the known metric of the log's project.

    Raises ResultsInvalidError where one of the roles that every log needs has none.
    """
    if not table.records:
        reasons = "; ".join(f"line {line}: {why}" for line, why in list(table.unread.items())[:3])
        raise ResultsInvalidError(f"It has no row that can be read. {reasons}".strip())
    found = dict(_read_given(table, given))
    texts = {name: [record.cells.get(name, "") for record in table.records] for name in table.columns}
    if all(name.startswith("column ") for name in table.columns):
        found = dict(_guess(texts, set(found.values()))) | found
    spelled = {_spell(name): name for name in reversed(table.columns)}
    by_name = ((role, [spelled[name] for name in names if name in spelled]) for role, names in _NAMES.items())
    by_pattern = (
        (role, [name for name in table.columns if pattern.search(_spell(name))]) for role, pattern in _PATTERNS.items()
    )
    for role, fitting in chain(by_name, by_pattern):
        suiting = [name for name in fitting if name not in found.values() and _suits(role, name, texts[name])]
        if role == ColumnRole.DESCRIPTION and suiting and suiting[0] not in FULL:
            different = {name: len({*texts[name]} - {""}) for name in suiting}  # notes about a few rows name no row
            suiting = [name for name in suiting if 2 * different[name] > max(different.values())]
        if role == ColumnRole.STATUS:  # that a run finished says less than that it was kept
            suiting.sort(key=lambda name: not {Fate.KEPT, Fate.DISCARDED} <= {*map(read_status, texts[name])})
        if role not in found and suiting:
            found[role] = suiting[0]
    by_time = (name for name in table.columns if name not in found.values() and _are_times(texts[name]))
    if ColumnRole.TIME not in found and (moment := next(by_time, None)):
        found[ColumnRole.TIME] = moment
    counting = next(
        (name for name in table.columns if name not in found.values() and _counts_rows(name, texts[name])), None
    )
    if counting is not None and ColumnRole.METRIC not in found:
        found.setdefault(ColumnRole.LABEL, counting)
    found |= {} if ColumnRole.MEMORY in found else dict(_find_memory(table.columns, found.values()))
    same = next((name for name in table.columns if metric and clean_metric(name) == metric), None)
    if ColumnRole.METRIC not in found and same is not None:
        found[ColumnRole.METRIC] = same
    elif ColumnRole.METRIC not in found:
        statuses = [read_status(cell) for cell in texts.get(found.get(ColumnRole.STATUS, ""), [])]
        found |= _choose_metric(texts, set(found.values()), statuses)
        _refuse_twins(texts, found.get(ColumnRole.METRIC, ""))
    if ColumnRole.DESCRIPTION not in found:
        found |= _find_words(texts, set(found.values()))
    for role, need in ((ColumnRole.STATUS, "what was kept and what was not"), (ColumnRole.METRIC, "the numbers")):
        if role not in found and len(table.columns) == 1:
            raise ResultsInvalidError("It has no columns. Write it as TSV, CSV, a table in Markdown, or JSON lines.")
        if role not in found:
            raise ResultsInvalidError(
                f"No column is known that says {need}; it has {', '.join(table.columns)[:300]}. Name it with --column "
                f"{role.value}=NAME{_WITHOUT.get(role, '.')}"
            )
    return found


def _refuse_twins(texts: Mapping[str, Sequence[str]], metric: str) -> None:
    """Raises ResultsInvalidError where another column has the metric's name and other numbers."""
    for number, name in enumerate(texts, start=1):
        if name == f"{metric} {number}" and list(texts[name]) != list(texts[metric]):
            raise ResultsInvalidError(
                f"Two columns are named {metric}. Say which one is the metric, with --column 'metric={metric}' for the "
                f"first or --column 'metric={name}' for the other."
            )


_WITHOUT = {
    ColumnRole.STATUS: ", or say --column status=none: then a row counts as kept where it is better than all before it."
}


def _read_given(table: LogTable, given: Sequence[str]) -> Iterator[tuple[ColumnRole, str]]:
    for text in given:
        name, sign, column = text.partition("=")
        name = name.strip().lower()
        if not sign:
            raise ResultsInvalidError(f"--column takes a role and a name, as status=NAME; it has {text[:60]!r}.")
        if name not in list(ColumnRole):
            raise ResultsInvalidError(f"--column: there is no role {name[:60]!r}; there are {', '.join(ColumnRole)}.")
        cleaned = clean_name(column)
        number = int(cleaned) if cleaned.isascii() and cleaned.isdigit() else 0
        if cleaned == NO_COLUMN and cleaned not in table.columns:
            if name == ColumnRole.METRIC:
                raise ResultsInvalidError(
                    "--column metric=none: a log without numbers has nothing that can be imported."
                )
            yield ColumnRole(name), ""
            continue
        if name == ColumnRole.METRIC and find_metric_name(table, column) is not None:
            continue
        if cleaned not in table.columns and not 1 <= number <= len(table.columns):
            raise ResultsInvalidError(
                f"--column: the file has no column {column[:60]!r}; it has {', '.join(table.columns)[:300]}."
            )
        yield ColumnRole(name), cleaned if cleaned in table.columns else table.columns[number - 1]


def find_metric_name(table: LogTable, said: str) -> str | None:
    """The name of a metric in the rows of a log that has several, however it is written."""
    column = next((name for name in table.columns if _spell(name) in _NAMES[ColumnRole.METRIC_NAME]), "")
    names = {record.cells.get(column, "") for record in table.records}
    return next((name for name in names if name and clean_metric(name) == clean_metric(said)), None)


def _guess(texts: Mapping[str, Sequence[str]], taken: set[str]) -> Iterator[tuple[ColumnRole, str]]:
    """Roles of columns without names: hashes, words of a status, and the longest texts."""
    left = {name: cells for name, cells in texts.items() if name not in taken}
    tests: tuple[tuple[ColumnRole, Callable[[str], object]], ...] = (
        (ColumnRole.STATUS, lambda cell: read_status(cell) is not None),
        (ColumnRole.COMMIT, lambda cell: HASH.fullmatch(cell.lower()) and not cell.isdigit()),
        (ColumnRole.DESCRIPTION, _is_text),
    )
    for role, fits in tests:
        shares = {name: sum(bool(fits(cell)) for cell in cells) / max(1, len(cells)) for name, cells in left.items()}
        if role == ColumnRole.DESCRIPTION:
            shares = {name: share * sum(map(len, left[name])) for name, share in shares.items()}
        best = max(shares, key=lambda name: shares[name], default=None)
        if best is not None and shares[best] > 0.5:
            yield role, best
            del left[best]


def _suits(role: ColumnRole, name: str, cells: Sequence[str]) -> bool:
    """Whether a column with the right name can have the role. A result may be a number, and then it is no status."""
    numbers = sum(read_number(cell) is not None for cell in cells)
    if role == ColumnRole.STATUS and asks_if_kept(name) and not {*cells} - {*YES, *NO, ""}:
        return True
    if role == ColumnRole.STATUS:
        return 2 * sum(read_status(cell) is not None for cell in cells) >= numbers
    if role in (ColumnRole.METRIC_NAME, ColumnRole.DIRECTION):
        fits = bool if role == ColumnRole.METRIC_NAME else read_goal
        return numbers == 0 and any(map(fits, cells)) and all(fits(cell) for cell in cells if cell)
    if role == ColumnRole.TIME:
        return any(map(read_time, cells))
    if role in (ColumnRole.LABEL, ColumnRole.GROUP):  # a label tells rows apart, a group has several
        filled = [cell for cell in cells if cell]
        return (2 * len({*filled}) > len(filled)) is (role == ColumnRole.LABEL)
    return role not in (*WORDS, ColumnRole.DESCRIPTION, ColumnRole.AUTHOR) or 2 * numbers < max(1, len(cells))


def _find_memory(columns: Sequence[str], taken: Collection[str]) -> Iterator[tuple[ColumnRole, str]]:
    name = next((name for name in columns if _MEMORY.fullmatch(_spell(name)) and name not in taken), None)
    if name is not None:
        yield ColumnRole.MEMORY, name


def _is_text(cell: str) -> bool:
    """Whether a cell says something: no number, time, duration or document."""
    is_other = cell[:1] in ("{", "[") or read_number(cell) is not None or read_time(cell) is not None
    return not is_other and bool(_WORDS.search(cell.replace("days", "")))


def _find_words(texts: Mapping[str, Sequence[str]], taken: set[str]) -> dict[ColumnRole, str]:
    """The description's column where none is named so: the one with the most different texts that are no documents."""
    different = {
        name: len({cell for cell in cells if _is_text(cell)}) for name, cells in texts.items() if name not in taken
    }
    best = max(different, key=lambda name: different[name], default="")
    return {ColumnRole.DESCRIPTION: best} if different.get(best, 0) > 1 else {}


def _choose_metric(
    texts: Mapping[str, Sequence[str]], taken: set[str], fates: Sequence[Fate | None]
) -> dict[ColumnRole, str]:
    """The metric's column, and the one with the metric before the change, if there is one.

    Of the columns of numbers: one "after" beside its "before"; else one whose name has a known direction, those of
    validation and test first, and a mean before what it is of; else the first. What surrounds a run (time, cost, steps)
    comes last, and counts only alone or where it explains what was kept; a difference to what was before is no metric
    unless a person says so. Where this column does not
    explain what was kept, and another one does, it is the other one.
    """
    numeric = [name for name, cells in texts.items() if name not in taken and _is_numeric(cells)]
    numeric = [name for name in numeric if not _counts_rows(name, texts[name])]
    spelled = {_spell(name): name for name in numeric}
    for name in spelled:
        before = re.sub(r"after|new|post", lambda found: {"new": "old", "post": "pre"}.get(found[0], "before"), name)
        if _AFTER.search(name) and before in spelled:
            return {ColumnRole.METRIC: spelled[name], ColumnRole.BEFORE: spelled[before]}
    differ = {name: {n.value for cell in texts[column] if (n := read_number(cell))} for name, column in spelled.items()}
    own = [name for name in spelled if is_rate(name) or not _AUXILIARY.search(name)]
    is_sure = bool(own)
    own = own or [name for name in spelled if not _DIFFERENCE.search(name)]
    own = [name for name in own if len(differ[name]) > 1] or own
    filled = {name: sum(read_number(cell) is not None for cell in texts[spelled[name]]) for name in own}
    own = [name for name in own if 2 * filled[name] >= max(filled.values())]
    ranked = sorted(own, key=lambda name: (-_weigh_name(name), own.index(name)))
    if not ranked:
        return {}
    explained = {name: _explain(texts[spelled[name]], fates) for name in ranked}
    best = max(explained, key=lambda name: explained[name])
    if not is_sure and len(ranked) > 1 and explained[best] < EXPLAINED:
        return {}
    is_other = explained[best] >= EXPLAINED and explained[best] - explained[ranked[0]] >= CLEARLY
    return {ColumnRole.METRIC: spelled[best if is_other else ranked[0]]}


def _explain(cells: Sequence[str], fates: Sequence[Fate | None]) -> float:
    """How well a column explains what was kept: the mean share of kept rows that are better than the last one kept,
    and of others that are not, in the direction that fits more; 0 where the rows are too few to say."""
    last: float | None = None
    shifts: dict[Fate, list[float]] = {Fate.KEPT: [], Fate.DISCARDED: []}
    for cell, fate in zip(cells, fates, strict=False):
        number = read_number(cell)
        if fate is None or fate not in shifts:
            continue
        if last is not None:
            shifts[fate].append(nan if number is None else number.value - last)
        if fate == Fate.KEPT and number is not None:
            last = number.value
    kept, others = shifts[Fate.KEPT], shifts[Fate.DISCARDED]
    if min(len(kept), len(others)) < DECIDED:
        return 0.0
    up, down = (
        fmean(sign * shift > 0 for shift in kept) + fmean(sign * shift <= 0 for shift in others) for sign in (1, -1)
    )
    return max(up, down) / 2


def _weigh_name(name: str) -> int:
    is_checked = bool(re.match(r"(val|valid|validation|test|eval|dev|holdout|heldout)(_|$)", name))
    is_known = read_name(name) is not None
    return 8 * (name in GOALS) + 4 * is_checked + 2 * is_known + bool(_MEAN.search(name))


def _are_times(cells: Sequence[str]) -> bool:
    said = [cell for cell in cells if cell]
    return bool(said) and all(read_number(cell) is None and read_time(cell) for cell in said)


def _counts_rows(name: str, cells: Sequence[str]) -> bool:
    """Whether a column that is not named as a metric only numbers the rows, up or down."""
    numbers = [int(cell) if cell.isdecimal() and len(cell) < MAX_DIGITS else None for cell in cells]
    steps = {b - a if a is not None and b is not None else 0 for a, b in pairwise(numbers)}
    starts = {numbers[0], numbers[-1]} & {0, 1}
    return bool(starts) and steps in ({1}, {-1}) and len(numbers) > 2 and not _weigh_name(_spell(name))


def _is_numeric(cells: Sequence[str]) -> bool:
    numbers = sum(read_number(cell) is not None for cell in cells)
    said = sum(cell.lower() not in MISSING | NOT_FINITE and read_status(cell) is None for cell in cells)
    return numbers > 0 and 2 * numbers >= said
