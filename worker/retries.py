"""How often and how long to try again: exponential, with full jitter, so that a returning coordinator is not stormed.

Full jitter draws the whole wait at random below a doubling limit (AWS Architecture Blog, "Exponential Backoff And
Jitter", 2015).
"""

import random
from collections.abc import Callable
from threading import Event
from typing import TypeVar

import tenacity

from worker.client import Unreachable

SHORTEST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 300.0

Result = TypeVar("Result")


class Backoff:
    """Waits between attempts that go on for ever."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._attempts = 0

    def reset(self) -> None:
        """An attempt has succeeded."""
        self._attempts = 0

    def next_wait(self, at_least_seconds: float | None = None) -> float:
        """Seconds until the next attempt: 5 to a limit that doubles from 10 to 300, or what was asked for, if more."""
        self._attempts += 1
        limit = min(LONGEST_WAIT_SECONDS, SHORTEST_WAIT_SECONDS * 2.0 ** min(self._attempts, 16))
        return max(self._rng.uniform(SHORTEST_WAIT_SECONDS, limit), at_least_seconds or 0.0)


def insist(call: Callable[[], Result], stop: Event, seconds: float) -> Result:
    """Call until it succeeds, for so many seconds or until `stop`; then raise its last Unreachable.

    For requests in the middle of a job: a coordinator that restarts costs no job. Other errors are raised at once.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unreachable),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
        stop=tenacity.stop_after_delay(seconds) | tenacity.stop_when_event_set(stop),
        sleep=tenacity.sleep_using_event(stop),
        reraise=True,
    )
    return retrying(call)
