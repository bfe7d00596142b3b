"""Claims jobs: which leases this worker holds, when to ask again, and why it is idle."""

import time
from uuid import UUID

from shared.leases import ClaimRequest, GrantedLease, SeedProbe
from shared.protocol import PROTOCOL_VERSION
from worker.agents.base import Agent
from worker.api.client import ClientError, Outdated, Unauthorized, Unreachable
from worker.api.retry import Backoff
from worker.loop.deliver import deliver
from worker.loop.job import WorkerParts

DEFAULT_WAIT_SECONDS = 30.0
"""Seconds until the next request if the coordinator has no job and names no time."""

PROBE_WAIT_SECONDS = 3600.0
"""Longest wait for the device to be free for a probe."""

MAX_TROUBLE_CHARACTERS = 300
"""Length of the agent's trouble that a request tells."""

MAX_HOLDING = 16
"""Number of held leases that a request names."""


class JobClaimer:
    """Asks for jobs. While it waits, `reason` says why and `seconds_left` how long; a `probe` is what it waits for.

    With `once` it asks once, and every error is raised. For one thread.
    """

    def __init__(
        self, parts: WorkerParts, project: str | None, branch: str | None, backoff: Backoff, *, once: bool
    ) -> None:
        self._parts, self._once = parts, once
        self._project, self._branch, self._backoff = project, branch, backoff
        self._has_asked = self._has_answer = False
        self._waits_until = 0.0
        self._waits_for_jobs = self._waits_for_coordinator = False
        self._warned_of_clock = self._warned_of_absence = False
        self.probe: SeedProbe | None = None
        self.reason = ""
        self.found_nothing = False
        self.outdated: Outdated | None = None

    @property
    def seconds_left(self) -> float:
        """Seconds until a job may be claimed."""
        return 0.0 if self._may_go_offline() else self._wait_left()

    @property
    def is_over(self) -> bool:
        """Whether no more jobs will be claimed: after the only attempt, or because this worker is too old."""
        return (self._once and self._has_asked) or self.outdated is not None

    def claim(self, held: list[UUID], agent: Agent) -> GrantedLease | None:
        """Deliver waiting results and claim a job that `agent` can do; None if there is none, which begins a wait.

        `held` are the leases of current jobs. While the coordinator has been away for long, it is asked at the times
        of the backoff, and in between this worker gives itself jobs. Raises Unauthorized, and any ClientError or
        OSError of the first request, unless the worker has worked for this coordinator before: a wrong setting is
        then more likely than an absence.
        """
        self._has_asked = True
        if self._wait_left() and self._may_go_offline():
            return self._make_offline_lease()
        try:
            self._parts.outbox.make_room()
            deliver(self._parts)
            reply = self._parts.client.claim(self._request(held, agent))
        except Unauthorized as error:
            if not held:
                raise
            self._wait(str(error), DEFAULT_WAIT_SECONDS)  # the token may be replaced before the current jobs are done
            return None
        except Outdated as error:  # current jobs are finished and reported
            self.outdated = error
            return None
        except (ClientError, OSError) as error:
            self._handle_error(error)
            return self._make_offline_lease() if self._may_go_offline() else None
        self._record_answer()
        if reply.lease is not None:
            self._parts.offline.record_lease(reply.lease)
        self.probe = reply.probe
        if reply.probe is not None:
            self._has_asked = False
            self._wait(reply.reason, PROBE_WAIT_SECONDS)
            return None
        if reply.lease is None:
            self.found_nothing = True
            self._wait(reply.reason or "There is nothing to do.", reply.retry_after_seconds or DEFAULT_WAIT_SECONDS)
            self._waits_for_jobs = True
        return reply.lease

    def record_probe(self) -> None:
        """The seed was probed: ask for a job at once."""
        self.probe, self._waits_until = None, 0.0

    def record_failure(self) -> None:
        """A job has failed: wait, because the next one may fail the same way."""
        self._wait("Waiting after a job that failed.", self._backoff.next_wait())

    def record_success(self) -> None:
        """A job was measured."""
        if not self._waits_for_coordinator:
            self._backoff.reset()
        self.record_release()

    def record_release(self) -> None:
        """A lease is no longer held, so there may be a job now if there was none beside it."""
        if self._waits_for_jobs:
            self._waits_until = 0.0

    def _request(self, held: list[UUID], agent: Agent) -> ClaimRequest:
        parts = self._parts
        probed, throughput = parts.throughputs.newest if parts.throughputs is not None else (None, None)
        return ClaimRequest(
            protocol=PROTOCOL_VERSION, worker=parts.worker, agent=parts.agent.name,
            trouble=parts.agent.trouble[:MAX_TROUBLE_CHARACTERS], hardware=parts.runner.hardware, project=self._project,
            holding=list(dict.fromkeys([*held, *parts.outbox.leases()]))[:MAX_HOLDING], wants_trials=agent.wants_trials,
            kinds=sorted(agent.kinds), branch=self._branch, seed_throughput=throughput, probed_seed=probed,
        )  # fmt: skip

    def _handle_error(self, error: ClientError | OSError) -> None:
        """Wait after a failed attempt, or raise its error."""
        offline, is_away = self._parts.offline, isinstance(error, Unreachable)
        may_go_on = self._has_answer or (is_away and offline.has_project)
        if self._once or not may_go_on:
            raise error
        after = error.retry_after_seconds if isinstance(error, Unreachable) else None
        self._wait((isinstance(error, OSError) and error.strerror) or str(error), self._backoff.next_wait(after))
        if is_away:
            self._waits_for_coordinator = True
            offline.record_no_answer()

    def _record_answer(self) -> None:
        self._has_answer = True
        self._waits_for_coordinator = False
        self._parts.offline.record_answer()
        if self._warned_of_absence:
            self._warned_of_absence = False
            self._parts.notify("the coordinator is back")
        off = self._parts.client.wrong_clock
        if off is not None and not self._warned_of_clock:
            self._warned_of_clock = True
            self._parts.warn(f"this machine's clock is {off}: set it (timedatectl set-ntp true)")

    def _may_go_offline(self) -> bool:
        return self._waits_for_coordinator and self._parts.offline.may_claim

    def _make_offline_lease(self) -> GrantedLease:
        if not self._warned_of_absence:
            self._warned_of_absence = True
            self._parts.warn("the coordinator is away: working offline, results wait in the outbox")
        return self._parts.offline.make_lease()

    def _wait(self, reason: str, seconds: float) -> None:
        self.reason, self._waits_until = reason, time.monotonic() + seconds
        self._waits_for_jobs = self._waits_for_coordinator = False

    def _wait_left(self) -> float:
        return max(0.0, self._waits_until - time.monotonic())
