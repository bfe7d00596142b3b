"""Work goes on while everything breaks, on both engines: at the end the ledger agrees and the database is whole.

python -m tests.bench.bench_chaos                          one round of all troubles
python -m tests.bench.bench_chaos --minutes 30 --workers 12

Workers claim, propose and deliver through a proxy that shares their requests between two coordinators (SQLite: one) and
all the time loses one answer in twenty and cuts one request in twenty. The troubles come in turns: a coordinator is
killed; every connection is cut; answers are late; the disk is full (no file of the coordinator's, or of PostgreSQL's
connections, may grow); a backup is made and verified; one of two coordinators is lost for longer; and the swarm moves:
its coordinators are killed, and go on with a database that was restored from a backup.
"""

import argparse
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random

import httpx
import psutil

from coordinator.admin.backup import backup, backup_verified, restore
from coordinator.admin.integrity import find_problems
from coordinator.db.database import Database
from coordinator.projects.service import create_project
from tests.bench.report import append_table, format_table
from tests.support.coordinator_process import Coordinator
from tests.support.databases import PostgresServer, run_postgres
from tests.support.ledger import Ledger, RetryingTransport
from tests.support.proxy import Proxy, serve_proxy
from tests.support.seeds import write_seed
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker

HEADINGS = ("engine", "minutes", "results", "sent again", "troubles", "lost answers / cut requests / late", "ledger")
PATIENCE_SECONDS = 240.0
TROUBLE_SECONDS = 4.0
RESULTS_BETWEEN = 6
"""Results that arrive between two troubles, so that each one meets work."""

FAULTY_SHARE = 0.05
FULL_BYTES = 4096


class ChaosProxy(Proxy):
    """Shares requests between the coordinators that listen; loses answers, cuts requests, and delays on demand."""

    def __init__(self, targets: list[tuple[str, int]]) -> None:
        super().__init__(targets[0])
        self.targets = targets
        self.is_cut = False
        self.delay_seconds = 0.0
        self.done = Counter[str]()
        self._random = Random(7)

    def _relay(self, client: socket.socket, request: bytes) -> None:
        if self.is_cut:
            raise ConnectionResetError
        drawn = self._random.random()
        if self.delay_seconds:
            self.done["late"] += 1
            time.sleep(self._random.uniform(0, self.delay_seconds))
        if drawn < FAULTY_SHARE:
            self.done["cut"] += 1
            self._ask(request[: len(request) * 2 // 3], waits=False)
            return
        answer = self._ask(request)
        if drawn > 1 - FAULTY_SHARE:
            self.done["lost"] += 1
        else:
            client.sendall(answer)

    def _ask(self, request: bytes, *, waits: bool = True) -> bytes:
        """Ask one of the coordinators; one that does not listen is passed over."""
        for target in self._random.sample(self.targets, len(self.targets)):
            with suppress(ConnectionRefusedError), socket.create_connection(target, PATIENCE_SECONDS) as server:
                server.sendall(request)
                return b"".join(iter(lambda: server.recv(65_536), b"")) if waits else b""
        raise ConnectionResetError


class Swarm:
    """Coordinators on one database, workers behind a proxy, and the troubles that come to them."""

    def __init__(self, folder: Path, postgres: PostgresServer | None, workers: int) -> None:
        self._folder, self._postgres = folder, postgres
        self._places = 0
        self.url = self._make_place()
        with self.open_database() as database:
            database.migrate()
            with database.write() as session:
                create_project(session, write_seed(folder / "seed"))
                self._tokens = [create_token(session, f"volunteer-{number}", "bench") for number in range(workers)]
        self.coordinators = [self._start(number) for number in range(2 if postgres else 1)]
        self.proxy = ChaosProxy([coordinator.address for coordinator in self.coordinators])
        self.ledger, self.errors, self.repeated = Ledger(), list[BaseException](), 0
        self._is_over = threading.Event()

    def _make_place(self) -> str:
        """The address of a database that is not there yet, or is empty."""
        self._places += 1
        return self._postgres.create() if self._postgres else f"sqlite:///{self._folder}/{self._places}/swarm.db"

    @contextmanager
    def open_database(self) -> Iterator[Database]:
        database = Database(self.url)
        try:
            yield database
        finally:
            database.close()

    @property
    def _pg_bin(self) -> Path | None:
        return self._postgres.bin_folder if self._postgres else None

    def _start(self, number: int, port: int = 0) -> Coordinator:
        folder = self._folder / f"coordinator-{number}"
        folder.mkdir(exist_ok=True)
        return Coordinator(self.url, folder, port)

    def close(self) -> None:
        for coordinator in self.coordinators:
            coordinator.kill()

    def work(self, number: int) -> None:
        """A worker's jobs until all is over; a job that has begun is finished."""
        transport = RetryingTransport(httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0)))
        with httpx.Client(transport=transport, base_url=self.proxy.url, timeout=PATIENCE_SECONDS) as http:
            worker, job = MiniWorker(http, self._tokens[number], f"w{number}"), 0
            try:
                while not self._is_over.is_set():
                    self.ledger.do_job(worker, job)
                    job += 1
            except BaseException as error:
                self.errors.append(error)
                raise
            finally:
                self.repeated += transport.repeated

    def wait_for_results(self, more: int = RESULTS_BETWEEN) -> None:
        wanted, deadline = len(self.ledger.acknowledged) + more, time.monotonic() + PATIENCE_SECONDS
        while len(self.ledger.acknowledged) < wanted:
            assert not self.errors, self.errors
            assert time.monotonic() < deadline, "no result arrives any more"
            time.sleep(0.05)

    def stop_working(self) -> None:
        self._is_over.set()

    def kill(self) -> None:
        self.coordinators[0].kill()
        self.coordinators[0].start()

    def cut(self) -> None:
        self.proxy.is_cut = True
        time.sleep(TROUBLE_SECONDS)
        self.proxy.is_cut = False

    def delay(self) -> None:
        self.proxy.delay_seconds = 2.0
        self.wait_for_results()
        self.proxy.delay_seconds = 0.0

    def fill_disk(self) -> None:
        first = self.coordinators[0].pid
        writers = self._postgres.list_connections() if self._postgres else [psutil.Process(first)]
        _limit_files(writers, str(FULL_BYTES))
        time.sleep(TROUBLE_SECONDS)
        _limit_files(writers, "unlimited")

    def back_up(self) -> None:
        with self.open_database() as database:
            backup_verified(database, self._folder / "verified.backup", self._pg_bin, _show_nothing, force=True)

    def lose_one(self) -> None:
        lost = self.coordinators[-1]
        lost.kill()
        if len(self.coordinators) > 1:
            self.wait_for_results(3 * RESULTS_BETWEEN)
        else:
            time.sleep(TROUBLE_SECONDS)
        lost.start()

    def move(self) -> None:
        """Nothing was acknowledged after the backup, so nothing may be missing."""
        for coordinator in self.coordinators:
            coordinator.kill()
        file = self._folder / "moved.backup"
        with self.open_database() as database:
            backup(database, file, self._pg_bin, _show_nothing, force=True)
        self.url = self._make_place()
        with self.open_database() as database:
            restore(database, file, self._pg_bin, _show_nothing)
        ports = [coordinator.address[1] for coordinator in self.coordinators]
        self.coordinators = [self._start(number, port) for number, port in enumerate(ports)]


TROUBLES: dict[str, Callable[[Swarm], None]] = {
    "kill": Swarm.kill, "cut": Swarm.cut, "delay": Swarm.delay, "full disk": Swarm.fill_disk, "backup": Swarm.back_up,
    "one lost": Swarm.lose_one, "restore": Swarm.move,
}  # fmt: skip


def _limit_files(processes: list[psutil.Process], size: str) -> None:
    """Let no file of these processes grow beyond a size. PostgreSQL may run as another user, whose right this is."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            command, user = ["prlimit", f"--pid={process.pid}", f"--fsize={size}:unlimited"], process.uids().real
            subprocess.run(command, user=user if user != os.getuid() else None, stderr=subprocess.DEVNULL, check=False)


def _show_nothing(what: str, done: int, total: int) -> None: ...


def run(engine: str, minutes: float, workers: int) -> list[str]:
    """The cells of one row. Raises AssertionError where a result is lost, doubled or damaged."""
    began, came = time.monotonic(), Counter[str]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        swarm = Swarm(folder, stack.enter_context(run_postgres()) if engine == "postgresql" else None, workers)
        stack.callback(swarm.close)
        stack.enter_context(serve_proxy(swarm.proxy))
        threads = [threading.Thread(target=swarm.work, args=(number,)) for number in range(workers)]
        for thread in threads:
            thread.start()
        try:
            while not came or time.monotonic() < began + 60 * minutes:
                for name, trouble in TROUBLES.items():
                    swarm.wait_for_results()
                    print(f"{engine}: {name}, after {len(swarm.ledger.acknowledged)} results", flush=True)
                    trouble(swarm)
                    came[name] += 1
            swarm.wait_for_results()
        finally:
            swarm.stop_working()
            for thread in threads:
                thread.join()
        assert not swarm.errors, swarm.errors
        with swarm.open_database() as database:
            swarm.ledger.check(database)
            with database.read() as session:
                assert not (problems := list(find_problems(session, _show_nothing))), problems
        done = swarm.proxy.done
        return [
            engine, f"{(time.monotonic() - began) / 60:.1f}", str(len(swarm.ledger.acknowledged)), str(swarm.repeated),
            ", ".join(f"{count} {name}" for name, count in came.items()),
            f"{done['lost']} / {done['cut']} / {done['late']}", "agrees, whole",
        ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--minutes", type=float, default=0.0, help="rounds begin until then; there is one at least")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--append", type=Path, help="add the table to this file")
    options = parser.parse_args()
    rows = [run(engine, options.minutes, options.workers) for engine in options.engines]
    print(format_table(HEADINGS, rows))
    if options.append:
        append_table(options.append, "tests.bench.bench_chaos", HEADINGS, rows)


if __name__ == "__main__":
    main()
