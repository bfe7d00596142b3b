"""Finds which commits a session's rows stand for, and their parents. Pure: git is behind a Protocol.

The first row measures the root. A row whose hash git still has is that commit; its parent is the nearest ancestor that
has a row. A row without such a hash is matched with a commit of the branch by its description, if it was kept. What
is left (discarded commits, as a rule) is an experiment without code, a child of the commit that was best at the time.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from math import inf
from operator import itemgetter
from typing import NamedTuple, Protocol

from coordinator.autoresearch.results_file import ResultRow
from shared.contract import Direction
from shared.experiments import AxisDirection

MIN_SUBJECT = 8  # characters of a description or subject that is matched as a part of the other


class BranchHistory(Protocol):
    """The interface of a repository; `ForeignRepository` implements it."""

    def list_branch(self) -> list[str]: ...
    def list_ancestors(self, sha: str) -> Iterator[str]: ...
    def resolve(self, prefix: str) -> str | None: ...
    def read_subject(self, sha: str) -> str: ...


class PlannedRow(NamedTuple):
    """A row and the commit that it measured, by `key`. `source` is its hash in the repository, None without code.
    `parent` is the key of the commit's parent where the row is its first; None for others, and for the root's."""

    row: ResultRow
    key: str
    source: str | None
    parent: str | None


class ImportPlan(NamedTuple):
    """The rows in order. `root` is the repository's commit that the project begins with, and its key; `head` is the
    best commit that was kept and has code."""

    root: str
    steps: list[PlannedRow]
    head: str


def make_plan(rows: Sequence[ResultRow], history: BranchHistory, direction: Direction) -> ImportPlan:
    """Order a session's rows into commits and measurements. There is at least one row."""
    sources = _find_sources(rows, history)
    root = _find_root(rows, sources, history)
    sign = 1.0 if direction is Direction.MINIMIZE else -1.0
    best = head = (inf, root)  # score and key: of the best that was kept, and of the best of those with code
    known = {root}
    steps: list[PlannedRow] = []
    for row in rows:
        source = sources.get(row.line)
        key = root if not steps else source or f"line {row.line}"
        parent = None
        if key not in known:
            ancestors = islice(history.list_ancestors(source), 1, None) if source else iter(())
            parent = next((sha for sha in ancestors if sha in known), best[1])
            known.add(key)
        steps.append(PlannedRow(row, key, root if key == root else source, parent))
        if row.is_kept and row.metric is not None:
            kept = (sign * row.metric, key)
            best = min(best, kept, key=itemgetter(0))
            if key == root or source:
                head = min(head, kept, key=itemgetter(0))
    return ImportPlan(root, steps, head[1])


def _find_sources(rows: Sequence[ResultRow], history: BranchHistory) -> dict[int, str]:
    """The commits of rows by their lines: by hash, or of those that were kept by their description, in order."""
    found = {row.line: sha for row in rows if (sha := history.resolve(row.commit)) is not None}
    branch = history.list_branch()
    position = {sha: number for number, sha in enumerate(branch)}
    taken = set(found.values())
    after = -1
    for row in rows:
        if row.line in found:
            after = max(after, position.get(found[row.line], -1))
        elif row.is_kept:
            matches = (n for n in range(after + 1, len(branch)) if branch[n] not in taken)
            number = next((n for n in matches if _describes(row.description, history.read_subject(branch[n]))), None)
            if number is not None:
                found[row.line], after = branch[number], number
                taken.add(branch[number])
    return found


def _describes(description: str, subject: str) -> bool:
    one, other = (" ".join(text.lower().split()) for text in (description, subject))
    shorter, longer = sorted((one, other), key=len)
    return one == other or (len(shorter) >= MIN_SUBJECT and shorter in longer)


def _find_root(rows: Sequence[ResultRow], sources: dict[int, str], history: BranchHistory) -> str:
    """The first row's commit; without it the parent of the oldest that is known; without any, the branch's oldest."""
    first = sources.get(rows[0].line)
    if first is not None:
        return first
    branch = history.list_branch()
    oldest = next((number for number, sha in enumerate(branch) if sha in sources.values()), 0)
    return branch[max(0, oldest - 1)]


NO_AXIS = "other"
MAX_CHARACTERS = 200

_VALUE = r"[-+]?[\w.^*]+%?"
_ARROW = re.compile(rf"(?P<axis>[A-Za-z][\w. ]*?)\s+(?P<old>{_VALUE})\s*(?:->|→|=>)\s*(?P<new>{_VALUE})")
_VERB = re.compile(
    rf"\b(?P<verb>increase|raise|reduce|decrease|lower|set|change)\s+(?:the\s+)?(?P<axis>[A-Za-z][\w.]*)\s+to\s+"
    rf"(?P<new>{_VALUE})",
    re.IGNORECASE,
)
_NAME = re.compile(r"\b(?:[A-Z][A-Z0-9]*_[A-Z0-9_]+|[a-z][a-z0-9]*_[a-z0-9_]+|[A-Z]{3,}[A-Z0-9]*)\b")
_UP, _DOWN = frozenset({"increase", "raise"}), frozenset({"reduce", "decrease", "lower"})


class Change(NamedTuple):
    """The change of an experiment, as far as its description names it."""

    axis: str = NO_AXIS
    direction: AxisDirection = AxisDirection.CHANGE
    value: str = ""


def read_change(description: str) -> Change:
    """The change that a description names."""
    change = Change()
    if arrow := _ARROW.search(description):
        change = Change(arrow["axis"], _compare(arrow["old"], arrow["new"]), arrow["new"])
    elif verb := _VERB.search(description):
        word = verb["verb"].lower()
        direction = AxisDirection.UP if word in _UP else AxisDirection.DOWN if word in _DOWN else AxisDirection.CHANGE
        change = Change(verb["axis"], direction, verb["new"])
    elif name := _NAME.search(description):
        change = Change(name[0])
    return Change(change.axis.strip()[:MAX_CHARACTERS], change.direction, change.value[:MAX_CHARACTERS])


def _compare(old: str, new: str) -> AxisDirection:
    try:
        before, after = float(old), float(new)
    except ValueError:
        return AxisDirection.CHANGE
    return AxisDirection.UP if after > before else AxisDirection.DOWN if after < before else AxisDirection.CHANGE
