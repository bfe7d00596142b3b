"""worker/loop/availability.py: hours as people write them."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gpus import H100, FakeDriver
from worker.loop.availability import (
    IDLE_AFTER_SECONDS,
    MINUTES_OF_WEEK,
    POLL_INTERVAL_SECONDS,
    HotGpu,
    OtherGpuUsers,
    ScheduleError,
    find_model_port,
    list_own_processes,
    parse_schedule,
    pause_on_battery,
    pause_outside,
)
from worker.machine.gpu import DriverError, GpuProcess

ZONE = timezone(timedelta(hours=2))
MONDAY = datetime(2026, 6, 1, tzinfo=ZONE)


def at(day: int, clock: str) -> datetime:
    hour, minute = map(int, clock.split(":"))
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute, seconds=30)


@pytest.mark.parametrize(
    ("text", "day", "clock", "until"),
    [
        ("22:00-07:00", 0, "23:59", None),
        ("22:00-07:00", 1, "06:59", None),
        ("22:00-07:00", 1, "07:00", "22:00"),
        ("22:00-07:00", 1, "21:59", "22:00"),
        ("9:00-12:00, 14:00-17:00", 2, "12:30", "14:00"),
        ("mon-fri 19:00-8:00, sat-sun", 0, "18:00", "19:00"),
        ("mon-fri 19:00-8:00, sat-sun", 5, "12:00", None),
        ("mon-fri 19:00-8:00, sat-sun", 5, "03:00", None),
        ("fri-mon", 2, "12:00", "00:00"),
        ("sun 23:00-01:00", 0, "00:30", None),  # Sunday's span, seen from Monday
        ("SAT 00:00-24:00", 5, "23:59", None),
    ],
)
def test_is_open_in_its_hours_and_says_when_it_opens_next(text: str, day: int, clock: str, until: str | None) -> None:
    opens = parse_schedule(text).closed_until(at(day, clock))
    assert (None if opens is None else f"{opens:%H:%M}") == until


def test_opens_on_a_later_day() -> None:
    assert parse_schedule("sat").closed_until(at(0, "10:00")) == MONDAY + timedelta(days=5)


@pytest.mark.parametrize(
    "text", ["", "22-7", "25:00-07:00", "22:60-07:00", "someday", "mon-xyz 1:00-2:00", "1:00-2:00,"]
)
def test_what_is_no_schedule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ScheduleError, match=r"use |22:00-07:00"):
        parse_schedule(text)


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, MINUTES_OF_WEEK - 1))
def test_it_is_open_at_the_moment_that_it_names_and_not_a_minute_before(begin: int, end: int, minute: int) -> None:
    schedule = parse_schedule(f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}")
    moment = MONDAY + timedelta(minutes=minute)
    opens = schedule.closed_until(moment)
    if opens is not None:
        assert schedule.closed_until(opens) is None
        assert schedule.closed_until(opens - timedelta(minutes=1)) == opens
        assert moment < opens <= moment + timedelta(days=1)


def test_pauses_with_a_reason_and_only_outside_the_hours() -> None:
    assert pause_outside(parse_schedule("00:00-24:00"))() is None
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    today = datetime.now(ZONE).astimezone().weekday()
    other = days[(today + 3) % 7]
    assert str(pause_outside(parse_schedule(other))()).startswith(
        f"Paused outside the hours {other}, until {other.title()} 00:00"
    )


OWN = 4242
TRAINER = GpuProcess(OWN, 60_000, computes=True)
STRANGER = GpuProcess(77, 500, computes=True)
DESKTOP = GpuProcess(78, 300, computes=False)
GAME = GpuProcess(79, 6_000, computes=False)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("processes", "who"),
    [([], None), ([TRAINER, DESKTOP], None), ([TRAINER, STRANGER], "process 77"), ([GAME], "process 79")],
)
def test_others_who_compute_or_draw_much_are_given_way(processes: list[GpuProcess], who: str | None) -> None:
    neighbours = OtherGpuUsers(FakeDriver((H100,), processes=processes), H100.gpu, lambda: {OWN}, Clock())
    said = neighbours.describe()
    assert said is None if who is None else who in str(said)


def test_the_gpu_is_taken_again_only_after_it_was_quiet_for_a_while() -> None:
    driver, clock = FakeDriver((H100,), processes=[STRANGER]), Clock()
    neighbours = OtherGpuUsers(driver, H100.gpu, lambda: {OWN}, clock)
    assert neighbours.describe()
    driver.processes = []
    for _ in range(int(IDLE_AFTER_SECONDS / POLL_INTERVAL_SECONDS) - 1):
        clock.now += POLL_INTERVAL_SECONDS
        assert neighbours.describe()
    clock.now += POLL_INTERVAL_SECONDS
    assert neighbours.describe() is None
    driver.processes = [STRANGER]
    assert neighbours.describe() is None  # it was looked at a moment ago
    clock.now += POLL_INTERVAL_SECONDS
    assert neighbours.describe()


def test_a_driver_that_does_not_answer_does_not_stop_the_work() -> None:
    driver = FakeDriver((H100,), error=DriverError("gone"))
    assert OtherGpuUsers(driver, H100.gpu, lambda: {OWN}, Clock()).describe() is None


def test_a_hot_gpu_rests_until_it_has_cooled() -> None:
    driver, clock = FakeDriver((H100,), celsius=79), Clock()
    hot = HotGpu(driver, H100.gpu, 80, clock)
    for celsius, pauses in ((79, False), (80, True), (75, True), (70, True), (69, False), (79, False), (None, False)):
        driver.celsius = celsius
        clock.now += POLL_INTERVAL_SECONDS
        assert (hot.describe() is not None) is pauses, celsius
    driver.error = DriverError("gone")
    clock.now += POLL_INTERVAL_SECONDS
    assert hot.describe() is None


@dataclass
class FakeBattery:
    percent: float
    power_plugged: bool | None


@pytest.mark.parametrize(
    ("battery", "pauses"),
    [
        (None, False), (FakeBattery(50, True), False), (FakeBattery(50, None), False), (FakeBattery(50, False), True),
    ],
)  # fmt: skip
def test_a_machine_on_its_battery_rests_and_one_without_works(battery: FakeBattery | None, pauses: bool) -> None:
    said = pause_on_battery(lambda: battery)()
    assert (said is not None) is pauses and (said is None or "50 %" in said)


def test_the_volunteers_own_model_server_is_nobody_else() -> None:
    assert find_model_port("http://127.0.0.1:8080/v1") == 8080
    assert find_model_port("http://localhost/v1") == 80
    assert find_model_port("https://api.example.org/v1") is None
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; time.sleep(60)"], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        assert server.pid in list_own_processes(port)
        server.kill()


def test_its_list_own_processes_are_those_that_descend_from_it() -> None:
    assert len(list_own_processes()) >= 1
