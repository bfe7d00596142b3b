"""The hours in which a worker may work: `--schedule 22:00-07:00`, in this machine's own time.

22:00-07:00                         every night; a span may cross midnight, and belongs to the day on which it begins
mon-fri 19:00-08:00, sat-sun        week nights, and whole weekends
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.protocol import now
from worker.loop.stop import Reason

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_OF_DAY = 24 * 60
MINUTES_OF_WEEK = 7 * MINUTES_OF_DAY

_SPAN = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))?)?\s*(?:(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2}))?")


class ScheduleError(ValueError):
    """The hours cannot be understood; the message says which part, and shows an example."""


@dataclass(frozen=True)
class Schedule:
    """Which minutes of a week are open, counted from Monday's midnight."""

    text: str
    minutes: frozenset[int]

    def closed_until(self, moment: datetime) -> datetime | None:
        """When it opens next, `moment` being local time; None if it is open then."""
        start = moment.replace(second=0, microsecond=0)
        minute = _minute_of_week(start)
        if minute in self.minutes:
            return None
        wait = next(n for n in range(1, MINUTES_OF_WEEK + 1) if (minute + n) % MINUTES_OF_WEEK in self.minutes)
        return start + timedelta(minutes=wait)


def hours(schedule: Schedule) -> Reason:
    """Pauses outside the hours."""

    def reason() -> str | None:
        until = schedule.closed_until(now().astimezone())
        return None if until is None else f"Paused outside the hours {schedule.text}, until {until:%a %H:%M}."

    return reason


def parse_schedule(text: str) -> Schedule:
    """Read hours. Raises ScheduleError."""
    minutes: set[int] = set()
    for part in text.lower().split(","):
        minutes.update(_read_span(part.strip()))
    return Schedule(text.strip(), frozenset(minutes))


def _read_span(part: str) -> set[int]:
    found = _SPAN.fullmatch(part)
    if not part or found is None:
        raise ScheduleError(f"{part!r} is no span of hours: 22:00-07:00, or mon-fri 19:00-08:00, or sat-sun")
    first, last, *clock = found.groups()
    begin, end = (0, MINUTES_OF_DAY) if clock[0] is None else (_minutes(*clock[:2]), _minutes(*clock[2:]))
    if begin >= end:
        end += MINUTES_OF_DAY
    return {
        (day * MINUTES_OF_DAY + minute) % MINUTES_OF_WEEK
        for day in _days(first or DAYS[0], last or (first or DAYS[-1]))
        for minute in range(begin, end)
    }


def _minutes(hours: str, minutes: str) -> int:
    if int(minutes) > 59 or int(hours) * 60 + int(minutes) > MINUTES_OF_DAY:
        raise ScheduleError(f"there is no {hours}:{minutes} on a clock: use 00:00 to 24:00")
    return int(hours) * 60 + int(minutes)


def _days(first: str, last: str) -> list[int]:
    """The days from one to another, through Sunday if need be."""
    for name in (first, last):
        if name not in DAYS:
            raise ScheduleError(f"{name!r} is no day: use {', '.join(DAYS)}")
    begin, end = DAYS.index(first), DAYS.index(last)
    return [(begin + n) % 7 for n in range((end - begin) % 7 + 1)]


def _minute_of_week(moment: datetime) -> int:
    return (moment.weekday() * 24 + moment.hour) * 60 + moment.minute
