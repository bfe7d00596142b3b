"""Which findings a context pack quotes. Pure.

A finding weighs relevance × same hardware × what it weighs by itself (evidence and freshness, `shelf.py`), and the more
of one topic were chosen the less one more weighs. Besides the heaviest, a pack has findings of what did not work, and
one that speaks against its line.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import heappop, heapreplace
from math import sqrt
from operator import itemgetter
from typing import NamedTuple

from coordinator.findings.shelf import ShelvedFinding
from shared.experiments import Verdict

BEST, NEGATIVE = 12, 5
OTHER_HARDWARE = 0.5

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


Weighed = tuple[float, int, ShelvedFinding]
"""A finding's weight, negative so that a heap has the heaviest first, and its place among all, which decides ties."""


class Choice(NamedTuple):
    """Findings to quote, the weightiest first; None where nothing speaks against the line."""

    best: list[ShelvedFinding]
    negative: list[ShelvedFinding]
    contrarian: ShelvedFinding | None


def choose(known: Sequence[ShelvedFinding], about: Subject) -> Choice:
    """What to quote of the findings on the shelf."""
    weighed = [(-weigh(one, about), -one.id, one) for one in known if one.experiment_id not in about.quoted]
    weighed.sort(key=itemgetter(0, 1))
    contrarian = next((one for _, _, one in weighed if speaks_against(one, about)), None)
    good: list[Weighed] = []
    negative: list[Weighed] = []
    for place, (weight, _, one) in enumerate(weighed):
        if one is not contrarian:
            (negative if is_negative(one) else good).append((weight, place, one))
    return Choice(list(_diversify(good, BEST)), list(_diversify(negative, NEGATIVE)), contrarian)


def weigh(one: ShelvedFinding, about: Subject) -> float:
    """How much a finding has to say to a job."""
    shared = len(one.words & about.words)
    relevance = max(UNRELATED, shared / sqrt(len(one.words))) if shared else UNRELATED
    return relevance * one.weight * (1.0 if one.hardware_class == about.hardware_class else OTHER_HARDWARE)


def is_negative(one: ShelvedFinding) -> bool:
    """Whether it tells of something that did not help."""
    return one.failure is not None or one.verdict in (Verdict.NO_CHANGE, Verdict.WORSE)


def speaks_against(one: ShelvedFinding, about: Subject) -> bool:
    """Whether it is on a topic of the line, and came out otherwise there."""
    side = about.line.get(one.topic)
    if side is None or one.effect_mean is None or one.verdict in (None, Verdict.UNRESOLVED):
        return False
    return one.verdict == Verdict.NO_CHANGE or (1 if about.sign * one.effect_mean > 0 else -1) != side


def _diversify(waiting: list[Weighed], limit: int) -> Iterator[ShelvedFinding]:
    """The weightiest, where each one more of the same topic weighs half as much; `waiting` is a heap, and used up.

    Weights only fall: if the one at the top is as heavy as it was thought to be, nothing is heavier.
    """
    own = {one.id: weight for weight, _, one in waiting}
    chosen = Counter[str]()
    for _ in range(limit):
        while waiting:
            weight, place, one = waiting[0]
            present = own[one.id] * 0.5 ** chosen[one.topic]
            if present == weight:
                break
            heapreplace(waiting, (present, place, one))
        else:
            return
        heappop(waiting)
        chosen[one.topic] += 1
        yield one
