"""Rules by which a worker pauses: outside certain hours (`--schedule`), while others use its GPU (`--when-idle`), while
that is too hot (`max_celsius`), and on a battery.

A schedule is in this machine's local time:

    22:00-07:00                       every night; a span may cross midnight, and belongs to the day on which it begins
    mon-fri 19:00-08:00, sat-sun      week nights, and whole weekends
"""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit

import psutil

from shared.protocol import now
from worker.loop.stop import PauseReason
from worker.machine.gpu import Driver, DriverError
from worker.sandbox.base import Gpu

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_OF_DAY = 24 * 60
MINUTES_OF_WEEK = 7 * MINUTES_OF_DAY

POLL_INTERVAL_SECONDS = 3.0
"""Seconds between two questions to the GPU's driver."""

IDLE_AFTER_SECONDS = 60.0
"""Seconds without other users after which a GPU is used again."""

COOL_BY = 10
"""Degrees Celsius below the limit at which a hot GPU is used again."""

DRAWING_MIB = 1024
"""GPU memory above which a program that draws counts as a user: games do, a desktop does not."""

_SPAN = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))?)?\s*(?:(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2}))?")


class Battery(Protocol):
    """A battery as psutil describes it. `power_plugged` is None where that is not known."""

    @property
    def percent(self) -> float: ...
    @property
    def power_plugged(self) -> bool | None: ...


class ScheduleError(ValueError):
    """A schedule cannot be read; the message names the wrong part and shows an example."""


@dataclass(frozen=True)
class Schedule:
    """The minutes of a week, counted from Monday 00:00, in which a worker may work."""

    text: str
    minutes: frozenset[int]

    def closed_until(self, moment: datetime) -> datetime | None:
        """The next opening after a moment in local time; None if the schedule is open then."""
        start = moment.replace(second=0, microsecond=0)
        minute = (start.weekday() * 24 + start.hour) * 60 + start.minute
        if minute in self.minutes:
            return None
        wait = next(n for n in range(1, MINUTES_OF_WEEK + 1) if (minute + n) % MINUTES_OF_WEEK in self.minutes)
        return start + timedelta(minutes=wait)


def pause_outside(schedule: Schedule) -> PauseReason:
    """The reason to pause while the schedule is closed."""

    def reason() -> str | None:
        until = schedule.closed_until(now().astimezone())
        return None if until is None else f"Paused outside the hours {schedule.text}, until {until:%a %H:%M %Z}."

    return reason


def parse_schedule(text: str) -> Schedule:
    """Read a schedule. Raises ScheduleError."""
    minutes: set[int] = set()
    for part in text.lower().split(","):
        minutes.update(_read_span(part.strip()))
    return Schedule(text.strip(), frozenset(minutes))


def _read_span(part: str) -> set[int]:
    found = _SPAN.fullmatch(part)
    if not part or found is None:
        raise ScheduleError(f"{part!r} is not a span of hours: write 22:00-07:00, mon-fri 19:00-08:00 or sat-sun")
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
        raise ScheduleError(f"{hours}:{minutes} is not a time: use 00:00 to 24:00")
    return int(hours) * 60 + int(minutes)


def _days(first: str, last: str) -> list[int]:
    """The days from one to another, through Sunday if need be."""
    for name in (first, last):
        if name not in DAYS:
            raise ScheduleError(f"{name!r} is not a day: use {', '.join(DAYS)}")
    begin, end = DAYS.index(first), DAYS.index(last)
    return [(begin + n) % 7 for n in range((end - begin) % 7 + 1)]


def list_own_processes(model_port: int | None = None) -> set[int]:
    """Ids of this process and its descendants, the sandboxed ones included, and of a model's server on that port."""
    own = [os.getpid()]
    try:
        listening = psutil.net_connections("tcp") if model_port is not None else []
    except psutil.AccessDenied:
        listening = []
    serving = [c for c in listening if c.pid and c.laddr and c.status == psutil.CONN_LISTEN]
    own += [c.pid for c in serving if c.pid and c.laddr.port == model_port]  # type: ignore[union-attr]
    found = set(own)
    for pid in own:
        with suppress(psutil.NoSuchProcess):
            found.update(child.pid for child in psutil.Process(pid).children(recursive=True))
    return found


def find_model_port(base_url: str) -> int | None:
    """The port of a model's server on this machine; None if it is elsewhere."""
    address = urlsplit(base_url)
    return address.port or 80 if address.hostname in ("localhost", "127.0.0.1", "::1") else None


def pause_on_battery(read: Callable[[], Battery | None] = psutil.sensors_battery) -> PauseReason:
    """The reason to pause while the machine runs on its battery."""

    def reason() -> str | None:
        battery = read()
        if battery is None or battery.power_plugged is not False:
            return None
        return f"Paused on battery power ({battery.percent:.0f} %), until the machine is plugged in."

    return reason


class HotGpu:
    """Watches the temperature of a GPU. A driver that does not tell it counts as cool."""

    def __init__(self, driver: Driver, gpu: Gpu, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._driver, self._gpu, self._most, self._clock = driver, gpu, most, clock
        self._polled_at, self._celsius, self._is_hot = -POLL_INTERVAL_SECONDS, 0, False

    def describe(self) -> str | None:
        """The reason to pause from `most` degrees on, until it has cooled by COOL_BY."""
        moment = self._clock()
        if moment >= self._polled_at + POLL_INTERVAL_SECONDS:
            self._polled_at = moment
            try:
                self._celsius = self._driver.read_celsius(self._gpu) or 0
            except DriverError:
                self._celsius = 0
            self._is_hot = self._celsius >= self._most - (COOL_BY if self._is_hot else 0)
        if not self._is_hot:
            return None
        return f"Paused while the GPU cools down: {self._celsius} °C; it goes on below {self._most - COOL_BY} °C."


class OtherGpuUsers:
    """Watches for other users of a GPU. A driver that does not answer counts as no user."""

    def __init__(
        self,
        driver: Driver,
        gpu: Gpu,
        list_own: Callable[[], set[int]] = list_own_processes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._driver, self._gpu, self._list_own, self._clock = driver, gpu, list_own, clock
        self._polled_at = self._seen_at = -IDLE_AFTER_SECONDS - POLL_INTERVAL_SECONDS
        self._user = ""

    def describe(self) -> str | None:
        """The reason to pause, as a sentence for people; None while no other program uses the GPU."""
        moment = self._clock()
        if moment >= self._polled_at + POLL_INTERVAL_SECONDS:
            self._polled_at = moment
            if user := self._find_user():
                self._user, self._seen_at = user, moment
        if moment >= self._seen_at + IDLE_AFTER_SECONDS:
            return None
        return f"Paused while others use the GPU: {self._user} was seen there."

    def _find_user(self) -> str | None:
        try:
            processes = self._driver.list_processes(self._gpu)
        except DriverError:
            return None
        own = self._list_own() if processes else set()
        for process in processes:
            if process.pid not in own and (process.computes or process.memory_mib >= DRAWING_MIB):
                return f"process {process.pid}"
        return None
