"""Which findings a context pack quotes. Pure.

A finding weighs relevance × same hardware × what it weighs by itself (evidence and freshness, `shelf.py`), and the more
of one topic were chosen the less one more weighs. Besides the heaviest, a pack has findings of what did not work, and
one that speaks against its line.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.findings.shelf import Shelved, ShelvedFinding
from shared.experiments import Verdict

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
    on_line = order[known.mark_topics(about.line)[order]].tolist()
    contrarian = next((at for at in on_line if speaks_against(known.findings[at], about)), None)
    order = order[order != contrarian]
    is_negative = known.negative[order]

    def pick(places: NDArray[Any], limit: int) -> list[ShelvedFinding]:
        one_by_one = zip(weights[places].tolist(), map(known.findings.__getitem__, places.tolist()), strict=True)
        return list(_diversify(one_by_one, limit))

    against = None if contrarian is None else known.findings[contrarian]
    return Choice(pick(order[~is_negative], BEST), pick(order[is_negative], NEGATIVE), against)


def weigh(known: Shelved, about: Subject) -> NDArray[Any]:
    """How much each finding has to say to a job."""
    relevance = np.maximum(UNRELATED, known.count_shared(about.words) / known.roots)
    hardware = np.full(len(relevance), OTHER_HARDWARE)
    hardware[known.list_of_class(about.hardware_class)] = 1.0
    weights: NDArray[Any] = relevance * known.weights * hardware
    return weights


def speaks_against(one: ShelvedFinding, about: Subject) -> bool:
    """Whether it is on a topic of the line, and came out otherwise there."""
    side = about.line.get(one.topic)
    if side is None or one.effect_mean is None or one.verdict in (None, Verdict.UNRESOLVED):
        return False
    return one.verdict == Verdict.NO_CHANGE or (1 if about.sign * one.effect_mean > 0 else -1) != side


def _diversify(weighed: Iterable[tuple[float, ShelvedFinding]], limit: int) -> Iterator[ShelvedFinding]:
    """The weightiest, where each one more of the same topic weighs half as much; `weighed` begins with the heaviest.

    Of each topic only the heaviest that is left is compared with others. Nothing behind the first of the `limit`th
    topic is looked at: until the end some topic before it has nothing chosen, and that one's first is heavier.
    """
    topics: dict[str, list[tuple[float, int, ShelvedFinding]]] = {}
    for place, (weight, one) in enumerate(weighed):
        topics.setdefault(one.topic, []).append((-weight, place, one))
        if len(topics) == limit:
            break
    waiting = [own[0] for own in topics.values()]  # which is a heap, for it begins with the heaviest
    chosen = Counter[str]()
    for _ in range(limit):
        if not waiting:
            return
        _, _, one = heappop(waiting)
        chosen[one.topic] += 1
        own, count = topics[one.topic], chosen[one.topic]
        if count < len(own):
            weight, place, following = own[count]
            heappush(waiting, (weight * 0.5**count, place, following))
        yield one
