"""A real coordinator on loopback, and a runner that measures by formula instead of training."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import psutil
import pytest
import uvicorn
from pydantic import SecretStr

from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from shared.contract import Contract
from shared.leases import Phase
from shared.protocol import API_PREFIX, now
from shared.runs import Hardware, RunReport, RunSeconds
from tests.support.databases import SqliteFolder
from tests.support.messages import HARDWARE, make_run
from tests.support.seeds import write_seed
from tests.support.tiny_project import pack_text, serve_text, tiny_contract
from tests.support.tokens import create_token
from tests.worker.workers import Witness, Worker, WorkerFactory
from worker.agents.base import Agent
from worker.agents.search import SearchAgent
from worker.api.client import CoordinatorClient
from worker.git.projects import Projects
from worker.loop.drafting import commit_author
from worker.loop.job import WorkerParts
from worker.loop.loop import Loop
from worker.loop.offline import OfflineMode
from worker.loop.outbox import Outbox
from worker.loop.stop import Stop
from worker.runs.runner import RunRequest
from worker.runs.spec import RunProgress, RunStopped
from worker.sandbox.base import Sandbox
from worker.sandbox.choose import choose_sandbox


@dataclass(frozen=True)
class LiveCoordinator:
    """A running coordinator with one small project, `tiny`, and a volunteer's token."""

    url: str
    token: SecretStr

    def list(self, what: str) -> list[dict[str, Any]]:
        """Items that the API lists of the project, newest first."""
        answer = httpx.get(f"{self.url}{API_PREFIX}/{what}", params={"project": "tiny"}, timeout=60)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def get(self, what: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}{API_PREFIX}/{what}", timeout=60)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document


@contextmanager
def serve(settings: CoordinatorSettings, port: int = 0) -> Iterator[str]:
    """Run the coordinator's application in a thread; its address."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=port, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the coordinator did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def coordinator_settings(sqlite_folder: SqliteFolder, tmp_path: Path) -> CoordinatorSettings:
    return CoordinatorSettings(database_url=sqlite_folder.create_migrated(tmp_path))


@pytest.fixture
def token(coordinator_settings: CoordinatorSettings, tmp_path: Path) -> SecretStr:
    """A token of a migrated coordinator that has the project."""
    database = Database(coordinator_settings.database_url)
    with database.write() as session:
        create_project(session, write_seed(tmp_path / "seed"))
        token = SecretStr(create_token(session, "ada", "test"))
    database.close()
    return token


@pytest.fixture
def live(coordinator_settings: CoordinatorSettings, token: SecretStr) -> Iterator[LiveCoordinator]:
    with serve(coordinator_settings) as url:
        yield LiveCoordinator(url, token)


SECONDS = RunSeconds(starting=1, training=10, scoring=1, total=12)
"""Two runs of it fit into the tolerated error of a worker's clock: no time passes in a FormulaRunner."""


@dataclass
class FormulaRunner:
    """Takes no time and trains nothing: the metric comes from `formula`, which may also raise.

    A `hook` is called in the middle of each measurement.
    """

    formula: Callable[[RunRequest], float | None] = lambda request: 3.3
    hook: Callable[[], None] = lambda: None
    hardware: Hardware = HARDWARE
    sandbox_name: str = "formula"
    shares: tuple[float, ...] = (0.0, 0.5)
    requests: list[RunRequest] = field(default_factory=list)
    throughput: float | None = 20_000.0
    probe_fault: Exception | None = None
    probed: list[RunRequest] = field(default_factory=list)
    waits_for_next: bool = False
    foretold: list[RunRequest | None] = field(default_factory=list)

    def drop_ahead(self) -> None:
        """Nothing is started ahead."""

    def probe(self, request: RunRequest, notify: Callable[[str], None], stop: Event) -> float | None:
        self.probed.append(request)
        if self.probe_fault is not None:
            raise self.probe_fault
        return self.throughput

    def measure(
        self,
        request: RunRequest,
        on_progress: Callable[[RunProgress], None],
        notify: Callable[[str], None],
        stop: Event,
        following: Callable[[], RunRequest | None] = lambda: None,
    ) -> RunReport:
        self.requests.append(request)
        for share in self.shares:
            on_progress(RunProgress(Phase.TRAINING, round(100 * share), 3.0, share))
        self.hook()
        if stop.is_set():
            raise RunStopped("the worker was stopped")
        on_progress(RunProgress(Phase.SCORING, 100, 3.0, 1.0))
        while (next_request := following()) is None and self.waits_for_next:
            time.sleep(0.01)
        self.foretold.append(next_request)
        metric = self.formula(request)
        reason = "" if metric is not None else "heads must divide width"
        changes = {"seconds": SECONDS, "started_at": now() - timedelta(seconds=SECONDS.total)}
        return make_run(request.sha, metric, seed=request.seed, reason=reason, sandbox=self.sandbox_name, **changes)


AHEAD = timedelta(hours=2)


@dataclass
class ShiftedRunner(FormulaRunner):
    """A machine whose clock is ahead by `shift`."""

    shift: timedelta = AHEAD

    def measure(self, *args: Any) -> RunReport:
        report = super().measure(*args)
        times = {"started_at": report.started_at + self.shift, "finished_at": report.finished_at + self.shift}
        return report.model_copy(update=times)


@pytest.fixture
def runner() -> FormulaRunner:
    return FormulaRunner()


@pytest.fixture
def make_worker(tmp_path: Path, runner: FormulaRunner, token: SecretStr) -> Iterator[WorkerFactory]:
    """Make workers; a worker waits no longer than the first time it has to, then it is told to stop."""
    made: list[WorkerParts] = []

    def make(
        url: str,
        agent: Agent | None = None,
        name: str = "w1",
        transport: httpx.BaseTransport | None = None,
        **changes: Any,
    ) -> Worker:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        stop, witness = changes.pop("stop", None) or Stop(), Witness()
        client = CoordinatorClient(url, changes.pop("token", token), transport, changes.pop("read_token", None))
        witness.on_wait = stop.request
        agent = agent or SearchAgent()
        parts = WorkerParts(
            client=client,
            agent=agent,
            runner=changes.pop("runner", runner),
            projects=Projects(client, folder / "projects", stop.draining),
            outbox=Outbox(folder / "outbox"),
            events=witness,
            stop=stop,
            worker=name,
            author=commit_author(name),
            retry_for_seconds=0.2,
            offline=OfflineMode(folder, name, agent.name, HARDWARE, changes.pop("alone_after", math.inf)),
            throughputs=changes.pop("throughputs", None),
        )
        made.append(parts)
        return Worker(parts, Loop(parts, None, folder / "crash.log"), witness, folder)

    yield make
    for parts in made:
        parts.projects.close()
        parts.client.close()


@pytest.fixture(scope="session")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    """Of a project whose text comes from this process."""
    with serve_text(tmp_path_factory.mktemp("web")) as address:
        yield tiny_contract(address, pack_text())


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    return choose_sandbox("auto")


@pytest.fixture
def count_marked() -> Callable[[str], int]:
    """How many processes of the machine have `marker` as an argument of their own."""

    def count(marker: str) -> int:
        return sum(marker in (p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))

    return count
