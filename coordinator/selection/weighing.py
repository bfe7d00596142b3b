"""Which findings a context pack quotes. Pure.

A finding weighs relevance × evidence × same hardware × freshness, and the more of one topic were chosen the less one
more weighs. Besides the heaviest, a pack has findings of what did not work, and one that speaks against its line.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from math import exp2, sqrt
from typing import NamedTuple

from coordinator.findings.shelf import ShelvedFinding
from shared.experiments import Verdict

BEST, NEGATIVE = 12, 5
OTHER_HARDWARE = 0.5
HALF_LIFE_DAYS, STALEST = 30.0, 0.25
"""A finding's freshness halves in so many days, and does not fall below a quarter."""

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

    @property
    def ids(self) -> list[int]:
        """All of them."""
        every = [*self.best, *self.negative, *([self.contrarian] if self.contrarian else [])]
        return [finding.id for finding in every]


def choose(known: Sequence[ShelvedFinding], about: Subject, moment: datetime) -> Choice:
    """What to quote of the findings on the shelf."""
    weights = {one.id: weigh(one, about, moment) for one in known if one.experiment_id not in about.quoted}
    ordered = sorted((one for one in known if one.id in weights), key=lambda one: (-weights[one.id], -one.id))
    contrarian = next((one for one in ordered if speaks_against(one, about)), None)
    rest = [one for one in ordered if one is not contrarian]
    negative = list(_diversify([one for one in rest if is_negative(one)], weights, NEGATIVE))
    left = [one for one in rest if one not in negative and not is_negative(one)]
    return Choice(list(_diversify(left, weights, BEST)), negative, contrarian)


def weigh(one: ShelvedFinding, about: Subject, moment: datetime) -> float:
    """How much a finding has to say to a job."""
    shared = len(one.words & about.words)
    relevance = max(UNRELATED, shared / sqrt(max(1, len(one.words))))
    hardware = 1.0 if one.hardware_class == about.hardware_class else OTHER_HARDWARE
    days = max(0.0, (moment - one.created_at).total_seconds() / 86_400)
    return relevance * _evidence(one) * hardware * max(STALEST, exp2(-days / HALF_LIFE_DAYS))


def _evidence(one: ShelvedFinding) -> float:
    """From 0 to 1: how far the effect is from what noise gives, and whether others measured it."""
    if one.effect_mean is None or not one.effect_sd:
        return 0.2
    deviations = abs(one.effect_mean) / one.effect_sd
    return (0.2 + deviations / (1 + deviations)) / 1.2 * (1 + (one.checkers or 0)) / (2 + (one.checkers or 0))


def is_negative(one: ShelvedFinding) -> bool:
    """Whether it tells of something that did not help."""
    return one.failure is not None or one.verdict in (Verdict.NO_CHANGE, Verdict.WORSE)


def speaks_against(one: ShelvedFinding, about: Subject) -> bool:
    """Whether it is on a topic of the line, and came out otherwise there."""
    side = about.line.get(one.topic)
    if side is None or one.effect_mean is None or one.verdict in (None, Verdict.UNRESOLVED):
        return False
    return one.verdict == Verdict.NO_CHANGE or (1 if about.sign * one.effect_mean > 0 else -1) != side


def _diversify(ordered: Sequence[ShelvedFinding], weights: dict[int, float], limit: int) -> Iterator[ShelvedFinding]:
    """The weightiest, where each one more of the same topic weighs half as much."""
    left, chosen = list(ordered), Counter[str]()
    for _ in range(min(limit, len(left))):
        best = max(left, key=lambda one: weights[one.id] * 0.5 ** chosen[one.topic])
        left.remove(best)
        chosen[best.topic] += 1
        yield best
