"""Normalised budgets: the project's seed sees the same number of tokens on each machine of a hardware class. Pure.

In a time-budgeted run a faster machine takes more steps, and how much these help depends on the commit, so no offset of
the worker describes it. A worker measures how many tokens a second the seed sees there, and gets `pace` times the
contract's budget, by which the seed would see the tokens that the class's reference allows.

The volunteer controls the machine, so a throughput is a claim. What a false one wins is bounded: it moves its own
budget by a factor of two at most, and the reference by no more than one vote of a median.
"""

from collections.abc import Iterable
from math import exp, log
from statistics import median

from shared.contract import MAX_PACE, MIN_PACE

SAME_REFERENCE = 0.05
"""A reference that would move by a smaller share stays: each move changes what runs of this class measure."""

MAX_MOVE = 1.25
"""Largest factor by which a reference moves in an epoch; one that was wrong at first is put right in some."""


def choose_pace(reference: float | None, throughput: float | None) -> float:
    """The training budget, in units of the contract's; 1 where the reference or the worker's throughput is unknown."""
    if reference is None or throughput is None:
        return 1.0
    return min(MAX_PACE, max(MIN_PACE, reference / throughput))


def expose(reference: float | None, throughput: float | None, pace: float) -> float:
    """Logarithm of how many tokens the seed would have seen in a run's budget, in units of the reference's; 0 where
    nobody measured it."""
    return 0.0 if reference is None or throughput is None else log(pace * throughput / reference)


def find_reference(votes: Iterable[tuple[int, float]], before: float | None) -> float | None:
    """A class's reference throughput from (volunteer, throughput) of its workers; each volunteer has one vote."""
    by_volunteer: dict[int, list[float]] = {}
    for volunteer_id, throughput in votes:
        by_volunteer.setdefault(volunteer_id, []).append(throughput)
    if not by_volunteer:
        return before
    voted = median(median(of_workers) for of_workers in by_volunteer.values())
    if before is None:
        return voted
    before = min(voted * MAX_PACE, max(voted * MIN_PACE, before))  # beyond, most workers get the same budgets anyway
    move = log(voted / before)
    if abs(move) < SAME_REFERENCE:
        return before
    return before * exp(min(log(MAX_MOVE), max(-log(MAX_MOVE), move)))
