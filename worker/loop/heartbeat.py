"""Renews a lease while its job is worked on, from a thread that must not die unseen."""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from shared.experiments import ProposalReply, ProposalSubmission
from shared.leases import Heartbeat, HeartbeatReply, Lease, LeaseState, Phase, ReleaseRequest
from worker.api.client import Rejected, Unauthorized, UnexpectedReply, Unreachable
from worker.runs.spec import RunProgress

CONFLICT = 409
_ENDED = (LeaseState.EXPIRED, LeaseState.RELEASED, LeaseState.DONE)


class HeartbeatDied(Exception):
    """The thread that renews leases has ended by a mistake of ours: the worker has to stop."""


class Listener(Protocol):
    """What the heartbeat needs of the coordinator's client."""

    def heartbeat(self, lease_id: UUID, beat: Heartbeat) -> HeartbeatReply: ...


class LeaseKeeper(Listener, Protocol):
    """Who may be asked about a job while it is worked on: the coordinator's client, as a rule."""

    def propose(self, lease_id: UUID, submission: ProposalSubmission) -> ProposalReply: ...
    def release(self, lease_id: UUID, request: ReleaseRequest) -> HeartbeatReply: ...


class Pulse:
    """Beats every `lease.heartbeat_seconds`, and at once when the phase changes. A context manager, or `start`, `stop`.

    A coordinator that does not answer, or that finds a phase out of turn, is asked again at the next beat. A lease
    that is gone is remembered in `lost`, with the reason, and beats no more: what is being measured is still worth
    finishing.
    """

    def __init__(self, keeper: Listener, lease: Lease) -> None:
        self._keeper = keeper
        self._lease = lease
        first = Phase.DRAFTING if lease.kind.makes_experiment else Phase.READY
        self._progress = RunProgress(first, 0, None, 0.0)
        self._lock = Lock()
        self._wake = Event()
        self._ending = False
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="heartbeat")
        self._thread: Future[None] | None = None
        self.lost: str | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            self.check()

    def start(self) -> None:
        """Beat from now on."""
        self._thread = self._executor.submit(self._beat)

    def stop(self) -> None:
        """Beat no more; safe to repeat."""
        self._ending = True
        self._wake.set()
        self._executor.shutdown(wait=False)  # a beat that hangs must not hold up the result

    def update(self, progress: RunProgress) -> None:
        """Say where the job is. Raises HeartbeatDied."""
        with self._lock:
            changed = progress.phase is not self._progress.phase
            self._progress = progress
        if changed:
            self._wake.set()
        self.check()

    def check(self) -> None:
        """Raises HeartbeatDied if the thread has died of an error that nobody expected."""
        if self._thread is not None and self._thread.done() and (error := self._thread.exception()) is not None:
            raise HeartbeatDied(f"the heartbeat died: {error!r}") from error

    def _beat(self) -> None:
        while self.lost is None:
            self._wake.wait(self._lease.heartbeat_seconds)
            self._wake.clear()
            if self._ending:
                return
            self._beat_once()

    def _beat_once(self) -> None:
        with self._lock:
            p = self._progress
        loss = p.loss if p.loss is not None and math.isfinite(p.loss) else None  # a diverged run has none to tell
        beat = Heartbeat(token=self._lease.token, phase=p.phase, step=p.step, loss=loss, share=p.share)
        try:
            reply = self._keeper.heartbeat(self._lease.id, beat)
        except (Unreachable, UnexpectedReply):
            return
        except (Rejected, Unauthorized) as error:
            # A conflict is a beat that was overtaken by the proposal's answer, or whose proposal never arrived.
            if not isinstance(error, Rejected) or error.status != CONFLICT:
                self.lost = str(error)
            return
        if reply.state in _ENDED:
            self.lost = f"the lease is {reply.state.value}"
