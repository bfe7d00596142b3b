"""Pictures of a worker's past: its leases in time, and its offset through epochs. Pure.

Positions are in units of a picture that is WIDTH wide; pictures are stretched to the page's width.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from coordinator.workers.queries import OffsetPoint, PastLease
from shared.leases import LeaseState

WIDTH = 1000.0
NARROWEST = 2.0
"""Least width of a lease's bar."""

LANE = 16.0
HEIGHT = 90.0
MARGIN = 6.0


class LeaseBar(NamedTuple):
    """A lease in a timeline. `kind` is its state, `live` while its worker is at it."""

    x: float
    y: float
    width: float
    kind: str
    lease: PastLease


class Timeline(NamedTuple):
    """Leases from `start` to `end`, in lanes where they overlap."""

    start: datetime
    end: datetime
    height: float
    bars: list[LeaseBar]


class OffsetBar(NamedTuple):
    """An offset, from two sd below to two above it."""

    x: float
    top: float
    middle: float
    bottom: float
    point: OffsetPoint


class OffsetPicture(NamedTuple):
    """A worker's offsets in a project's hardware class, the oldest first; `zero` is the height of no offset."""

    project: str
    hardware_class: str
    zero: float
    bars: list[OffsetBar]


def name_state(lease: PastLease, now: datetime) -> str:
    """The state of a lease at a moment: one whose time is up counts as expired."""
    if lease.state in (LeaseState.DONE, LeaseState.EXPIRED, LeaseState.RELEASED):
        return lease.state
    return "live" if lease.expires_at > now else LeaseState.EXPIRED


def draw_timeline(leases: Sequence[PastLease], now: datetime) -> Timeline | None:
    """The timeline of leases, None where there is none. One that expired reaches to its last heartbeat."""
    if not leases:
        return None
    start = min(lease.issued_at for lease in leases)
    ends = [_end_of(lease, now) for lease in leases]
    scale = WIDTH / max(1.0, (max(ends) - start).total_seconds())
    bars: list[LeaseBar] = []
    lanes: list[float] = []
    for lease in sorted(leases, key=lambda one: one.issued_at):
        x = min(WIDTH - NARROWEST, (lease.issued_at - start).total_seconds() * scale)
        width = max(NARROWEST, (_end_of(lease, now) - lease.issued_at).total_seconds() * scale)
        lane = next((number for number, until in enumerate(lanes) if until <= x), len(lanes))
        lanes[lane : lane + 1] = [x + width]
        bars.append(LeaseBar(round(x, 1), lane * LANE, round(width, 1), name_state(lease, now), lease))
    return Timeline(start, max(ends), len(lanes) * LANE, bars)


def _end_of(lease: PastLease, now: datetime) -> datetime:
    if lease.ended_at is not None and lease.state != LeaseState.EXPIRED:
        return lease.ended_at
    return now if name_state(lease, now) == "live" else lease.heartbeat_at


def draw_offsets(points: Sequence[OffsetPoint]) -> list[OffsetPicture]:
    """A picture for each project and hardware class, by name."""
    ordered = sorted(points, key=lambda one: (one.project, one.hardware_class, one.epoch))
    groups = groupby(ordered, key=lambda one: (one.project, one.hardware_class))
    return [_draw_class(*key, list(group)) for key, group in groups]


def _draw_class(project: str, hardware_class: str, points: list[OffsetPoint]) -> OffsetPicture:
    reach = max(abs(one.mean) + 2 * one.sd for one in points) or 1.0

    def place(value: float) -> float:
        return round(HEIGHT / 2 - value / reach * (HEIGHT / 2 - MARGIN), 1)

    bars = [
        OffsetBar(
            round(WIDTH * (number + 0.5) / len(points), 1), place(one.mean + 2 * one.sd), place(one.mean),
            place(one.mean - 2 * one.sd), one,
        )
        for number, one in enumerate(points)
    ]  # fmt: skip
    return OffsetPicture(project, hardware_class, HEIGHT / 2, bars)
