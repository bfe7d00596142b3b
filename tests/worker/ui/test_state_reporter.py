"""worker/ui/state_reporter.py: what a worker says of itself arrives, in the order that matters, and holds nobody up."""

from threading import Event
from typing import Any

import httpx
from pydantic import SecretStr

from tests.worker.conftest import LiveCoordinator
from tests.worker.workers import WorkerFactory, wait_until
from worker.api.client import CoordinatorClient
from worker.loop.stop import Stop
from worker.ui.events import StopRequested, WaitStarted, WorkerStarted, WorkerStopped
from worker.ui.state_reporter import StateReporter

STARTED = WorkerStarted("w1", "cpu", "bubblewrap", "search", "http://swarm.test")


def test_a_pause_an_end_and_their_reasons_are_seen_at_the_coordinator(
    live: LiveCoordinator, make_worker: WorkerFactory
) -> None:
    worker = make_worker(live.url)
    worker.loop.run(max_jobs=1)
    stop = Stop()
    reporter = StateReporter(worker.parts.client, "w1", stop)

    def seen() -> dict[str, Any]:
        (row,) = live.get("workers")["items"]
        return {"state": row["state"], "reason": row["reason"]}

    reporter.handle(STARTED)
    reporter.handle(WaitStarted("There is nothing to do.", 30))
    wait_until(lambda: seen() == {"state": "waiting", "reason": "There is nothing to do."})
    stop.set_pause("Paused, until `swarm-worker resume`.")
    reporter.handle(WaitStarted(str(stop.pause), 1))
    wait_until(lambda: seen() == {"state": "paused", "reason": "Paused, until `swarm-worker resume`."})
    reporter.handle(StopRequested(now=False))
    wait_until(lambda: seen()["state"] == "finishing")
    reporter.handle(WorkerStopped())
    assert seen() == {"state": "stopped", "reason": ""}


def test_a_coordinator_that_hangs_holds_up_nobody() -> None:
    hung, asked = Event(), Event()

    def hang(request: httpx.Request) -> httpx.Response:
        asked.set()
        hung.wait(60)
        return httpx.Response(503)

    client = CoordinatorClient("http://swarm.test", SecretStr("t"), httpx.MockTransport(hang))
    reporter = StateReporter(client, "w1", Stop())
    reporter.handle(STARTED)
    reporter.handle(WaitStarted("one", 1))
    assert asked.wait(30)
    for _ in range(100):
        reporter.handle(WaitStarted("another", 1))
        reporter.handle(StopRequested(now=False))
    reporter.handle(WorkerStopped())
    hung.set()
