"""Asking for jobs: whom to name as held, how long to leave the coordinator in peace, and why there is nothing to do."""

import time
from uuid import UUID

from shared.leases import ClaimRequest, Lease
from shared.protocol import PROTOCOL_VERSION
from worker.api.client import ClientError, Outdated, Unauthorized, Unreachable
from worker.api.retry import Backoff
from worker.loop.deliver import deliver
from worker.loop.job import Workplace

DEFAULT_WAIT_SECONDS = 30.0
MAX_HOLDING = 16
WRONG_CLOCK_SECONDS = 300.0


class Claims:
    """One worker's requests for jobs. While it rests, `reason` says why; `left` is how many seconds more.

    With `once` there is one attempt, and whatever goes wrong with it is raised.
    """

    def __init__(
        self,
        place: Workplace,
        worker_name: str,
        project: str | None,
        branch: str | None,
        backoff: Backoff,
        *,
        once: bool,
    ) -> None:
        self._place, self._worker_name, self._once = place, worker_name, once
        self._project, self._branch = project, branch
        self._backoff = backoff
        self._connected = False
        self._told_of_clock = False
        self._asked = False
        self._rests_until = 0.0
        self._for_want_of_jobs = False
        self._rests_for_the_coordinator = False
        self._told_of_absence = False
        self.reason = ""
        self.found_nothing = False
        self.outdated: Outdated | None = None

    @property
    def left(self) -> float:
        """Seconds until a job may be asked for; 0 where nothing stands against it."""
        return 0.0 if self._may_go_alone() else self._rest_left

    @property
    def _rest_left(self) -> float:
        return max(0.0, self._rests_until - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether no job will be asked for any more: the only attempt has been made, or this worker is too old."""
        return (self._once and self._asked) or self.outdated is not None

    def ask(self, held: list[UUID]) -> Lease | None:
        """Deliver what waits, and ask for a job; None where there is none, and from then on it rests.

        A coordinator that has been away for long is asked at the times that the backoff sets, and in between the job is
        one of this worker's own. `held` are the leases that are worked on. Raises Unauthorized, and any ClientError or
        OSError of the very first contact, for then it is more likely that a setting is wrong than that something is
        away; not so where this worker has worked for this coordinator before.
        """
        self._asked = True
        if self._rest_left and self._may_go_alone():
            return self._go_alone()
        try:
            self._place.outbox.make_room()
            deliver(self._place)
            reply = self._place.client.claim(self._request(held))
        except Unauthorized:
            raise
        except Outdated as error:  # what is under way is finished and reported
            self.outdated = error
            return None
        except (ClientError, OSError) as error:
            self._note_error(error)
            return self._go_alone() if self._may_go_alone() else None
        self._note_answer()
        if reply.lease is not None and self._place.alone is not None:
            self._place.alone.remember(reply.lease)
        if reply.lease is None:
            self.found_nothing = True
            self._rest(reply.reason or "There is nothing to do.", reply.retry_after_seconds or DEFAULT_WAIT_SECONDS)
            self._for_want_of_jobs = True
        return reply.lease

    def _note_error(self, error: ClientError | OSError) -> None:
        """Rest after an attempt that failed, or raise its error."""
        alone, is_away = self._place.alone, isinstance(error, Unreachable)
        may_go_on = self._connected or (is_away and alone is not None and alone.knows_enough)
        if self._once or not may_go_on:
            raise error
        after = error.retry_after_seconds if isinstance(error, Unreachable) else None
        self._rest((isinstance(error, OSError) and error.strerror) or str(error), self._backoff.next_wait(after))
        if is_away and alone is not None:
            self._rests_for_the_coordinator = True
            alone.note_away()

    def _note_answer(self) -> None:
        self._connected = True
        self._rests_for_the_coordinator = False
        if self._place.alone is not None:
            self._place.alone.note_answer()
        if self._told_of_absence:
            self._told_of_absence = False
            self._place.notify("the coordinator is back")
        self._check_clock()

    def _may_go_alone(self) -> bool:
        alone = self._place.alone
        return self._rests_for_the_coordinator and alone is not None and alone.may_begin

    def _go_alone(self) -> Lease:
        assert self._place.alone is not None
        if not self._told_of_absence:
            self._told_of_absence = True
            self._place.warn("the coordinator is away: going on alone, and results wait in the outbox")
        return self._place.alone.make_lease()

    def _check_clock(self) -> None:
        """Say once that this machine's clock is wrong. Nothing here decides by it, but its results are dated by it."""
        error = self._place.client.clock_error_seconds
        if abs(error) >= WRONG_CLOCK_SECONDS and not self._told_of_clock:
            self._told_of_clock = True
            off = f"{abs(error) / 60:.0f} min {'ahead of' if error > 0 else 'behind'} the coordinator's"
            self._place.warn(f"this machine's clock is {off}: set it (timedatectl set-ntp true)")

    def note_failure(self) -> None:
        """A job has failed: the next one may go wrong the same way."""
        self._rest("After a job that failed, this worker rests.", self._backoff.next_wait())

    def note_success(self) -> None:
        """A job was measured."""
        if not self._rests_for_the_coordinator:
            self._backoff.reset()
        self.note_return()

    def note_return(self) -> None:
        """A job is held no longer. If there was nothing to do beside it, there may be now."""
        if self._for_want_of_jobs:
            self._rests_until = 0.0

    def _rest(self, reason: str, seconds: float) -> None:
        self.reason, self._rests_until = reason, time.monotonic() + seconds
        self._for_want_of_jobs = self._rests_for_the_coordinator = False

    def _request(self, held: list[UUID]) -> ClaimRequest:
        place = self._place
        return ClaimRequest(
            protocol=PROTOCOL_VERSION,
            worker=self._worker_name,
            agent=place.agent.name,
            hardware=place.runner.hardware,
            project=self._project,
            holding=list(dict.fromkeys([*held, *place.outbox.leases()]))[:MAX_HOLDING],
            wants_trials=place.agent.wants_trials,
            kinds=sorted(place.agent.kinds),
            branch=self._branch,
        )
