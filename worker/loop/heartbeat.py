"""Heartbeats: a thread renews the lease of a job, and an error that ends the thread is raised in the job."""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event, Lock

from shared.leases import GrantedLease, Heartbeat, LeaseState
from shared.workers import MessageReceipt, WorkerMessage
from worker.api.client import (
    AccountStopped,
    ClientError,
    CoordinatorClient,
    Rejected,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
)
from worker.loop.offline import OfflineMode
from worker.runs.spec import RunProgress

CONFLICT = 409
_ENDED = (LeaseState.EXPIRED, LeaseState.RELEASED, LeaseState.DONE)


class HeartbeatDied(Exception):
    """The thread that renews a lease ended by an unexpected error, so the worker must stop."""


class MessageReader:
    """Shows messages of moderators, each once, and confirms them; and once that the token is refused. Heartbeats of
    several jobs bring the same one."""

    def __init__(self, client: CoordinatorClient, show: Callable[[str], None]) -> None:
        self._client, self._show = client, show
        self._lock = Lock()
        self._newest = 0
        self._refusal = ""

    def show_refusal(self, error: Unauthorized) -> None:
        """Show that the coordinator refuses the token, while a run is under way."""
        with self._lock:
            is_new, self._refusal = str(error) != self._refusal, str(error)
        if is_new:
            self._show(f"{error} The run under way is finished, and its result kept until then.")

    def read(self, message: WorkerMessage) -> None:
        """Show a message on one line, if it is new. One whose receipt gets lost comes again, and is confirmed again."""
        with self._lock:
            is_new = message.number > self._newest
            self._newest = max(self._newest, message.number)
        if is_new:
            self._show(f"Message from the moderators: {' '.join(message.text.split())}")
        with suppress(ClientError):
            self._client.confirm_message(MessageReceipt(worker=message.worker, number=message.number))


LeaseClient = CoordinatorClient | OfflineMode
"""Answers requests about a lease: the coordinator's client, or offline mode for a job of the worker's own."""


class LeaseHeartbeat:
    """Sends a heartbeat every `lease.heartbeat_seconds`, and when the phase changes.

    A heartbeat that gets no answer, a conflict, or whose token is refused, which may be replaced, is sent again at the
    next interval. When the lease is gone, `lost` gets the reason and heartbeats end; a run that has begun is still
    worth finishing.
    """

    def __init__(self, client: LeaseClient, lease: GrantedLease, messages: MessageReader | None = None) -> None:
        self._client, self._messages = client, messages
        self._lease = lease
        self._progress = RunProgress(lease.first_phase)
        self._lock = Lock()
        self._wake = Event()
        self._ending = Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="heartbeat")
        self._thread: Future[None] | None = None
        self.lost: str | None = None

    def start(self) -> None:
        self._thread = self._executor.submit(self._run)

    def stop(self) -> None:
        """Send no more heartbeats; may be repeated."""
        self._ending.set()
        self._wake.set()
        self._executor.shutdown(wait=False)  # a request that hangs must not delay the result

    def update(self, progress: RunProgress) -> None:
        """Record the progress of the job. Raises HeartbeatDied."""
        with self._lock:
            changed = progress.phase is not self._progress.phase
            self._progress = progress
        if changed:
            self._wake.set()
        self.check()

    @property
    def progress(self) -> RunProgress:
        """The latest progress."""
        with self._lock:
            return self._progress

    def check(self) -> None:
        """Raise HeartbeatDied if an unexpected error has ended the thread."""
        if self._thread is not None and self._thread.done() and (error := self._thread.exception()) is not None:
            raise HeartbeatDied(f"the heartbeat died: {error!r}") from error

    def _run(self) -> None:
        while self.lost is None:
            self._wake.wait(self._lease.heartbeat_seconds)
            self._wake.clear()
            if self._ending.is_set():
                return
            self._send()

    def _send(self) -> None:
        with self._lock:
            progress = self._progress
        loss = progress.loss if progress.loss is not None and math.isfinite(progress.loss) else None
        heartbeat = Heartbeat(
            token=self._lease.token, phase=progress.phase, step=progress.step, loss=loss, share=progress.share
        )
        try:
            reply = self._client.heartbeat(self._lease.id, heartbeat)
        except (Unreachable, UnexpectedReply):
            return
        except Unauthorized as error:
            if isinstance(error, AccountStopped):
                self.lost = str(error)
            elif self._messages is not None:
                self._messages.show_refusal(error)
            return
        except Rejected as error:
            # A conflict means that the proposal's answer overtook this heartbeat, or that the proposal never arrived.
            if error.status != CONFLICT:
                self.lost = str(error)
            return
        if reply.message is not None and self._messages is not None:
            self._messages.read(reply.message)
        if reply.state in _ENDED:
            self.lost = f"the lease is {reply.state.value}"
