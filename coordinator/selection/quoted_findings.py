"""The findings that a context pack quotes: by weight, diversified, with the worst failures and one against the line."""

from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.findings.candidates import CandidateFinding, CandidateSet

BEST, NEGATIVE, WORST = 12, 5, 3
OTHER_HARDWARE = 0.5

LEFT_OUT = -1.0  # replaces the weight of a finding that must not be quoted; weights are not negative
UNRELATED = 0.1  # relevance of a finding that shares no word with the job


class Subject(NamedTuple):
    """A job's words, and the sign of the effect of each topic in its line; -1 is a gain. `quoted` are experiments that
    other parts of the pack describe."""

    words: frozenset[str]
    line: dict[str, int]
    quoted: frozenset[int]
    hardware_class: str
    sign: float


class Choice(NamedTuple):
    """Findings to quote, the best by weight, the negative ones by what they cost; `contrarian` is evidence against the
    job's line."""

    best: list[CandidateFinding]
    negative: list[CandidateFinding]
    contrarian: CandidateFinding | None


def choose(known: CandidateSet, about: Subject) -> Choice:
    """Choose the findings to quote."""
    weights = weigh(known, about)
    weights[known.list_of(about.quoted)] = LEFT_OUT
    order = np.argsort(-weights, kind="stable")  # of equal weights, the newest first
    order = order[weights[order] > LEFT_OUT]
    against = order[mark_against(known, about)[order]][:1]
    order = order[order != against] if len(against) else order
    is_negative = known.negative[order]
    best, negative = (
        [known.findings[at] for at in _diversify(places, weights[places], known.topics[places], limit)]
        for places, limit in ((order[~is_negative], BEST), (order[is_negative], NEGATIVE))
    )
    harmful = order[is_negative]
    by_cost = harmful[np.argsort(known.sds[harmful] - about.sign * known.effects[harmful], kind="stable")[:WORST]]
    negative = list({one.id: one for one in (*(known.findings[at] for at in by_cost), *negative)}.values())
    negative.sort(key=lambda one: -measure_cost(one, about.sign))
    return Choice(best, negative, known.findings[against[0]] if len(against) else None)


def measure_cost(one: CandidateFinding, sign: float) -> float:
    """By how much a change is surely worse, in the metric's unit. One that gave no number comes last."""
    if one.effect_mean is None:
        return -inf
    return sign * one.effect_mean - (one.effect_sd or 0.0)


def weigh(known: CandidateSet, about: Subject) -> NDArray[Any]:
    """The weight of each finding for a job."""
    relevance = np.maximum(UNRELATED, known.count_shared(about.words) / known.roots)
    hardware = np.full(len(relevance), OTHER_HARDWARE)
    hardware[known.list_of_class(about.hardware_class)] = 1.0
    weights: NDArray[Any] = relevance * known.weights * hardware
    return weights


def mark_against(known: CandidateSet, about: Subject) -> NDArray[Any]:
    """Marks the findings on a topic of the line whose effect differs from the line's."""
    sides = known.look_up_topics(about.line)
    effects = np.where(about.sign * known.effects > 0, 1, -1)
    against: NDArray[Any] = (sides != 0) & known.resolved & (known.unchanged | (effects != sides))
    return against


def _diversify(places: NDArray[Any], weights: NDArray[Any], topics: NDArray[Any], limit: int) -> Iterator[int]:
    """The `limit` heaviest, where each further one of a topic weighs half as much; `weights` are in falling order."""
    _, firsts = np.unique(topics, return_index=True)
    firsts = np.sort(firsts)[:limit]  # until the end one of these is unused, and outweighs later topics
    members = {int(topics[first]): np.flatnonzero(topics == topics[first])[:limit].tolist() for first in firsts}
    waiting = [(-float(weights[ranks[0]]), ranks[0], topic) for topic, ranks in members.items()]  # sorted, so a heap
    chosen = Counter[int]()
    for _ in range(limit):
        if not waiting:
            return
        _, rank, topic = heappop(waiting)
        chosen[topic] += 1
        ranks, count = members[topic], chosen[topic]
        if count < len(ranks):
            following = ranks[count]
            heappush(waiting, (-float(weights[following]) * 0.5**count, following, topic))
        yield int(places[rank])
