"""Finds which commits a session's rows stand for, and their parents. Pure: git is behind a Protocol.

The first row measures the root, unless it was discarded and git does not know it. A row whose hash git still has is
that commit; its parent is the nearest ancestor that has a row, and the code that the commit started from. Of several
rows with one hash, one owns it: agents log HEAD for edits that they did not commit, so the others are experiments
without code, children of that commit, unless they say the same, or that they measure again and assign no other value.
A row without such a hash is matched with a commit of the branch by its description, if it was kept. What is left
(discarded commits, as a rule) is an experiment without code, a child of the commit that was best at the time, among the
rows of its group where several groups have baselines of their own. The same words on the same parent are one
experiment.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from math import inf
from operator import itemgetter
from typing import NamedTuple, Protocol

from coordinator.autoresearch.results_file import MAX_WORDS, ResultRow
from coordinator.autoresearch.statuses import Fate
from coordinator.findings.steps import SEED
from shared.contract import Direction

_WORD, _ASSIGNED = re.compile(r"[^\s=,;()]+"), re.compile(r"(\w+)=([^\s=,;()]+)")
MIN_SUBJECT = 8  # characters of a description or subject that is matched as a part of the other


class BranchHistory(Protocol):
    """The interface of a repository; `ForeignRepository` implements it."""

    def list_branch(self) -> list[str]: ...
    def list_ancestors(self, sha: str) -> Iterator[str]: ...
    def resolve(self, prefix: str) -> str | None: ...
    def read_subject(self, sha: str) -> str: ...
    def identify_code(self, sha: str) -> str: ...


class PlannedRow(NamedTuple):
    """A row and the commit that it measured, by `key`. `source` is its hash in the repository, None without code.
    `parent` is the key of the commit's parent where the row is its first; None for others, and for the root's."""

    row: ResultRow
    key: str
    source: str | None
    parent: str | None


class ImportPlan(NamedTuple):
    """The rows in order. `root` is the repository's commit that the project begins with, and its key; `head` is the
    best commit that was kept and has code. `found` are the commits of lines that name one of the repository, `split`
    the lines of experiments that share another one's hash, `repeats` those that measure a commit again, and `orphans`
    those that name a parent which is no row above them."""

    root: str
    steps: list[PlannedRow]
    head: str
    found: Mapping[int, str]
    split: list[int]
    repeats: list[int]
    orphans: list[int]


def make_plan(rows: Sequence[ResultRow], history: BranchHistory, direction: Direction) -> ImportPlan:
    """Order a session's rows into commits and measurements. There is at least one row."""
    return _Planner(rows, history, direction).plan()


class _Planner:
    """Follows a session row by row. `known` are the keys of commits so far, `best` those that were kept, by group."""

    def __init__(self, rows: Sequence[ResultRow], history: BranchHistory, direction: Direction) -> None:
        self._rows, self._history = rows, history
        self._sign = 1.0 if direction == Direction.MINIMIZE else -1.0
        self._sources = _find_sources(rows, history)
        self._root = _find_root(rows, self._sources, history)
        self._owners = _find_owners(rows, self._sources, history)
        self._by_line = {row.line: row for row in rows}
        baselines = {row.group for row in rows if row.is_baseline}
        self._groups = baselines if len(baselines) > 1 else set[str]()
        self._known = {self._root}
        self._best: dict[str, tuple[float, str]] = {}
        self._head = (inf, self._root)
        self._by_words: dict[tuple[str, str], str] = {}
        self._by_name: dict[str, str] = {}
        self._metrics: dict[str, float] = {}
        self._baselines: dict[str, str] = {}
        self._reach = max(map(abs, list_changes(rows, self._sign)), default=inf)
        self._split: list[int] = []
        self._repeats: list[int] = []
        self._orphans: list[int] = []

    def plan(self) -> ImportPlan:
        steps = [self._place(row, is_first=number == 0) for number, row in enumerate(self._rows)]
        return ImportPlan(self._root, steps, self._head[1], self._sources, self._split, self._repeats, self._orphans)

    def _place(self, row: ResultRow, *, is_first: bool) -> PlannedRow:
        source, above = self._sources.get(row.line), self._find_above(row)
        is_lost = source is None and self._root in self._owners  # the repository begins later, with another's commit
        is_first = is_first and not is_lost and (source is not None or row.is_baseline or row.fate == Fate.KEPT)
        key, words = source or f"line {row.line}", _normalise(row.description)
        parent: str | None = above
        if is_first:
            key, parent = self._root, None
        elif source is not None and self._owners[source] != row.line:
            again = self._by_words.get((source, words))
            is_own = source in self._known
            if row.is_repeat and is_own and not _sets_another(row, self._by_line[self._owners[source]]):
                key, parent = source, None
            elif again is not None:
                key, parent = again, None
            elif is_own:
                key, parent = f"line {row.line}", source
                self._split.append(row.line)
                source = None
            else:  # the row that owns the commit comes later
                key, source = f"line {row.line}", None
                self._split.append(row.line)
        elif source is None and (again := self._find_again(row, above, words)):
            key, parent = again, None
        elif source is not None:
            parent = self._find_parent(source) or above
        if key in self._known and not is_first:
            parent = None
            self._repeats.append(row.line)
        self._remember(row, key, parent, words)
        return PlannedRow(row, key, self._root if key == self._root else source if key == source else None, parent)

    def _find_parent(self, source: str) -> str | None:
        """The nearest ancestor that was measured and has the code from which a commit started; else the nearest whose
        change was not taken back in between, as that of a discarded commit is."""
        ancestors = list(islice(self._history.list_ancestors(source), 1, None))
        if not ancestors or ancestors[0] in self._known:
            return next(iter(ancestors), None)
        identify = self._history.identify_code
        known, code = [sha for sha in ancestors if sha in self._known], identify(ancestors[0])
        if same := next((sha for sha in known if identify(sha) == code), None):
            return same
        since = set[str]()  # codes since the last change that was taken back
        for sha, before in zip_longest(ancestors, ancestors[1:]):
            if sha in self._known and (before is None or identify(before) not in since):
                return sha
            since = set() if sha in self._known else since | {identify(sha)}
        return None

    def _find_above(self, row: ResultRow) -> str:
        """The parent of a row without code: the commit that it names, else the best of its group, else the root."""
        named = self._by_name.get(row.parent) or self._history.resolve(row.parent) if row.parent else None
        if named in self._known:
            return named
        if row.parent and self._by_name:  # the first row's is what was there before
            self._orphans.append(row.line)
        group = row.group if row.group in self._groups else ""
        return self._best.get(group, (inf, self._root))[1]

    def _find_again(self, row: ResultRow, above: str, words: str) -> str | None:
        """The commit that a row without code measured again: one of the same words, or what it says to repeat.

        A baseline is the group's first commit, or the best so far, whichever has the nearer metric; a group's own one
        is new where it is further from the first than any change took a metric. What says that it repeats and names
        something else, as `GELU, seed 3` does, repeats what was named, or is new.
        """
        is_first = row.is_baseline and row.group in self._groups and row.group not in self._baselines
        if is_first and row.metric is not None and self._distance(self._root, row.metric) > self._reach:
            return None
        if (same := self._by_words.get((above, words))) or not (row.is_repeat or row.is_baseline):
            return same
        texts = () if row.is_baseline else self._by_words
        named = [text for _, text in texts if len(text) >= MIN_SUBJECT and text != words and _names(words, text)]
        if named:
            return next(key for (_, text), key in self._by_words.items() if text == max(named, key=len))
        first = self._baselines.get(row.group if row.group in self._groups else "")
        if not row.is_baseline or first is None:
            return above if row.is_bare_repeat and not row.is_baseline else None
        return min((above, first), key=lambda key: self._distance(key, row.metric))

    def _distance(self, key: str, metric: float | None) -> float:
        known = self._metrics.get(key)
        return inf if metric is None or known is None else abs(known - metric)

    def _remember(self, row: ResultRow, key: str, parent: str | None, words: str) -> None:
        self._known.add(key)
        self._by_words.setdefault((parent or key, words), key)
        if source := self._sources.get(row.line):
            self._by_words.setdefault((source, words), key)
        self._by_name |= {name: key for name in (row.commit, row.label) if name and name not in self._by_name}
        if row.metric is not None:
            self._metrics.setdefault(key, row.metric)
        if row.is_baseline or key == self._root:
            self._baselines.setdefault(row.group if row.group in self._groups else "", key)
        if row.is_kept and row.metric is not None:
            kept = (self._sign * row.metric, key)
            group = row.group if row.group in self._groups else ""
            is_anew = row.is_baseline and group not in self._best
            best = self._best.get(group, (inf, self._root))
            self._best[group] = kept if is_anew else min(best, kept, key=itemgetter(0))
            if key == self._root or key in self._sources.values():
                self._head = min(self._head, kept, key=itemgetter(0))


def list_changes(rows: Sequence[ResultRow], sign: float) -> Iterator[float]:
    """Differences to the best kept before, below zero where it is better."""
    best: dict[str, float] = {}
    for row in rows:
        if row.metric is None:
            continue
        score, above = sign * row.metric, best.get(row.group)
        if above is not None and score != above:
            yield score - above
        if row.is_kept:
            best[row.group] = score if above is None else min(above, score)


def _normalise(text: str) -> str:
    return " ".join(text[:MAX_WORDS].lower().split())


def _names(words: str, text: str) -> bool:
    """Whether words hold a text whole: `seed 97` does not stand in `seed 970`."""
    return text in words and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", words) is not None


def _sets_another(row: ResultRow, owner: ResultRow) -> bool:
    """Whether a row assigns a value, but a seed's, that does not stand in the words of a commit's own row."""
    known = set(_WORD.findall(_normalise(owner.description)))
    return any(value not in known for name, value in _ASSIGNED.findall(_normalise(row.description)) if name != SEED)


def _find_owners(rows: Sequence[ResultRow], sources: Mapping[int, str], history: BranchHistory) -> dict[str, int]:
    """The line that each commit's code belongs to: whose words its message has, else the first kept, else the first."""
    lines: dict[str, list[ResultRow]] = {}
    for row in rows:
        if row.line in sources:
            lines.setdefault(sources[row.line], []).append(row)
    owners = {}
    for source, own in lines.items():
        subject = history.read_subject(source) if len(own) > 1 else ""
        named = (row for row in own if subject and _describes(row.description, subject))
        kept = (row for row in own if row.fate == Fate.KEPT)
        owners[source] = next(named, next(kept, own[0])).line
    return owners


def _find_sources(rows: Sequence[ResultRow], history: BranchHistory) -> dict[int, str]:
    """The commits of rows by their lines: by hash, or of those that were kept by their description, in order."""
    found = {row.line: sha for row in rows if row.may_be_hash and (sha := history.resolve(row.commit)) is not None}
    branch = history.list_branch()
    position = {sha: number for number, sha in enumerate(branch)}
    taken = set(found.values())
    after = -1
    for row in rows:
        if row.line in found:
            after = max(after, position.get(found[row.line], -1))
        elif row.fate == Fate.KEPT and not row.is_repeat:
            matches = (n for n in range(after + 1, len(branch)) if branch[n] not in taken)
            number = next((n for n in matches if _describes(row.description, history.read_subject(branch[n]))), None)
            if number is not None:
                found[row.line], after = branch[number], number
                taken.add(branch[number])
    return found


def _describes(description: str, subject: str) -> bool:
    one, other = _normalise(description), _normalise(subject)
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
