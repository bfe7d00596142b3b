"""Tells the coordinator what a worker is about to do, so that its pages say why nothing happens there."""

from threading import Condition, Thread

from shared.experiments import Proposal
from shared.leases import Lease
from shared.workers import WorkerNotice, WorkerState
from worker.api.client import ClientError, CoordinatorClient
from worker.loop.stop import Stop
from worker.runs import Progress
from worker.ui.plain import About
from worker.ui.receipts import Receipt

REASON_CHARACTERS = 300
LAST_WORDS_SECONDS = 2.0


class Herald:
    """Implements `Monitor`. A thread of its own speaks, for whoever stops a worker does not wait for the network.

    Only the latest is told. What is not heard is not repeated: the worker has no job yet, or the coordinator is away.
    """

    def __init__(self, client: CoordinatorClient, worker_name: str, stop: Stop) -> None:
        self._client, self._name, self._stop = client, worker_name, stop
        self._changed = Condition()
        self._wanted: tuple[WorkerState, str] | None = None
        self._told: tuple[WorkerState, str] | None = None
        self._ending = False
        self._thread = Thread(target=self._speak, name="herald", daemon=True)

    def start(self, about: About) -> None:  # noqa: ARG002 - the Protocol's
        self._thread.start()

    def finish(self) -> None:
        with self._changed:
            self._ending = True
            self._want(WorkerState.STOPPED, "")
        self._thread.join(LAST_WORDS_SECONDS)

    def take(self, lease: Lease) -> None:  # noqa: ARG002 - the Protocol's
        """The coordinator knows: it gave the job."""
        self._told = None

    def propose(self, lease: Lease, proposal: Proposal) -> None: ...
    def progress(self, lease: Lease, progress: Progress) -> None: ...
    def drop(self, lease: Lease) -> None: ...
    def receipt(self, receipt: Receipt) -> None: ...
    def outbox(self, waiting: int) -> None: ...
    def note(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...

    def wait(self, reason: str, seconds: float) -> None:  # noqa: ARG002 - the Protocol's
        self._want(WorkerState.PAUSED if self._stop.pause is not None else WorkerState.WAITING, reason)

    def stop(self, now: bool) -> None:
        if not now:
            self._want(WorkerState.FINISHING, "It ends after the run that is under way.")

    def _want(self, state: WorkerState, reason: str) -> None:
        with self._changed:
            self._wanted = (state, reason[:REASON_CHARACTERS])
            self._changed.notify_all()

    def _speak(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted is not None or self._ending)
                wanted, self._wanted = self._wanted, None
            if wanted is None:
                return
            if wanted != self._told:
                self._tell(*wanted)

    def _tell(self, state: WorkerState, reason: str) -> None:
        try:
            self._client.tell(WorkerNotice(worker=self._name, state=state, reason=reason))
        except ClientError:  # nothing that a person need hear of
            self._told = None
        else:
            self._told = (state, reason)
