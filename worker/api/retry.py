"""Repeats requests with exponential backoff and full jitter, so that workers do not all return at once.

Full jitter draws the whole wait at random below a doubling limit (AWS Architecture Blog, "Exponential Backoff And
Jitter", 2015).
"""

import random
from collections.abc import Callable
from threading import Event
from typing import TypeVar

import tenacity

from worker.api.client import Unreachable

SHORTEST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 300.0

Result = TypeVar("Result")


class Backoff:
    """Computes the waits between attempts that never end."""

    def __init__(
        self,
        rng: random.Random | None = None,
        shortest_seconds: float = SHORTEST_WAIT_SECONDS,
        longest_seconds: float = LONGEST_WAIT_SECONDS,
    ) -> None:
        self._rng = rng or random.Random()
        self._shortest, self._longest = shortest_seconds, max(shortest_seconds, longest_seconds)
        self._attempts = 0

    def reset(self) -> None:
        self._attempts = 0

    def next_wait(self, at_least_seconds: float | None = None) -> float:
        """Seconds until the next attempt: from the shortest to a limit that doubles up to the longest.

        A server that asks for a longer wait gets it plus the drawn wait, because it asked others for the same.
        """
        self._attempts += 1
        limit = min(self._longest, self._shortest * 2.0 ** min(self._attempts, 16))
        wait = self._rng.uniform(self._shortest, limit)
        return wait if at_least_seconds is None or at_least_seconds <= wait else at_least_seconds + wait


def retry(call: Callable[[], Result], stop: Event, seconds: float) -> Result:
    """Call until it succeeds, for `seconds` or until `stop`; then raise its last Unreachable.

    For requests in the middle of a job, which survives a restart of the coordinator. Other errors are raised at once.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unreachable),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
        stop=tenacity.stop_after_delay(seconds) | tenacity.stop_when_event_set(stop),
        sleep=tenacity.sleep_using_event(stop),
        reraise=True,
    )
    return retrying(call)
