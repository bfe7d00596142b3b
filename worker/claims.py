"""Asking for jobs: whom to name as held, how long to leave the coordinator in peace, and why there is nothing to do."""

import time
from uuid import UUID

from shared.leases import ClaimRequest, Lease
from shared.protocol import PROTOCOL_VERSION
from worker.client import ClientError, Outdated, Unauthorized, Unreachable
from worker.delivery import deliver
from worker.job import Workplace
from worker.retries import Backoff

DEFAULT_WAIT_SECONDS = 30.0
MAX_HOLDING = 16


class Claims:
    """One worker's requests for jobs. While it rests, `reason` says why; `left` is how many seconds more.

    With `once` there is one attempt, and whatever goes wrong with it is raised.
    """

    def __init__(self, place: Workplace, worker_name: str, project: str | None, *, once: bool) -> None:
        self._place, self._worker_name, self._project, self._once = place, worker_name, project, once
        self._backoff = Backoff()
        self._connected = False
        self._asked = False
        self._rests_until = 0.0
        self._for_want_of_jobs = False
        self.reason = ""
        self.found_nothing = False
        self.outdated: Outdated | None = None

    @property
    def left(self) -> float:
        """Seconds until a job may be asked for; 0 where nothing stands against it."""
        return max(0.0, self._rests_until - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether no job will be asked for any more: the only attempt has been made, or this worker is too old."""
        return (self._once and self._asked) or self.outdated is not None

    def ask(self, held: list[UUID]) -> Lease | None:
        """Deliver what waits, and ask for a job; None where there is none, and from then on it rests.

        `held` are the leases that are worked on. Raises Unauthorized, and any ClientError or OSError of the very first
        contact, for then it is more likely that a setting is wrong than that something is away.
        """
        self._asked = True
        try:
            deliver(self._place)
            reply = self._place.client.claim(self._request(held))
        except Unauthorized:
            raise
        except Outdated as error:  # what is under way is finished and reported
            self.outdated = error
            return None
        except (ClientError, OSError) as error:
            if not self._connected or self._once:
                raise
            after = error.retry_after_seconds if isinstance(error, Unreachable) else None
            self._rest(str(error), self._backoff.next_wait(after))
            return None
        self._connected = True
        if reply.lease is None:
            self.found_nothing = True
            self._rest(reply.reason or "There is nothing to do.", reply.retry_after_seconds or DEFAULT_WAIT_SECONDS)
            self._for_want_of_jobs = True
        return reply.lease

    def note_failure(self) -> None:
        """A job has failed: the next one may go wrong the same way."""
        self._rest("After a job that failed, this worker rests.", self._backoff.next_wait())

    def note_success(self) -> None:
        """A job was measured. If there was nothing to do before that, there may be now."""
        self._backoff.reset()
        if self._for_want_of_jobs:
            self._rests_until = 0.0

    def _rest(self, reason: str, seconds: float) -> None:
        self.reason, self._rests_until, self._for_want_of_jobs = reason, time.monotonic() + seconds, False

    def _request(self, held: list[UUID]) -> ClaimRequest:
        place = self._place
        return ClaimRequest(
            protocol=PROTOCOL_VERSION,
            worker=self._worker_name,
            agent=place.agent.name,
            hardware=place.laboratory.hardware,
            project=self._project,
            holding=list(dict.fromkeys([*held, *place.outbox.leases()]))[:MAX_HOLDING],
            wants_trials=place.agent.wants_trials,
        )
