"""Workers in the test's own process, their network with faults, and a record of their events."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from shared.leases import GrantedLease, Phase
from tests.support.seeds import TRAIN
from worker.agents.scripted import Script, ScriptedAgent
from worker.loop.job import WorkerParts
from worker.loop.loop import Loop
from worker.loop.outbox import Outbox
from worker.loop.stop import Stop
from worker.ui.events import Event, JobClaimed, JobProgressed, Notice, RunFinished, RunSummary, WaitStarted


@dataclass
class Witness:
    """Implements `EventHandler`: remembers the events of a worker."""

    summaries: list[RunSummary] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    claimed: list[GrantedLease] = field(default_factory=list)
    on_wait: Callable[[], None] = lambda: None

    def handle(self, event: Event) -> None:
        match event:
            case JobClaimed(lease):
                self.claimed.append(lease)
            case JobProgressed(_, progress):
                self.phases.append(progress.phase)
            case RunFinished(summary):
                self.summaries.append(summary)
            case WaitStarted(reason):
                self.waits.append(reason)
                self.on_wait()
            case Notice(text):
                self.lines.append(text)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition, with a limit that a busy machine does not reach."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def make_script(*depths: int, thinking_seconds: float = 0.0, stop: Stop | None = None) -> ScriptedAgent:
    steps = [
        {
            "title": f"DEPTH {d}",
            "hypothesis": "Deeper.",
            "axis": "DEPTH",
            "thinking_seconds": thinking_seconds,
            "files": {"train.py": TRAIN.replace("4", str(d))},
        }
        for d in depths
    ]
    return ScriptedAgent(Script.model_validate({"steps": steps}), stop.quiet if stop is not None else None)


@dataclass
class Worker:
    """A worker in this process: its loop, and what one may want to look at."""

    parts: WorkerParts
    loop: Loop
    witness: Witness
    folder: Path

    @property
    def outbox(self) -> Outbox:
        return self.parts.outbox

    @property
    def stop(self) -> Stop:
        return self.parts.stop


class Wire(httpx.BaseTransport):
    """The real network, with faults: the first pattern that matches `METHOD path` decides."""

    def __init__(self, faults: Mapping[str, Callable[[], httpx.Response]]) -> None:
        self.faults = dict(faults)
        self.seen: list[str] = []
        self._inner = httpx.HTTPTransport()
        self._elsewhere: httpx.URL | None = None

    def lead_to(self, url: str) -> None:
        """From now on requests go to another server."""
        self._elsewhere = httpx.URL(url)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        line = f"{request.method} {request.url.path}"
        self.seen.append(line)
        for pattern, fault in self.faults.items():
            if re.search(pattern, line):
                return fault()
        if self._elsewhere is not None:
            request.url = request.url.copy_with(host=self._elsewhere.host, port=self._elsewhere.port)
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def cut() -> httpx.Response:
    raise httpx.ConnectError("the cable is cut")


def refuse(status: int, code: str) -> Callable[[], httpx.Response]:
    body = {"type": f"/problems/{code}", "title": "No", "status": status, "detail": "Because."}
    headers = {"Content-Type": "application/problem+json"}
    return lambda: httpx.Response(status, json=body, headers=headers)


WorkerFactory = Callable[..., Worker]
