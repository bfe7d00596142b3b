"""Findings as they stand on a shelf, so that all of them can be weighed at once. Pure."""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.experiments import Verdict


class ShelvedFinding(NamedTuple):
    """A finding as packs weigh and quote it. `words` are those of title, claim and topic.

    The effect is in the asked hardware class where it was measured there, else in the finding's own. `weight` is what
    it weighs whatever the job is about, from 0 to 1: its evidence times its freshness.
    """

    id: int
    experiment_id: int
    title: str
    claim: str
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


def is_negative(one: ShelvedFinding) -> bool:
    """Whether it tells of something that did not help."""
    return one.failure is not None or one.verdict in (Verdict.NO_CHANGE, Verdict.WORSE)


class Shelved:
    """Findings, the newest first, and where among them what they share is found. Arrays have a number for each.

    `weights` are those that they have by themselves, `roots` the square roots of their counts of words, `negative` says
    which of them tell of something that did not help, `effects` are 0 where none was resolved, and `unchanged` marks
    those with the verdict that there was none. `topics` are numbers, each of one topic.
    """

    def __init__(self, findings: Collection[ShelvedFinding]) -> None:
        self.findings: Sequence[ShelvedFinding] = sorted(findings, key=lambda one: -one.id)
        self.weights = np.array([one.weight for one in self.findings])
        self.roots = np.sqrt([max(1, len(one.words)) for one in self.findings])
        self.negative = np.array([is_negative(one) for one in self.findings], dtype=bool)
        self.resolved = np.array([_is_resolved(one) for one in self.findings], dtype=bool)
        self.effects = np.array([one.effect_mean or 0.0 for one in self.findings])
        self.unchanged = np.array([one.verdict == Verdict.NO_CHANGE for one in self.findings], dtype=bool)
        self._numbers = {topic: at for at, topic in enumerate({one.topic for one in self.findings})}
        self.topics = np.array([self._numbers[one.topic] for one in self.findings], dtype=np.int16)
        self._by_word = _find_places((word, at) for at, one in enumerate(self.findings) for word in one.words)
        self._by_class = _find_places((one.hardware_class, at) for at, one in enumerate(self.findings))
        self._by_experiment = {one.experiment_id: at for at, one in enumerate(self.findings)}

    def count_shared(self, words: Collection[str]) -> NDArray[Any]:
        """How many of the words each finding has."""
        known = [self._by_word[word] for word in words if word in self._by_word]
        if not known:
            return np.zeros(len(self.findings), dtype=np.int64)
        return np.bincount(np.concatenate(known), minlength=len(self.findings))

    def list_of_class(self, hardware_class: str) -> NDArray[Any]:
        """The places of those that were measured in a class."""
        return self._by_class.get(hardware_class, _NONE)

    def look_up_topics(self, values: Mapping[str, int]) -> NDArray[Any]:
        """For each finding the value of its topic, 0 where there is none."""
        found = np.zeros(len(self._numbers), dtype=np.int64)
        for topic, value in values.items():
            if topic in self._numbers:
                found[self._numbers[topic]] = value
        return found[self.topics]

    def list_of(self, experiment_ids: Collection[int]) -> list[int]:
        """The places of those of one of the experiments, each of which has one finding."""
        return [self._by_experiment[number] for number in experiment_ids if number in self._by_experiment]


def _is_resolved(one: ShelvedFinding) -> bool:
    return one.effect_mean is not None and one.verdict not in (None, Verdict.UNRESOLVED)


_NONE: NDArray[Any] = np.empty(0, dtype=np.int16)


def _find_places(pairs: Iterator[tuple[Hashable, int]]) -> Mapping[Hashable, NDArray[Any]]:
    """The places of each key, together in one array, which the parts of the mapping share."""
    lists: dict[Hashable, list[int]] = {}
    for key, at in pairs:
        lists.setdefault(key, []).append(at)
    every = np.array([at for places in lists.values() for at in places], dtype=np.int16)
    found, start = {}, 0
    for key, places in lists.items():
        found[key] = every[start : start + len(places)]
        start += len(places)
    return found
