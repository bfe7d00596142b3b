"""The early stop: compares a run's training curve with its parent's and stops it when it is hopeless.

A run is **hopeless** once its loss has been above its parent's loss at *two thirds* of the share of the budget, for a
tenth of the budget without a break, and at least half of the budget is used. So a run that is stopped at 60 % of the
budget is behind its parent at 40 %. The run's losses are means over 3 % of the budget, the parent's over 10 %. If the
first losses differ by more than a quarter, the two files log different quantities, and no run is hopeless.

The median stopping rule (Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017) compares
curves at the same share; ours tolerates a run that is half as slow again, because a good idea may start slowly (another
schedule, a larger model, a longer warm-up). The coordinator lets a sample of hopeless runs go on to the end, and shows
how many came out better than their parent.

The loss is reported by the edited file. A false one escapes the stop and gains nothing.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from statistics import fmean

from shared.runs import CurvePoint

DELAY = 1.5
"""A hopeless run is this many times slower than its parent. docs/benchmarks.md compares other values."""

FIRST_SHARE = 0.5
LASTING_SHARE = 0.1
OWN_WINDOW, PARENTS_WINDOW = 0.03, 0.1
CHECK_INTERVAL_SHARE = 0.005
COMPARABLE = 0.25
"""Largest relative difference of the first losses."""


class EarlyStop:
    """Follows one run. `hopeless_at` is the share of the budget at which it became hopeless; `reason` is a sentence."""

    def __init__(self, parent: Sequence[CurvePoint], budget_seconds: float) -> None:
        """`parent` is the parent's curve in order; without one no run is hopeless."""
        self._budget_seconds = budget_seconds
        self._parent_shares = [point.seconds / budget_seconds for point in parent]
        self._parent_losses = [point.loss for point in parent]
        self._window: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self._is_comparable: bool | None = None if parent else False
        self._checked_at = 0.0
        self._behind_since: float | None = None
        self.hopeless_at: float | None = None
        self.reason = ""

    def parent_loss(self, share: float) -> float | None:
        """The parent's mean loss in the tenth of the budget before that share, or None."""
        first = bisect_right(self._parent_shares, share - PARENTS_WINDOW)
        last = bisect_right(self._parent_shares, share)
        return fmean(self._parent_losses[first:last]) if last > first else None

    def add(self, point: CurvePoint) -> None:
        """Add the run's next point."""
        if self._is_comparable is None:
            first = self._parent_losses[0]
            self._is_comparable = abs(point.loss - first) <= COMPARABLE * abs(first)
        if not self._is_comparable or self.hopeless_at is not None:
            return
        share = point.seconds / self._budget_seconds
        self._window.append((share, point.loss))
        self._sum += point.loss
        while self._window[0][0] < share - OWN_WINDOW:
            self._sum -= self._window.popleft()[1]
        if share >= self._checked_at + CHECK_INTERVAL_SHARE:
            self._checked_at = share
            self._check(share, self._sum / len(self._window))

    def _check(self, share: float, loss: float) -> None:
        before = self.parent_loss(share / DELAY)
        if before is None or loss <= before:
            self._behind_since = None
            return
        if self._behind_since is None:
            self._behind_since = share
        if share >= FIRST_SHARE and share - self._behind_since >= LASTING_SHARE:
            self.hopeless_at = min(1.0, share)
            self.reason = (
                f"hopeless: at {share:.0%} of the budget its loss {loss:.4f} was above its parent's at "
                f"{share / DELAY:.0%}, {before:.4f}"
            )
