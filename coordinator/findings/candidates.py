"""The findings that context packs choose from: the newest, and those of the best commits, cached for some seconds.

A claim must not read thousands of rows, and a pack may quote findings as they were some seconds ago.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from math import exp2, inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, func, select

from coordinator.db.cache import TimedCache
from coordinator.db.engine import Conn
from coordinator.experiments.lookup import write_claim
from coordinator.experiments.tokenizer import list_words
from coordinator.findings.paper_queries import count_gains
from coordinator.findings.pooling import DOUBTED, Shift, estimate_levels, find_old, list_gaps, read_number
from coordinator.lineage.commits import map_nearest
from coordinator.models import CommitPosterior, Experiment, Finding, table_of
from coordinator.models.base import is_of_class, is_of_commit
from coordinator.models.findings import IS_SHOWN
from shared.claims import drop_numbers
from shared.experiments import JobKind, Standing, Verdict
from shared.protocol import now
from shared.topics import GainFates


class CandidateFinding(NamedTuple):
    """A finding as packs weigh and quote it. `words` are those of title, claim and topic; a `claim` that says no more
    than title and result is None.

    The effect is that in the requested hardware class if it was measured there, else in the finding's own. `weight`,
    from 0 to 1, does not depend on the job: it is evidence times freshness. A step began from `old`, if that is known.
    """

    id: int
    experiment_id: int
    title: str
    claim: str | None
    topic: str
    hardware_class: str
    failure: str | None
    pace: float | None
    effect_mean: float | None
    effect_sd: float | None
    runs: int | None
    checkers: int | None
    verdict: str | None
    created_at: datetime
    words: frozenset[str]
    weight: float
    axis: str = ""
    value: str = ""
    kind: str = JobKind.IMPROVE
    metric_mean: float | None = None
    metric_sd: float | None = None
    standing: str | None = None
    sha: str = ""
    parent_sha: str = ""
    old: str = ""


def is_negative(one: CandidateFinding) -> bool:
    """Whether the change did not help."""
    return one.failure is not None or one.verdict in (Verdict.NO_CHANGE, Verdict.WORSE)


class CandidateSet:
    """Findings, newest first, with indexes by word, class and experiment. Arrays have one element a finding.

    `weights` are the findings' own, `roots` the square roots of their word counts. `negative` marks changes that did
    not help, `resolved` those with a resolved effect, `unchanged` the verdict `no_change`. Where unknown, `effects` are
    0 and their `sds` infinite. `topics` holds a number for each topic, and `topic_names` all in one text. `gains` are
    the project's that were seen in one run.
    """

    def __init__(self, findings: Collection[CandidateFinding], gains: GainFates | None = None) -> None:
        self.gains = gains
        self._gaps: list[str] | None = None
        self.findings: Sequence[CandidateFinding] = sorted(findings, key=lambda one: -one.id)
        self.weights = np.array([one.weight for one in self.findings])
        self.roots = np.sqrt([max(1, len(one.words)) for one in self.findings])
        self.negative = np.array([is_negative(one) for one in self.findings], dtype=bool)
        self.resolved = np.array([_is_resolved(one) for one in self.findings], dtype=bool)
        self.effects = np.array([one.effect_mean or 0.0 for one in self.findings])
        self.sds = np.array([inf if one.effect_mean is None else one.effect_sd or 0.0 for one in self.findings])
        self.unchanged = np.array([one.verdict == Verdict.NO_CHANGE for one in self.findings], dtype=bool)
        self._numbers = {topic: at for at, topic in enumerate({one.topic for one in self.findings})}
        self.topic_names = "\n".join(self._numbers)
        self.topics = np.array([self._numbers[one.topic] for one in self.findings], dtype=np.int16)
        self._by_word = _find_places((word, at) for at, one in enumerate(self.findings) for word in one.words)
        self._by_class = _find_places((one.hardware_class, at) for at, one in enumerate(self.findings))
        self._by_experiment = {one.experiment_id: at for at, one in enumerate(self.findings)}

    def list_gaps(self, sign: float) -> list[str]:
        """Values that nobody tried, in a line each, those of the axes with the largest gains first."""
        if self._gaps is None:
            steps, failed = defaultdict[str, list[Shift]](list), defaultdict[str, dict[float, float]](dict)
            axes = {one.topic: one.axis for one in self.findings}
            for one in self.findings:
                new = read_number(one.value)
                if new is not None and one.effect_mean is None:
                    failed[one.topic][new] = inf
                elif new is not None and one.effect_mean is not None and one.effect_sd and one.standing not in DOUBTED:
                    steps[one.topic].append(Shift(read_number(one.old), new, sign * one.effect_mean, one.effect_sd))
            levels = {name: {one.value: one.mean for one in estimate_levels(steps[name])} for name in steps}
            by_gain = sorted(levels, key=lambda name: min(levels[name].values(), default=0.0))
            gaps = ((axes[name], list_gaps(failed[name] | levels[name])) for name in by_gain)
            self._gaps = [f"{axis} at {gap.value}: {gap.why}" for axis, found in gaps for gap in found]
        return self._gaps

    def count_shared(self, words: Collection[str]) -> NDArray[Any]:
        """The number of the words that each finding has."""
        known = [self._by_word[word] for word in words if word in self._by_word]
        if not known:
            return np.zeros(len(self.findings), dtype=np.int64)
        return np.bincount(np.concatenate(known), minlength=len(self.findings))

    def list_of_class(self, hardware_class: str) -> NDArray[Any]:
        """The places of findings that were measured in a class."""
        return self._by_class.get(hardware_class, _NONE)

    def look_up_topics(self, values: Mapping[str, int]) -> NDArray[Any]:
        """For each finding the value of its topic; 0 where there is none."""
        found = np.zeros(len(self._numbers), dtype=np.int64)
        for topic, value in values.items():
            if topic in self._numbers:
                found[self._numbers[topic]] = value
        return found[self.topics]

    def list_of(self, experiment_ids: Collection[int]) -> list[int]:
        """The places of the experiments' findings; each experiment has one."""
        return [self._by_experiment[number] for number in experiment_ids if number in self._by_experiment]


def _is_resolved(one: CandidateFinding) -> bool:
    return one.effect_mean is not None and one.verdict not in (None, Verdict.UNRESOLVED)


_NONE: NDArray[Any] = np.empty(0, dtype=np.int16)


def _find_places(pairs: Iterator[tuple[Hashable, int]]) -> Mapping[Hashable, NDArray[Any]]:
    """The places of each key, as views into one array."""
    lists: dict[Hashable, list[int]] = {}
    for key, at in pairs:
        lists.setdefault(key, []).append(at)
    every = np.array([at for places in lists.values() for at in places], dtype=np.int16)
    found, start = {}, 0
    for key, places in lists.items():
        found[key] = every[start : start + len(places)]
        start += len(places)
    return found


NEWEST, BEST = 256, 32
"""Number of the newest findings, and for each standing of the best commits' findings."""

STANDINGS = (Standing.VERIFIED, Standing.CORROBORATED, Standing.SINGLE_OWNER, Standing.PROVISIONAL)
LINE_LOOKED_AT = 32
"""Number of ancestors among which a value is looked for."""

MAX_AGE_SECONDS, MAX_CACHED = 10.0, 256
"""Age after which the candidates of a project and class are read again, and the number of cached ones."""

HALF_LIFE, STALEST = timedelta(days=30), 0.25
"""A finding's freshness halves in this time, and does not fall below a quarter."""

_FINDINGS, _EXPERIMENTS, _POSTERIORS = table_of(Finding), table_of(Experiment), table_of(CommitPosterior)
_IS_OWN_CLASS = is_of_commit(_POSTERIORS.c, _EXPERIMENTS.c.commit_sha, _FINDINGS.c.hardware_class)


_COLUMNS = select(
    _FINDINGS.c.id,
    _FINDINGS.c.experiment_id,
    _EXPERIMENTS.c.title,
    _FINDINGS.c.claim,
    _EXPERIMENTS.c.topic,
    func.coalesce(_POSTERIORS.c.hardware_class, _FINDINGS.c.hardware_class),
    *(_FINDINGS.c[name] for name in ("failure", "pace")),
    *(_POSTERIORS.c[name] for name in ("effect_mean", "effect_sd", "runs", "checkers", "verdict")),
    _FINDINGS.c.created_at,
    *(_POSTERIORS.c[name] for name in ("metric_mean", "metric_sd", "standing")),
    *(_EXPERIMENTS.c[name] for name in ("axis", "value", "kind", "commit_sha", "parent_sha")),
)
_NEWEST = (
    _COLUMNS.select_from(
        _FINDINGS.join(_EXPERIMENTS, _EXPERIMENTS.c.id == _FINDINGS.c.experiment_id).outerjoin(
            _POSTERIORS, _IS_OWN_CLASS
        )
    )
    .where(_FINDINGS.c.project_id == bindparam("project_id"), IS_SHOWN)
    .order_by(_FINDINGS.c.id.desc())
    .limit(NEWEST)
)
_BEST = (
    _COLUMNS.select_from(
        _POSTERIORS.join(_EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _POSTERIORS.c.commit_sha).join(
            _FINDINGS, _FINDINGS.c.experiment_id == _EXPERIMENTS.c.id
        )
    )
    .where(is_of_class(_POSTERIORS.c), _POSTERIORS.c.standing == bindparam("standing"), IS_SHOWN)
    .order_by(_POSTERIORS.c.rank_score, _POSTERIORS.c.commit_sha)
    .limit(BEST)
)


_kept = TimedCache[tuple[int, str], CandidateSet](MAX_CACHED)


def read_candidates(session: Conn, project_id: int, hardware_class: str) -> CandidateSet:
    """The newest findings of a project, and those of the best commits in a hardware class."""

    def read() -> CandidateSet:
        gains = count_gains(session, project_id)
        return CandidateSet(_list_candidates(session, project_id, hardware_class), gains)

    return _kept.read(session, (project_id, hardware_class), MAX_AGE_SECONDS, read)


def forget(session: Conn) -> None:
    """Have this process read all candidates anew; others do so within MAX_AGE_SECONDS."""
    _kept.clear(session)


def _list_candidates(session: Conn, project_id: int, hardware_class: str) -> Sequence[CandidateFinding]:
    rows = list(session.execute(_NEWEST, {"project_id": project_id}))
    for standing in STANDINGS:  # one statement for each, so that an index gives the rows in order
        given = {"project_id": project_id, "hardware_class": hardware_class, "standing": standing}
        rows += session.execute(_BEST, given)
    moment = now()
    made = [_make_candidate(row, moment) for row in {row[0]: row for row in rows}.values()]
    values = defaultdict[str, dict[str, str]](dict)
    for one in made:
        values[one.topic][one.sha] = one.value
    named = [one._replace(old=find_old(one.title, one.value)) for one in made]
    unnamed = defaultdict[str, set[str]](set)
    for one in named:
        if not one.old:
            unnamed[one.topic].add(one.parent_sha)
    traced = {topic: trace_values(session, parents, values[topic]) for topic, parents in unnamed.items()}
    return [one if one.old else one._replace(old=traced[one.topic].get(one.parent_sha, "")) for one in named]


def trace_values(session: Conn, shas: Collection[str], values: Mapping[str, str]) -> dict[str, str]:
    """For commits the nearest one of the `values` of commits: its own, or that of an ancestor. Some may have none."""
    return {sha: values[nearest] for sha, nearest in map_nearest(session, shas, values, LINE_LOOKED_AT).items()}


def _make_candidate(columns: tuple[Any, ...], moment: datetime) -> CandidateFinding:
    *row, metric_mean, metric_sd, standing, axis, value, kind, sha, parent_sha = columns
    _, _, title, claim, topic, *_ = row
    words = words_of(f"{title} {drop_numbers(claim)} {topic}")
    last = (words, 0.0, axis, value, kind, metric_mean, metric_sd, standing, sha, parent_sha, "")
    one = CandidateFinding._make((*row, *last))
    one = one._replace(claim=write_claim(claim, title, one._asdict()))
    evidence = weigh_evidence(one.effect_mean, one.effect_sd, one.checkers or 0)
    return one._replace(weight=evidence * weigh_age(moment - one.created_at))


def weigh_evidence(effect_mean: float | None, effect_sd: float | None, checkers: int) -> float:
    """From 0 to 1: the effect against its noise, and whether others measured it."""
    if effect_mean is None or not effect_sd:
        return 0.2
    deviations = abs(effect_mean) / effect_sd
    return (0.2 + deviations / (1 + deviations)) / 1.2 * (1 + checkers) / (2 + checkers)


def weigh_age(age: timedelta) -> float:
    """A finding's freshness, from 1 when it is new down to STALEST."""
    return max(STALEST, exp2(-max(0.0, age / HALF_LIFE)))


@lru_cache(maxsize=8_192)
def words_of(text: str) -> frozenset[str]:
    """The words of a text, cached, because the same findings are read again and again."""
    return frozenset(list_words(text))
