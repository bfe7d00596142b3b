"""Reports to the coordinator that a worker waits, pauses or stops, so that its pages say why nothing happens."""

from threading import Condition, Thread

from shared.workers import WorkerNotice, WorkerState
from worker.api.client import ClientError, CoordinatorClient
from worker.loop.stop import Stop
from worker.ui.events import Event, JobClaimed, StopRequested, WaitStarted, WorkerStarted, WorkerStopped

MAX_REASON_CHARACTERS = 300
EXIT_TIMEOUT_SECONDS = 2.0
"""Seconds that a worker's end waits for its last report."""


class StateReporter:
    """Implements `EventHandler`. A thread of its own sends, so that stopping a worker does not wait for the network.

    Only the latest state is sent. A report that fails is not repeated.
    """

    def __init__(self, client: CoordinatorClient, worker_name: str, stop: Stop) -> None:
        self._client, self._name, self._stop = client, worker_name, stop
        self._changed = Condition()
        self._next: tuple[WorkerState, str] | None = None
        self._sent: tuple[WorkerState, str] | None = None
        self._ending = False
        self._thread = Thread(target=self._run, name="state-reporter", daemon=True)

    def handle(self, event: Event) -> None:
        match event:
            case WorkerStarted():
                self._thread.start()
            case WorkerStopped():
                self._report(WorkerState.STOPPED, "", ending=True)
                self._thread.join(EXIT_TIMEOUT_SECONDS)
            case JobClaimed():  # the coordinator gave the job, and shows that
                with self._changed:
                    self._sent = None
            case WaitStarted(reason):
                self._report(WorkerState.PAUSED if self._stop.pause is not None else WorkerState.WAITING, reason)
            case StopRequested(now) if not now:
                self._report(WorkerState.FINISHING, "It ends after the run that is under way.")

    def _report(self, state: WorkerState, reason: str, *, ending: bool = False) -> None:
        with self._changed:
            self._next, self._ending = (state, reason[:MAX_REASON_CHARACTERS]), self._ending or ending
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._ending)
                report, self._next = self._next, None
                if report is None:
                    return
                if report == self._sent:
                    continue
                self._sent = report
            state, reason = report
            try:
                self._client.report_state(WorkerNotice(worker=self._name, state=state, reason=reason))
            except ClientError:
                with self._changed:
                    self._sent = None
