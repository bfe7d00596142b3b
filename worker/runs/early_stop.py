"""The early stop: whether a run may still come out as well as its parent, judged by both training curves.

A run is **hopeless** once its loss has been above what its parent's was at *two thirds* of the share of the budget, for
a tenth of the budget on end, and not before half of it. So a run that is stopped at 60 % of the budget is behind where
its parent was at 40 %. The run's losses are means over 3 % of the budget, so that a spike is over soon; the parent's
are over 10 %. Where the first losses differ by more than a quarter, the two files log different things (a sum, bits
instead of nats), and no run is hopeless.

To stop a trial by others' curves at the same point is the median stopping rule's idea (Golovin et al., "Google Vizier:
A Service for Black-Box Optimization", KDD 2017). That rule compares at the same share; ours waits until the run is
half as slow again, because here a good idea may start slowly: another schedule, a larger model, a longer warm-up. The
coordinator has a sample of hopeless runs go on to the end, and shows how many came out better than their parent.

The loss is what the edited file says of itself. One that lies escapes the stop, and gains nothing by it.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from statistics import fmean

from shared.runs import CurvePoint

DELAY = 1.5
"""How much slower than its parent a hopeless run is. docs/benchmarks.md shows what others would stop."""

FIRST_SHARE = 0.5
LASTING_SHARE = 0.1
OWN_WINDOW, PARENTS_WINDOW = 0.03, 0.1
LOOK_SHARE = 0.005
COMPARABLE = 0.25
"""By how much, of the parent's, the first losses of both may differ."""


class EarlyStop:
    """Follows one run. `hopeless_at` is the share of the budget at which it became hopeless, `reason` a sentence."""

    def __init__(self, parent: Sequence[CurvePoint], budget_seconds: float) -> None:
        """`parent` is the parent's curve, in order; without one no run is hopeless."""
        self._budget_seconds = budget_seconds
        self._parent_shares = [point.seconds / budget_seconds for point in parent]
        self._parent_losses = [point.loss for point in parent]
        self._window: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self._is_comparable: bool | None = None if parent else False
        self._looked_at = 0.0
        self._behind_since: float | None = None
        self.hopeless_at: float | None = None
        self.reason = ""

    def parent_loss(self, share: float) -> float | None:
        """The parent's mean loss in the tenth of the budget before that share; None where it told none."""
        first = bisect_right(self._parent_shares, share - PARENTS_WINDOW)
        last = bisect_right(self._parent_shares, share)
        return fmean(self._parent_losses[first:last]) if last > first else None

    def add(self, point: CurvePoint) -> None:
        """Take the run's next point."""
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
        if share >= self._looked_at + LOOK_SHARE:
            self._looked_at = share
            self._look(share, self._sum / len(self._window))

    def _look(self, share: float, loss: float) -> None:
        before = self.parent_loss(share / DELAY)
        if before is None or loss <= before:
            self._behind_since = None
            return
        if self._behind_since is None:
            self._behind_since = share
        if share >= FIRST_SHARE and share - self._behind_since >= LASTING_SHARE:
            self.hopeless_at = min(1.0, share)
            self.reason = (
                f"hopeless: at {share:.0%} of the budget its loss, {loss:.4f}, was above what its parent's was at "
                f"{share / DELAY:.0%}, {before:.4f}"
            )
