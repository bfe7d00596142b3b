"""Whole cycles over HTTP as the swarm grows: claim, proposal, three heartbeats, result; on both engines.

python -m tests.bench.bench_cycle                          prints a table
python -m tests.bench.bench_cycle --sizes 100 5000 --seconds 5 --engines sqlite
python -m tests.bench.bench_cycle --append docs/benchmarks.md
python -m tests.bench.bench_cycle --against ../other       with the coordinator of another checkout, and the ratios

One coordinator process for each database, client threads in this one. A result carries a file of 25 kB, a curve of 200
points and a finding. CPU is what the kernel counted for the coordinator's process, for PostgreSQL's processes and for
this one. The databases of all sizes are filled first; then their coordinators run at the same time and are measured in
turns.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import psutil

from coordinator.db.database import Database
from coordinator.lineage import service as lineage
from tests.bench.bench_storage import ROWS_AT_ONCE, Store
from tests.bench.cycle_client import REQUESTS, Client, Tally
from tests.bench.findings_store import index_findings
from tests.bench.report import append_table, format_table
from tests.bench.synthetic import Growth, write_program
from tests.support.databases import PostgresServer, run_postgres
from tests.support.seeds import write_seed
from tests.support.swarm_data import end_epochs
from tests.support.tokens import create_token

SIZES = (100, 5_000, 20_000, 100_000)
THREADS = (1, 4)
SECONDS = 15.0
WARM_UP_SECONDS = 3.0
"""Seconds before the measurement, in which a coordinator loads models and fills caches."""

TURNS = 5
"""The sizes take turns, so that all of them meet the machine when it is fast and when it is slow."""

SETTLE_SECONDS = 1.2
"""After a turn, before its CPU is counted: what a coordinator holds back for a second belongs to it."""

HEADINGS = (
    "code", "engine", "stored", "threads", "cycles/s", "server CPU-ms", "database CPU-ms", "client CPU-ms",
    *(f"{name} p50 / p99 ms" for name in REQUESTS), "failed",
)  # fmt: skip


OURS = Path(__file__).parents[2]
FILL = """
import json, sys
from tests.bench import bench_cycle
with bench_cycle.open_filled(sys.argv[1], int(sys.argv[2])) as bench:
    pid = bench.postgres._instance.get_pid() if bench.postgres else None
    print(json.dumps([bench.url, bench.tokens, bench.read_root_files(), pid]), flush=True)
    sys.stdin.read()
"""
"""Fills a database with the code of the folder that it runs in, and keeps it until its input ends."""


@dataclass
class Served:
    """A filled database, and the folder of the code that serves it. `postgres` is PostgreSQL's first process."""

    code: Path
    engine: str
    url: str
    tokens: list[str]
    root_files: dict[str, str]
    postgres: psutil.Process | None

    @contextmanager
    def serve(self, processes: int = 1) -> Iterator[tuple[str, psutil.Process]]:
        environment = os.environ | {"SWARM_DATABASE_URL": self.url}
        command = [sys.executable, "-m", "coordinator", "serve", "--port", "0"]
        command += ["--processes", str(processes)] if processes > 1 else []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=self.code) as process:
            assert process.stdout is not None
            try:
                address = next(word for line in process.stdout for word in line.split() if word.startswith("http"))
                yield address, psutil.Process(process.pid)
            finally:
                process.terminate()

    def cpu_seconds(self) -> float:
        """Seconds of CPU that PostgreSQL's living processes have used."""
        processes = [self.postgres, *self.postgres.children(recursive=True)] if self.postgres else []
        return sum(_cpu(process) for process in processes)


@contextmanager
def fill(code: Path, engine: str, stored: int) -> Iterator[Served]:
    """A database that the code in a folder fills in a process of its own."""
    command = [sys.executable, "-c", FILL, engine, str(stored)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=code) as process:
        assert process.stdin is not None and process.stdout is not None
        url, tokens, root_files, pid = json.loads(process.stdout.readline())
        yield Served(code, engine, url, tokens, root_files, psutil.Process(pid) if pid else None)
        process.stdin.close()


@dataclass
class Bench:
    """A new database with a project; of PostgreSQL also its server."""

    engine: str
    url: str
    store: Store
    postgres: PostgresServer | None
    tokens: list[str]

    def read_root_files(self) -> dict[str, str]:
        with self.store.database.read() as session:
            return lineage.read_files(session, self.store.project_id, self.store.root.sha)


@dataclass
class Row:
    """A row of the table: a database of one size, its coordinator and some clients, measured in turns with others."""

    bench: Served
    stored: int
    process: psutil.Process
    clients: list[Client]
    tallies: list[Tally] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: tuple[float, ...] = (0.0, 0.0, 0.0)

    def take_turn(self, seconds: float) -> None:
        before, began = self._read_clocks(), time.monotonic()
        self.tallies += _work(self.clients, seconds)
        self.seconds += time.monotonic() - began
        time.sleep(SETTLE_SECONDS)
        after = zip(self.cpu_seconds, before, self._read_clocks(), strict=True)
        self.cpu_seconds = tuple(so_far + end - start for so_far, start, end in after)

    def _read_clocks(self) -> tuple[float, ...]:
        """Seconds of CPU of the server, of PostgreSQL (SQLite runs inside the server), and of the clients here."""
        return _cpu(self.process), self.bench.cpu_seconds(), time.process_time()

    @property
    def server_ms(self) -> float:
        """The server's milliseconds of CPU for a cycle."""
        return self.cpu_seconds[0] * 1000 / sum(tally.cycles for tally in self.tallies)

    def list_cells(self) -> list[str]:
        cycles = sum(tally.cycles for tally in self.tallies)
        percentiles = []
        for name in REQUESTS:
            times = sorted(ms for tally in self.tallies for ms in tally.took[name])
            percentiles.append(f"{times[len(times) // 2]:.1f} / {times[len(times) * 99 // 100]:.1f}")
        return [
            "ours" if self.bench.code == OURS else self.bench.code.name,
            self.bench.engine, f"{self.stored:,}", str(len(self.clients)), f"{cycles / self.seconds:.1f}",
            *(f"{spent * 1000 / cycles:.1f}" for spent in self.cpu_seconds),
            *percentiles, str(sum(tally.failed for tally in self.tallies)),
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
    for client in clients:
        client.rest()
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
        postgres = stack.enter_context(run_postgres()) if engine == "postgresql" else None
        url = postgres.create() if postgres else f"sqlite:///{folder}/bench.db"
        database = Database(url)
        stack.callback(database.close)
        database.migrate()
        store = Store(database, seed)
        with database.write() as session:
            tokens = [create_token(session, f"volunteer-{number}", "bench") for number in range(max(THREADS))]
        yield Bench(engine, url, store, postgres, tokens)


@contextmanager
def open_filled(engine: str, stored: int) -> Iterator[Bench]:
    """A database with `stored` experiments, as they would be after their epochs."""
    with tempfile.TemporaryDirectory() as folder, open_bench(Path(folder), engine) as bench:
        made = Growth(bench.store.root, bench.store.template).grow(stored)
        while some := list(islice(made, ROWS_AT_ONCE)):
            bench.store.insert(some)
        index_findings(bench.store.database, bench.store.project_id)
        end_epochs(bench.store.database)
        yield bench


@contextmanager
def open_row(bench: Served, stored: int, threads: int) -> Iterator[Row]:
    """A coordinator that runs, with clients that have had their first jobs."""
    with bench.serve() as (address, process):
        clients = [Client(address, token, f"w{n}", bench.root_files) for n, token in enumerate(bench.tokens[:threads])]
        for client in clients:
            client.calibrate()
        _work(clients, WARM_UP_SECONDS)
        yield Row(bench, stored, process, clients)


def run(
    engine: str, sizes: Sequence[int], seconds: float, codes: Sequence[Path] = (OURS,), threads: Sequence[int] = THREADS
) -> Iterator[Row]:
    """Fill a new database of each size with each code, and measure them side by side."""
    with ExitStack() as databases:
        benches = [(stored, databases.enter_context(fill(code, engine, stored))) for stored in sizes for code in codes]
        for count in threads:
            with ExitStack() as servers:
                rows = [servers.enter_context(open_row(bench, stored, count)) for stored, bench in benches]
                for row in rows * TURNS:
                    row.take_turn(seconds / TURNS)
            yield from rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="experiments stored beforehand")
    parser.add_argument("--threads", nargs="+", type=int, default=list(THREADS), choices=range(1, 5), help="clients")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each row, in all its turns")
    parser.add_argument("--against", type=Path, help="a checkout of another commit, measured in turns with this one")
    parser.add_argument("--append", type=Path, help="add the table to this file")
    options = parser.parse_args()
    if options.seconds <= 0:
        parser.error("--seconds must be above 0")
    codes = [OURS, *([options.against.resolve()] if options.against else [])]
    rows, ratios = [], []
    for engine in options.engines:
        measured = list(run(engine, options.sizes, options.seconds, codes, options.threads))
        rows += [row.list_cells() for row in measured]
        for ours, theirs in zip(measured[::2], measured[1::2], strict=True) if options.against else ():
            told = f"{engine}, {ours.stored:,} stored, {len(ours.clients)} threads"
            ratios.append(f"{told}: {ours.server_ms / theirs.server_ms:.2f} times the other's server CPU")
    print(format_table(HEADINGS, rows))
    print("", *ratios, sep="\n")
    if options.append:
        append_table(options.append, "tests.bench.bench_cycle", HEADINGS, rows)


if __name__ == "__main__":
    main()
