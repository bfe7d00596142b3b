"""Many volunteers at a time, as one machine can simulate them, on both engines: no error, and a ledger that agrees.

python -m tests.bench.bench_load                                       a short form
python -m tests.bench.bench_load --volunteers 10000 --minutes 10       the full one
python -m tests.bench.bench_load --speed 5                             all times divided by 5: five times the load
python -m tests.bench.bench_load --engines postgresql --processes 2    a coordinator of two processes

Each volunteer claims a job, proposes, sends a heartbeat a minute, and delivers after five minutes; all begin spread
over one job's time. A result carries a file of 25 kB, a curve of 200 points and a finding. When all work, heartbeats
are timed in turns without and with open tabs of the project's page. At the end the database is compared with what was
sent and acknowledged. Volunteers, tabs, coordinator and database share this machine.
"""

import argparse
import heapq
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import psutil

from coordinator.db.database import Database
from coordinator.lineage import service as lineage
from coordinator.projects.service import create_project
from shared.leases import ResultReply
from tests.bench.bench_cycle import OURS, Served
from tests.bench.cycle_client import Client, CycleError, Draft, Json, Tally, makes_experiment
from tests.bench.report import append_table, format_table
from tests.bench.synthetic import write_program
from tests.support.databases import run_postgres
from tests.support.ledger import Ledger
from tests.support.seeds import write_seed
from tests.support.tokens import create_token

HEADINGS = (
    "engine", "processes", "volunteers", "minutes", "cycles/s asked", "cycles/s", "heartbeats/s asked", "heartbeats/s",
    "late p95 s", "heartbeat p50 / p95 ms", "p95 ms with tabs", "ratio", "server CPU s/s", "results", "failed",
    "ledger",
)  # fmt: skip
JOB_SECONDS, HEARTBEAT_SECONDS, DRAFT_SECONDS = 300.0, 60.0, 20.0
BEATS = 4
"""Heartbeats of a job: the first is sent after the draft, and the fifth would come with the result."""

SENDERS = 24
"""Threads, and connections, that all volunteers share."""

WINDOWS = 4
"""Turns without tabs, and as many with them."""

IDLE_SECONDS = 2.0
"""A connection that is not used for longer is closed; after five seconds the server would."""

SETTLE_SECONDS = 2.0
PAUSE_SECONDS = 5.0
"""Seconds after an error until the volunteer asks for another job."""


@dataclass
class Volunteer:
    """A worker that waits for `step`, at its next moment. `ends_at` is when its job's result is due."""

    token: str
    name: str
    step: str = "claim"
    lease: Json | None = None
    drafted: Draft | None = None
    ends_at: float = 0.0


@dataclass
class Sender:
    """A thread that does the steps of its volunteers in the order in which they are due."""

    client: Client
    volunteers: Sequence[Volunteer]
    speed: float
    ledger: Ledger
    tally: Tally = field(default_factory=Tally)
    beats: list[tuple[float, float]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    def run(self, starts: Sequence[float], is_over: threading.Event) -> None:
        """`starts` are the moments at which the volunteers claim their first jobs."""
        due = [(start, number) for number, start in enumerate(starts)]
        heapq.heapify(due)
        while due:
            moment, number = heapq.heappop(due)
            wait = moment - time.monotonic()
            if wait > IDLE_SECONDS:
                self.client.rest()
            if is_over.wait(max(0.0, wait)):
                break
            self.late.append(max(0.0, -wait))
            heapq.heappush(due, (self._do(self.volunteers[number]), number))
        self.client.rest()

    def _do(self, one: Volunteer) -> float:
        """Do a volunteer's step; the moment of its next one."""
        self.client.become(one.token, one.name)
        try:
            return getattr(self, f"_{one.step}")(one)
        except (CycleError, OSError, http.client.HTTPException):
            one.step, one.lease, one.drafted = "claim", None, None
            return time.monotonic() + PAUSE_SECONDS

    def _claim(self, one: Volunteer) -> float:
        one.lease = self.client.claim(self.tally)
        if one.lease is None:
            return time.monotonic() + PAUSE_SECONDS
        one.ends_at = time.monotonic() + JOB_SECONDS / self.speed
        one.step = "propose" if makes_experiment(one.lease) else "beat"
        return time.monotonic() + DRAFT_SECONDS / self.speed

    def _propose(self, one: Volunteer) -> float:
        assert one.lease is not None
        one.drafted = self.client.propose(one.lease, self.tally)
        one.lease["base"].pop("files")
        one.step = "beat"
        return self._next_beat(one)

    def _beat(self, one: Volunteer) -> float:
        assert one.lease is not None
        share = 1 - (one.ends_at - time.monotonic()) * self.speed / JOB_SECONDS
        began = time.monotonic()
        self.client.beat(one.lease, max(1, int(share * 100)), min(max(share, 0.0), 1.0), self.tally)
        self.beats.append((began, self.tally.took["heartbeat"][-1]))
        return self._next_beat(one)

    def _next_beat(self, one: Volunteer) -> float:
        following = time.monotonic() + HEARTBEAT_SECONDS / self.speed
        if following < one.ends_at:
            return following
        one.step = "deliver"
        return one.ends_at

    def _deliver(self, one: Volunteer) -> float:
        assert one.lease is not None
        reply = ResultReply.model_validate(
            self.client.deliver(one.lease, one.drafted, self.tally, self.ledger.sent)  # each adds one: no lock
        )
        self.ledger.acknowledged[str(reply.run_uuid)] = reply
        one.step, one.lease, one.drafted = "claim", None, None
        return time.monotonic()


@contextmanager
def open_load(folder: Path, engine: str, volunteers: int) -> Iterator[tuple[Served, Database]]:
    """A new database with a project whose program has 25 kB, and an account for each volunteer."""
    seed = write_seed(folder / "seed")
    (seed / "train.py").write_text(write_program())
    (seed / "swarm.toml").write_text((seed / "swarm.toml").read_text().replace("4096", "65536"))
    with ExitStack() as stack:
        postgres = stack.enter_context(run_postgres()) if engine == "postgresql" else None
        url = postgres.create() if postgres else f"sqlite:///{folder}/load.db"
        database = Database(url)
        stack.callback(database.close)
        database.migrate()
        with database.write() as session:
            project = create_project(session, seed)[0]
            files = lineage.read_files(session, project.id, project.root_sha)
            tokens = [create_token(session, f"volunteer-{number}", "bench") for number in range(volunteers)]
        process = psutil.Process(postgres._instance.get_pid()) if postgres else None
        yield Served(OURS, engine, url, tokens, files, process), database


@contextmanager
def open_tabs(url: str, tabs: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.load_tabs", url, "tiny", str(tabs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=OURS) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "open\n", "the tabs do not open"
            yield
        finally:
            process.terminate()


def measure(url: str, tabs: int, seconds: float) -> dict[bool, list[tuple[float, float]]]:
    """Windows of time by whether tabs were open, in turns, for so many seconds in all."""
    windows: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for number in range(2 * WINDOWS):
        with_tabs = number % 2 == 1
        with ExitStack() as stack:
            if with_tabs:
                stack.enter_context(open_tabs(url, tabs))
            time.sleep(SETTLE_SECONDS)
            began = time.monotonic()
            time.sleep(seconds / (2 * WINDOWS))
            windows[with_tabs].append((began, time.monotonic()))
    return windows


def run(engine: str, volunteers: int, minutes: float, tabs: int, speed: float, processes: int = 1) -> list[str]:
    """The cells of one row. Raises AssertionError where the ledger does not agree."""
    with tempfile.TemporaryDirectory() as folder, open_load(Path(folder), engine, volunteers) as (served, database):
        with (
            patch.dict(os.environ, SWARM_LISTENERS_PER_ADDRESS=str(4 * tabs)),
            served.serve(processes) as (url, process),
        ):
            ledger, job_seconds = Ledger(), JOB_SECONDS / speed
            everybody = [Volunteer(token, f"w{number}") for number, token in enumerate(served.tokens)]
            senders = [
                Sender(Client(url, served.tokens[0], "w0", served.root_files), everybody[n::SENDERS], speed, ledger)
                for n in range(min(SENDERS, volunteers))
            ]
            began = time.monotonic()
            full_at = began + job_seconds  # from here on as many jobs end as begin
            is_over, threads = threading.Event(), []
            for n, sender in enumerate(senders):
                starts = [began + job_seconds * (n + SENDERS * k) / volunteers for k in range(len(sender.volunteers))]
                threads.append(threading.Thread(target=sender.run, args=(starts, is_over)))
                threads[-1].start()
            time.sleep(max(0.0, full_at - time.monotonic()))
            cycles, cpu, steady = _count(senders), _cpu_seconds(process), time.monotonic()
            windows = measure(url, tabs, minutes * 60)
            seconds = time.monotonic() - steady
            cycles, cpu = _count(senders) - cycles, _cpu_seconds(process) - cpu
            is_over.set()
            for thread in threads:
                thread.join()
        ledger.check(database)
        beats = [beat for sender in senders for beat in sender.beats]
        without, with_tabs = (_within(beats, windows[has_tabs]) for has_tabs in (False, True))
        late = sorted(seconds for sender in senders for seconds in sender.late)
        steady_beats = sum(steady <= moment <= steady + seconds for moment, _ in beats)
        return [
            engine, str(processes), f"{volunteers:,}", f"{seconds / 60:.1f}", f"{volunteers / job_seconds:.1f}",
            f"{cycles / seconds:.1f}", f"{volunteers * BEATS / job_seconds:.1f}", f"{steady_beats / seconds:.1f}",
            f"{_p(late, 95):.2f}",
            f"{_p(without, 50):.1f} / {_p(without, 95):.1f}", f"{_p(with_tabs, 95):.1f}",
            f"{_p(with_tabs, 95) / _p(without, 95):.2f}", f"{cpu / seconds:.2f}", f"{len(ledger.acknowledged):,}",
            str(sum(sender.tally.failed for sender in senders)), "agrees",
        ]  # fmt: skip


def _count(senders: Sequence[Sender]) -> int:
    """Results that were delivered, of experiments and of checks."""
    return sum(len(sender.tally.took["result"]) for sender in senders)


def _cpu_seconds(process: psutil.Process) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


def _within(beats: Sequence[tuple[float, float]], windows: Sequence[tuple[float, float]]) -> list[float]:
    return sorted(ms for moment, ms in beats if any(start <= moment <= end for start, end in windows))


def _p(values: Sequence[float], percent: int) -> float:
    return values[len(values) * percent // 100] if values else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--volunteers", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=2.0, help="measured, after all are at work")
    parser.add_argument("--tabs", type=int, default=50)
    parser.add_argument("--speed", type=float, default=1.0, help="divides the times of a job")
    parser.add_argument("--processes", type=int, default=1, help="of the coordinator; SQLite takes one")
    parser.add_argument("--append", type=Path, help="add the table to this file")
    options = parser.parse_args()
    sizes = (options.volunteers, options.minutes, options.tabs, options.speed, options.processes)
    rows = [run(engine, *sizes) for engine in options.engines]
    print(format_table(HEADINGS, rows))
    if options.append:
        append_table(options.append, "tests.bench.bench_load", HEADINGS, rows)


if __name__ == "__main__":
    main()
