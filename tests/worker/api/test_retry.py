"""worker/api/retry.py"""

import random
from threading import Event
from unittest.mock import Mock

import pytest

from worker.api.client import Rejected, Unreachable
from worker.api.retry import Backoff, retry


def test_waits_grow_are_jittered_and_stay_within_five_seconds_and_five_minutes() -> None:
    backoffs = [Backoff(random.Random(seed)) for seed in range(200)]
    waits = [[backoff.next_wait() for _ in range(10)] for backoff in backoffs]
    limits = [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0, 300.0, 300.0]
    for attempt, limit in enumerate(limits):
        column = [row[attempt] for row in waits]
        assert 5.0 <= min(column) < 5.0 + limit / 10
        assert limit * 0.9 < max(column) <= limit


def test_a_wait_that_was_asked_for_is_kept_and_spread() -> None:
    """A server tells all the same; who obeyed to the second would come back together."""
    waits = [Backoff(random.Random(seed)).next_wait(at_least_seconds=1000.0) for seed in range(200)]
    assert min(waits) >= 1005.0 and max(waits) <= 1010.0
    assert Backoff(random.Random(0)).next_wait(at_least_seconds=1.0) >= 5.0


def test_after_an_outage_workers_come_back_over_minutes() -> None:
    """A thousand workers find the coordinator gone within a minute; it returns after an hour."""
    rng, returns = random.Random(0), 3600.0
    arrivals = []
    for seed in range(1000):
        backoff, moment = Backoff(random.Random(seed)), rng.uniform(0.0, 60.0)
        while moment < returns:
            moment += backoff.next_wait()
        arrivals.append(moment - returns)
    by_minute = [sum(60 * m <= arrival < 60 * (m + 1) for arrival in arrivals) for m in range(6)]
    assert sum(by_minute) == 1000 and max(by_minute) < 400
    busiest = max(sum(start <= arrival < start + 1 for arrival in arrivals) for start in range(300))
    assert busiest < 25


def test_starts_anew_after_a_success() -> None:
    backoff = Backoff(random.Random(0))
    for _ in range(9):
        backoff.next_wait()
    backoff.reset()
    assert backoff.next_wait() <= 10.0


def test_insists_until_an_answer_comes() -> None:
    answers = [Unreachable("one"), Unreachable("two"), "here"]

    def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retry(call, Event(), seconds=60) == "here"


def test_insists_no_longer_than_allowed_nor_against_another_error_nor_when_told_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[float] = []
    clock = Mock(**{"monotonic.return_value": 0.0})
    monkeypatch.setattr("tenacity.time", clock)

    class Waiting(Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock.monotonic.return_value += timeout
            return False

    def fail() -> str:
        calls.append(clock.monotonic())
        raise Unreachable("gone")

    with pytest.raises(Unreachable):
        retry(fail, Waiting(), seconds=60)
    assert len(calls) > 3 and 60 <= calls[-1] < 60 + 10
    stopped = Event()
    stopped.set()
    calls.clear()
    with pytest.raises(Unreachable):
        retry(fail, stopped, seconds=60)
    assert len(calls) == 1

    def refuse() -> str:
        calls.append(0.0)
        raise Rejected(422, "bad", "Bad")

    with pytest.raises(Rejected):
        retry(refuse, Event(), seconds=60)
    assert len(calls) == 2
