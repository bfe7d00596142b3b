"""Bins of runs: how wide they are, and how they are put together. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

MAX_BINS = 600
"""Largest number of bins of a hardware class, and of marks in a picture of its progress."""

OUTCOMES = ("ok", "crashed", "timeout", "stopped_early", "invalid")


class Bin(NamedTuple):
    """Consecutive runs of a class, as `models.StoredBin` describes them."""

    number: int
    first_run_id: int
    last_run_id: int
    runs: int
    ok: int
    crashed: int
    timeout: int
    stopped_early: int
    invalid: int
    best: float | None
    best_run_id: int | None
    leading: float | None


def choose_width(runs: int) -> int:
    """The smallest power of two with which so many runs need at most MAX_BINS bins."""
    width = 1
    while width * MAX_BINS < runs:
        width *= 2
    return width


def join(earlier: Bin, later: Bin, sign: float) -> Bin:
    """Two neighbours as one bin. `sign` is 1 where a lower metric is better, else -1."""
    costs = [(sign * one.best, one.best_run_id, one.best) for one in (earlier, later) if one.best is not None]
    _, best_run_id, best = min(costs, default=(0.0, None, None))
    counts = {name: getattr(earlier, name) + getattr(later, name) for name in ("runs", *OUTCOMES)}
    leading = earlier.leading if later.leading is None else later.leading
    return earlier._replace(
        last_run_id=later.last_run_id, best=best, best_run_id=best_run_id, leading=leading, **counts
    )


def widen(bins: Iterable[Bin], factor: int, sign: float) -> list[Bin]:
    """Bins of `factor` times the width, a power of two."""
    return add([], (one._replace(number=one.number // factor) for one in bins), sign)


def add(bins: Sequence[Bin], later: Iterable[Bin], sign: float) -> list[Bin]:
    """Bins followed by later ones of the same width, of which the first may belong to the last of them."""
    joined = list(bins)
    for one in later:
        if joined and joined[-1].number == one.number:
            joined[-1] = join(joined[-1], one, sign)
        else:
            joined.append(one)
    return joined


def set_leading(bins: Sequence[Bin], new: int, before: float | None, now: float | None, sign: float) -> list[Bin]:
    """Bins of which those from the index `new` on hold, as `leading`, the best metric among their own runs' commits.

    They get the better of that and of what led `before`; the last one gets what leads `now`.
    """
    done = list(bins[:new])
    for one in bins[new:]:
        known = [value for value in (before, one.leading) if value is not None]
        before = min(known, key=lambda value: sign * value, default=None)
        done.append(one._replace(leading=before))
    if done and now is not None:
        done[-1] = done[-1]._replace(leading=now)
    return done
