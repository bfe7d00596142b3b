"""Whole cycles over HTTP as the swarm grows: claim, proposal, three heartbeats, result; on both engines.

python -m tests.bench.bench_cycle                          prints a table
python -m tests.bench.bench_cycle --sizes 100 5000 --seconds 5 --engines sqlite
python -m tests.bench.bench_cycle --append docs/benchmarks.md

One coordinator process, client threads in this one. A result carries a file of 25 kB, a curve of 200 points and a
finding. CPU is what the kernel counted for the coordinator's process, for PostgreSQL's processes and for this one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import psutil

from coordinator.accounts.service import create_token
from coordinator.db import Database
from coordinator.evidence import service as evidence
from coordinator.lineage import service as lineage
from tests.bench.bench_storage import ROWS_AT_ONCE, Store
from tests.bench.cycle_client import REQUESTS, Client, Tally
from tests.bench.findings_store import index_findings
from tests.bench.report import append_table, format_table
from tests.bench.synthetic import Growth, write_program
from tests.support.databases import PostgresServer, run_postgres
from tests.support.seeds import write_seed

SIZES = (100, 5_000, 20_000, 100_000)
THREADS = (1, 4)
SECONDS = 15.0
WARM_UP_SECONDS = 3.0
"""What a coordinator loads once (the model of embeddings, statements, what it keeps at hand) is not measured."""

HEADINGS = (
    "engine", "stored", "threads", "cycles/s", "server CPU-ms", "database CPU-ms", "client CPU-ms",
    *(f"{name} p50 / p99 ms" for name in REQUESTS), "bytes an experiment", "failed",
)  # fmt: skip


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

    def _read_clocks(self, process: psutil.Process) -> tuple[float, float, float]:
        """Seconds of CPU of the server, of PostgreSQL (SQLite runs inside the server), and of the clients here."""
        database = self.postgres.cpu_seconds() if self.postgres else 0.0
        return _cpu(process), database, time.process_time()

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
            _work(clients, WARM_UP_SECONDS)
            before, size_before = self._read_clocks(process), self.count_bytes()
            began = time.monotonic()
            tallies = _work(clients, seconds)
            took = time.monotonic() - began
            after = self._read_clocks(process)
        cycles = sum(tally.cycles for tally in tallies)
        grown = self.count_bytes() - size_before
        percentiles = []
        for name in REQUESTS:
            times = sorted(ms for tally in tallies for ms in tally.took[name])
            percentiles.append(f"{times[len(times) // 2]:.1f} / {times[len(times) * 99 // 100]:.1f}")
        return [
            self.engine, f"{stored:,}", str(threads), f"{cycles / took:.1f}",
            *(f"{(end - start) * 1000 / cycles:.1f}" for start, end in zip(before, after, strict=True)),
            *percentiles, f"{grown / cycles:,.0f}", str(sum(tally.failed for tally in tallies)),
        ]  # fmt: skip


def _work(clients: Sequence[Client], seconds: float) -> list[Tally]:
    """Let clients go through cycles at the same time, and return what each did."""
    tallies, until = [Tally() for _ in clients], time.monotonic() + seconds
    threads = [
        threading.Thread(target=client.work, args=(until, tally))
        for client, tally in zip(clients, tallies, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tallies


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
        with bench.store.database.write() as session:  # so large a past has had its epochs
            evidence.end_epochs(session)
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
