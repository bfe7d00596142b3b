"""Which findings a context pack quotes. Pure.

A finding weighs relevance × same hardware × what it weighs by itself (evidence and freshness, `shelf.py`), and the more
of one topic were chosen the less one more weighs. Besides the heaviest, a pack has findings of what did not work, and
one that speaks against its line.
"""

from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.findings.candidates import Shelved, ShelvedFinding

BEST, NEGATIVE = 12, 5
OTHER_HARDWARE = 0.5

LEFT_OUT = -1.0
"""In the place of the weight of a finding that is not to be quoted; weights are not negative."""

UNRELATED = 0.1
"""The relevance of a finding that shares no word with what the job is about."""


class Subject(NamedTuple):
    """What a job is about: words of its line, branch and task; each topic of its line with the sign of its effect.

    Signs are turned so that -1 is a gain. `quoted` are experiments that the pack tells of elsewhere.
    """

    words: frozenset[str]
    line: dict[str, int]
    quoted: frozenset[int]
    hardware_class: str
    sign: float


class Choice(NamedTuple):
    """Findings to quote, the weightiest first; None where nothing speaks against the line."""

    best: list[ShelvedFinding]
    negative: list[ShelvedFinding]
    contrarian: ShelvedFinding | None


def choose(known: Shelved, about: Subject) -> Choice:
    """What to quote of the findings on the shelf."""
    weights = weigh(known, about)
    weights[known.list_of(about.quoted)] = LEFT_OUT
    # The newest come first, and a stable sort leaves them so among those of one weight.
    order = np.argsort(-weights, kind="stable")
    order = order[weights[order] > LEFT_OUT]
    against = order[speak_against(known, about)[order]][:1]
    order = order[order != against] if len(against) else order
    is_negative = known.negative[order]
    best, negative = (
        [known.findings[at] for at in _diversify(places, weights[places], known.topics[places], limit)]
        for places, limit in ((order[~is_negative], BEST), (order[is_negative], NEGATIVE))
    )
    return Choice(best, negative, known.findings[against[0]] if len(against) else None)


def weigh(known: Shelved, about: Subject) -> NDArray[Any]:
    """How much each finding has to say to a job."""
    relevance = np.maximum(UNRELATED, known.count_shared(about.words) / known.roots)
    hardware = np.full(len(relevance), OTHER_HARDWARE)
    hardware[known.list_of_class(about.hardware_class)] = 1.0
    weights: NDArray[Any] = relevance * known.weights * hardware
    return weights


def speak_against(known: Shelved, about: Subject) -> NDArray[Any]:
    """Which of them are on a topic of the line, and came out otherwise there."""
    sides = known.look_up_topics(about.line)
    came_out = np.where(about.sign * known.effects > 0, 1, -1)
    against: NDArray[Any] = (sides != 0) & known.resolved & (known.unchanged | (came_out != sides))
    return against


def _diversify(places: NDArray[Any], weights: NDArray[Any], topics: NDArray[Any], limit: int) -> Iterator[int]:
    """The weightiest, where each one more of the same topic weighs half as much; `weights` begin with the heaviest.

    Of each topic only the heaviest that is left is compared with others. Only the first `limit` topics are looked at:
    until the end one of them has nothing chosen, and its heaviest is heavier than all of further topics.
    """
    _, firsts = np.unique(topics, return_index=True)
    firsts = np.sort(firsts)[:limit]
    members = {int(topics[first]): np.flatnonzero(topics == topics[first])[:limit].tolist() for first in firsts}
    waiting = [(-float(weights[ranks[0]]), ranks[0], topic) for topic, ranks in members.items()]
    # That is a heap, for it begins with the heaviest.
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
