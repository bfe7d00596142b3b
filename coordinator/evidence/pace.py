"""How fast a run learned beside its parent's runs. Pure."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple


class Work(NamedTuple):
    """What a worker's run got through in its seconds of training. A count of 0 is not known."""

    worker_id: int
    tokens: int
    steps: int
    seconds: float


def compare_pace(own: Work, parents: Sequence[Work]) -> float | None:
    """A run's tokens a second over those of its parent's runs (their median), None where that is not known.

    Where the run's own worker measured the parent, its runs alone are looked at: machines of one class differ, too.
    Steps stand in for tokens that a project does not count.
    """
    same = [one for one in parents if one.worker_id == own.worker_id] or parents
    return _divide(own, same, lambda one: one.tokens if own.tokens else one.steps)


def _divide(own: Work, parents: Sequence[Work], count: Callable[[Work], int]) -> float | None:
    rates = [count(one) / one.seconds for one in parents if one.seconds > 0 and count(one) > 0]
    if not rates or own.seconds <= 0 or count(own) <= 0:
        return None
    return count(own) / own.seconds / median(rates)
