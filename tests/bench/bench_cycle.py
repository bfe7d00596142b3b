"""Whole cycles over HTTP as the swarm grows: claim, proposal, three heartbeats, result; on both engines.

python -m tests.bench.bench_cycle                          prints a table
python -m tests.bench.bench_cycle --sizes 100 5000 --seconds 5 --engines sqlite
python -m tests.bench.bench_cycle --append docs/benchmarks.md

One coordinator process, client threads in this one. A result carries a file of 25 kB, a curve of 200 points and a
finding. CPU is what the kernel counted for the coordinator's process, and for PostgreSQL's processes.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from random import Random

import httpx
import psutil

from coordinator.accounts.service import create_token
from coordinator.db import Database
from coordinator.lineage import service as lineage
from shared.leases import Lease, Phase
from shared.results import ResultUpload
from shared.runs import CurvePoint
from tests.bench.bench_storage import ROWS_AT_ONCE, Store
from tests.bench.findings_store import index_findings
from tests.bench.report import append_table, format_table
from tests.bench.synthetic import Growth, change_numbers, list_sentences, write_program
from tests.support.databases import PostgresServer, run_postgres
from tests.support.messages import describe_change, make_result, make_run
from tests.support.seeds import write_seed
from tests.support.volunteers import MiniWorker

SIZES = (100, 5_000, 20_000, 100_000)
THREADS = (1, 4)
SECONDS = 15.0
MAX_DRAFTS = 3
REQUESTS = ("claim", "proposal", "heartbeat", "result")
HEADINGS = (
    "engine", "stored", "threads", "cycles/s", "server CPU-ms", "database CPU-ms",
    *(f"{name} p50 / p99 ms" for name in REQUESTS), "bytes an experiment", "failed",
)  # fmt: skip
CURVE = [CurvePoint(step=step, seconds=step / 10, loss=5.5 - step / 100) for step in range(200)]


@dataclass
class Tally:
    """What one thread did: milliseconds by request, and whole cycles."""

    took: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in REQUESTS})
    cycles: int = 0
    failed: int = 0

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except (AssertionError, httpx.HTTPError) as error:
            self.failed += 1
            print(f"\n{name}: {error}", file=sys.stderr)
            raise
        self.took[name].append((time.perf_counter() - began) * 1000)


class Client:
    """One worker that goes through cycles until a moment comes."""

    def __init__(self, url: str, token: str, name: str, root_files: dict[str, str]) -> None:
        self.worker = MiniWorker(httpx.Client(base_url=url, timeout=60), token, name)
        self._root_files = root_files
        self._random = Random()  # two phases of one benchmark must not propose the same
        self._sentences = list_sentences()

    def calibrate(self) -> None:
        """The first job of every worker, which is not measured."""
        lease = self.worker.claim_job()
        if not lease.kind.makes_experiment:
            assert self.worker.deliver(lease, ResultUpload(run=make_run(lease.base.sha, 3.3))).status_code == 201

    def work(self, until: float, tally: Tally) -> None:
        while time.monotonic() < until:
            with contextlib.suppress(AssertionError, httpx.HTTPError):
                self._cycle(tally)

    def _cycle(self, tally: Tally) -> None:
        with tally.time("claim"):
            lease = self.worker.claim_job()
        if not lease.kind.makes_experiment:
            with tally.time("result"):
                assert self.worker.deliver(lease, ResultUpload(run=make_run(lease.base.sha, 3.3))).status_code == 201
            return
        with tally.time("proposal"):
            files = self._draft(lease)
        for step in (1, 2, 3):
            with tally.time("heartbeat"):
                assert self.worker.beat(lease, Phase.TRAINING, step=step, share=step / 4).status_code == 200
        parent_files = self._root_files | lease.base.files
        metric = 3.25 + self._random.gauss(0, 0.02)
        upload = make_result(lease, parent_files, files, metric, curve=CURVE)
        with tally.time("result"):
            assert self.worker.deliver(lease, upload).status_code == 201
        tally.cycles += 1

    def _draft(self, lease: Lease) -> dict[str, str]:
        """A change that is accepted as new. An agent insists where much like it was tried, else it drafts again."""
        for _ in range(MAX_DRAFTS):
            files = {"train.py": change_numbers(lease.base.files["train.py"], self._random)}
            said = describe_change(lease.base.files, files)
            if not said.value:  # no constant moves: an idea in words
                title, hypothesis = self._random.sample(self._sentences, 2)
                said = said.model_copy(update={"title": title[:120], "axis": title[:60], "hypothesis": hypothesis})
            reply = self.worker.propose(lease, files, proposal=said)
            if reply.similar:
                insisting = said.model_copy(update={"insists": "On this parent it may do something else."})
                reply = self.worker.propose(lease, files, proposal=insisting)
            if reply.accepted:
                return files
        raise AssertionError(reply.reason)


@dataclass
class Bench:
    """One engine's database and the processes that serve it."""

    engine: str
    url: str
    store: Store
    postgres: PostgresServer | None
    tokens: list[str]

    @contextmanager
    def serve(self) -> Iterator[tuple[str, psutil.Process]]:
        environment = os.environ | {"SWARM_DATABASE_URL": self.url}
        command = [Path(sys.executable).with_name("swarm-coordinator"), "serve", "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            yield process.stdout.readline().split()[2], psutil.Process(process.pid)
            process.terminate()

    def database_cpu(self) -> float:
        """Seconds of CPU that PostgreSQL's processes have used; SQLite runs inside the coordinator."""
        return self.postgres.cpu_seconds() if self.postgres else 0.0

    def count_bytes(self) -> int:
        return sum(self.store.measure_tables().values())

    def measure(self, stored: int, threads: int, seconds: float) -> list[str]:
        """One row of the table."""
        with self.store.database.read() as session:
            root_files = lineage.read_files(session, self.store.project_id, self.store.root.sha)
        with self.serve() as (address, process):
            clients = [Client(address, token, f"w{n}", root_files) for n, token in enumerate(self.tokens[:threads])]
            for client in clients:
                client.calibrate()
            tallies = [Tally() for _ in clients]
            before, size_before = (_cpu(process), self.database_cpu()), self.count_bytes()
            began = time.monotonic()
            workers = [
                threading.Thread(target=client.work, args=(began + seconds, tally))
                for client, tally in zip(clients, tallies, strict=True)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            took = time.monotonic() - began
            after = (_cpu(process), self.database_cpu())
        cycles = sum(tally.cycles for tally in tallies)
        grown = self.count_bytes() - size_before
        percentiles = []
        for name in REQUESTS:
            times = sorted(ms for tally in tallies for ms in tally.took[name])
            percentiles.append(f"{times[len(times) // 2]:.1f} / {times[len(times) * 99 // 100]:.1f}")
        return [
            self.engine, f"{stored:,}", str(threads), f"{cycles / took:.1f}",
            f"{(after[0] - before[0]) * 1000 / cycles:.1f}", f"{(after[1] - before[1]) * 1000 / cycles:.1f}",
            *percentiles, f"{grown / cycles:,.0f}", str(sum(tally.failed for tally in tallies)),
        ]  # fmt: skip


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def open_bench(folder: Path, engine: str) -> Iterator[Bench]:
    """A new database with a project whose program has 25 kB."""
    seed = write_seed(folder / "seed")
    (seed / "train.py").write_text(write_program())
    (seed / "swarm.toml").write_text((seed / "swarm.toml").read_text().replace("4096", "65536"))
    with ExitStack() as stack:
        postgres = stack.enter_context(run_postgres(folder / "postgres")) if engine == "postgresql" else None
        url = postgres.create() if postgres else f"sqlite:///{folder}/bench.db"
        database = Database(url)
        stack.callback(database.close)
        database.migrate()
        store = Store(database, seed)
        with database.write() as session:
            tokens = [create_token(session, f"volunteer-{number}", "bench") for number in range(max(THREADS))]
        yield Bench(engine, url, store, postgres, tokens)


def run(engine: str, stored: int, seconds: float) -> Iterator[list[str]]:
    """Fill a new database with `stored` experiments, and measure."""
    with tempfile.TemporaryDirectory() as folder, open_bench(Path(folder), engine) as bench:
        made = Growth(bench.store.root, bench.store.template).grow(stored)
        while some := list(islice(made, ROWS_AT_ONCE)):
            bench.store.insert(some)
        index_findings(bench.store.database, bench.store.project_id)
        for threads in THREADS:
            yield bench.measure(stored, threads, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="experiments stored beforehand")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long each row is measured")
    parser.add_argument("--append", type=Path, help="add the table to this file")
    options = parser.parse_args()
    rows = []
    for engine, stored in product(options.engines, options.sizes):
        for row in run(engine, stored, options.seconds):
            print(" | ".join(row), file=sys.stderr)
            rows.append(row)
    print(format_table(HEADINGS, rows))
    if options.append:
        append_table(options.append, "tests.bench.bench_cycle", HEADINGS, rows)


if __name__ == "__main__":
    main()
