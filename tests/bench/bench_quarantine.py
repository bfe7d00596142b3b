"""Seconds of a quarantine and of its end in a large swarm, and how long others waited meanwhile, on both engines.

    python -m tests.bench.bench_quarantine --experiments 100000 --engines sqlite postgresql

The store is that of `bench_pages`. An established volunteer has three workers, a large one 120 with a fifth of all runs
between them. Another volunteer's worker sends heartbeats and a third one's measures and delivers, all the time. The
decision is one request; the class is settled when its epoch has ended and its posteriors and bins were made again.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

import httpx
from sqlalchemy import String, cast, func, select, update

from coordinator.db.database import Database
from coordinator.evidence.calibration_queries import list_unsettled
from coordinator.evidence.renewal import end_due_epochs, follow_decisions
from coordinator.models import ClassProgress, Run, Volunteer, Worker
from shared.leases import Phase, ResultUpload
from shared.workers import Role
from tests.bench.bench_pages import Bench, open_bench
from tests.bench.report import append_table, format_table
from tests.support.accounts import make_person
from tests.support.messages import describe_change, make_result, make_run
from tests.support.volunteers import MiniWorker

HEADINGS = (
    "engine", "volunteer", "runs", "decision", "seconds", "settled after s", "CPU-s", "longest heartbeat s",
    "longest result s", "results",
)  # fmt: skip
ESTABLISHED, LARGE = "volunteer-399", "volunteer-000"
WORKERS_OF_LARGE = 120
KINDS = ("heartbeat", "result")
HEARTBEAT_SECONDS, POLL_SECONDS, PATIENCE_SECONDS = 0.05, 0.2, 600.0


class PatientTransport(httpx.HTTPTransport):
    """Sends again what is refused while the database is busy, as workers do: the wait is part of the request's time."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        began = time.monotonic()
        while (response := super().handle_request(request)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
            if time.monotonic() - began > PATIENCE_SECONDS:
                break
            response.close()
            time.sleep(POLL_SECONDS)
        return response


class Others:
    """Two volunteers who work while a moderator decides, and how long each of their requests took."""

    def __init__(self, url: str, tokens: list[str]) -> None:
        self._workers = [
            MiniWorker(httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, transport=PatientTransport()), token)
            for token in tokens
        ]
        self._is_over = threading.Event()
        self.took: list[tuple[str, float, float]] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._repeat, args=(act,)) for act in (self._beat, self._measure)]
        self._lease = self._workers[0].claim_job()
        if self._lease.kind.makes_experiment:
            assert self._workers[0].propose(self._lease, {"train.py": "DEPTH = 1_000_000\n"}).accepted
        for thread in threads:
            thread.start()
        yield
        self._is_over.set()
        for thread in threads:
            thread.join()

    def wait_for_requests_after(self, moment: float) -> None:
        """Until those that waited are answered, and one more of each kind."""
        while not all(any(of == kind and began > moment for of, began, _ in self.took) for kind in KINDS):
            time.sleep(POLL_SECONDS)

    def longest(self, kind: str, since: float) -> float:
        return max((seconds for of, began, seconds in self.took if of == kind and began >= since), default=0.0)

    def _repeat(self, act: Callable[[int], None]) -> None:
        number = 0
        while not self._is_over.is_set():
            act(number := number + 1)

    def _time(self, kind: str, send: Callable[[], httpx.Response]) -> None:
        began = time.monotonic()
        response = send()
        self.took.append((kind, began, time.monotonic() - began))
        if response.is_error:
            sys.stderr.write(f"{kind}: {response.status_code} {response.text[:200]}\n")

    def _beat(self, number: int) -> None:
        self._time("heartbeat", lambda: self._workers[0].beat(self._lease, Phase.TRAINING, step=number))
        time.sleep(HEARTBEAT_SECONDS)

    def _measure(self, number: int) -> None:
        worker = self._workers[1]
        lease = worker.claim().lease
        if lease is None:
            return
        upload = ResultUpload(run=make_run(lease.base.sha, 3.3))
        if lease.kind.makes_experiment:
            files = {"train.py": f"DEPTH = {number}\n"}
            change = describe_change(lease.base.files, files, "another depth")
            change = change.model_copy(update={"insists": "The cost of others' jobs is measured."})
            if not worker.propose(lease, files, proposal=change).accepted:
                return
            upload = make_result(lease, worker.files_of(lease), files, 3.3)
        self._time("result", lambda: worker.deliver(lease, upload))


def settle(database: Database) -> None:
    """Wait until nothing is to be derived or counted again."""
    stale = select(func.count()).where(ClassProgress.is_stale)
    while True:
        with database.read() as session:
            if not list_unsettled(session) and not session.scalar(stale):
                return
        time.sleep(POLL_SECONDS)


def measure(bench: Bench, database: Database) -> Iterator[list[str]]:
    with database.write() as session:
        theirs = update(Worker).where(Worker.id >= 10, Worker.id < 10 + WORKERS_OF_LARGE)
        session.execute(theirs.values(volunteer_id=10, name="gpu-" + cast(Worker.id, String)))
    end_due_epochs(database, always=True)
    follow_decisions(database, inf)  # the store's posteriors are made up: now they follow from its runs
    settle(database)
    http = httpx.Client(base_url=bench.url, timeout=PATIENCE_SECONDS)
    boss = make_person(database, http, "moderator", Role.MAINTAINER)
    others = Others(bench.url, [make_person(database, http, name).token for name in ("ada", "grace")])
    with others.at_work():
        ended = _watch(bench, database, others, lambda: end_due_epochs(database, always=True))
        yield ["", "", "all epochs end", *ended]
        for name in (ESTABLISHED, LARGE):
            own = select(func.count()).select_from(Run).join(Worker, Worker.id == Run.worker_id)
            own = own.join(Volunteer, Volunteer.id == Worker.volunteer_id).where(Volunteer.name == name)
            with database.read() as session:
                runs = session.scalar(own)
            for decision in ("quarantine", "release"):

                def decide(path: str = f"/accounts/{name}/{decision}") -> None:
                    assert boss.post(path, {"reason": "its numbers do not repeat"}).status_code == 200

                yield [name, f"{runs:,}", decision, *_watch(bench, database, others, decide)]


def _watch(bench: Bench, database: Database, others: Others, act: Callable[[], object]) -> list[str]:
    before, began = bench.cpu_seconds(), time.monotonic()
    act()
    decided = time.monotonic()
    settle(database)
    others.wait_for_requests_after(time.monotonic())
    results = sum(of == "result" and moment >= began for of, moment, _ in others.took)
    figures = (
        decided - began, time.monotonic() - decided, bench.cpu_seconds() - before,
        others.longest("heartbeat", began), others.longest("result", began),
    )  # fmt: skip
    return [*(f"{figure:.1f}" for figure in figures), str(results)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=100_000)
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--append", type=Path, help="a Markdown file to which the table is added")
    options = parser.parse_args()
    rows = []
    for engine in options.engines:
        with tempfile.TemporaryDirectory() as folder, open_bench(engine, options.experiments, Path(folder)) as bench:
            database = Database(bench.address)
            for row in measure(bench, database):
                rows.append([engine, *row])
                sys.stderr.write(" | ".join(rows[-1]) + "\n")
            database.close()
    sys.stdout.write(format_table(HEADINGS, rows) + "\n")
    if options.append:
        append_table(options.append, "tests.bench.bench_quarantine", HEADINGS, rows)


if __name__ == "__main__":
    main()
