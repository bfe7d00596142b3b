"""The loss curve of a run, thinned evenly while it grows."""

import math

from shared.runs import MAX_CURVE_POINTS, CurvePoint


class LossCurve:
    """Keeps every n-th point, n doubling whenever too many are held, so that a flood takes no memory."""

    def __init__(self) -> None:
        self._points: list[CurvePoint] = []
        self._every = 1
        self._seen = 0
        self.last: CurvePoint | None = None

    def add(self, point: CurvePoint) -> None:
        if self._seen % self._every == 0:
            self._points.append(point)
        self._seen += 1
        self.last = point
        if len(self._points) >= 2 * MAX_CURVE_POINTS:
            self._points = self._points[::2]
            self._every *= 2

    def thinned(self) -> list[CurvePoint]:
        """At most MAX_CURVE_POINTS points, evenly spaced, the last one always among them."""
        step = max(1, math.ceil(len(self._points) / (MAX_CURVE_POINTS - 1)))  # leaves room for the last point
        points = self._points[::step]
        if self.last is not None and points[-1] is not self.last:
            points.append(self.last)
        return points
