"""The cost of every page as a swarm grows: CPU of the coordinator and its database, bytes, scripts, memory.

    python -m tests.bench.bench_pages --sizes 1000 100000 --engines sqlite postgresql

Pages are those of the route table. A page of one thing is asked for with another one each time, and one that is not
public as a maintainer. The sizes take turns, so that other work on the machine costs both the same. CPU is the
coordinator's and, on PostgreSQL, its server's; bytes are those of the answer, compressed as browsers ask for it.
"""

import argparse
import gzip
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import httpx
import psutil

from coordinator.accounts.service import find_or_add_volunteer
from coordinator.accounts.sessions import start_session
from coordinator.db.database import Database
from coordinator.web.rendering import STATIC_FOLDER
from coordinator.web.sessions import COOKIE
from shared.protocol import API_PREFIX
from shared.workers import Role, TokenScope
from tests.bench import pages_store
from tests.bench.report import append_table, format_table
from tests.bench.server_process import ServerProcess
from tests.support.databases import PostgresServer, run_postgres
from tests.support.page_table import NOT_PUBLIC, PAGES, fill_in
from tests.support.ports import choose_port

HEADINGS = (
    "engine", "page", "CPU-ms at {small}", "CPU-ms at {large}", "times", "KiB", "KiB compressed", "script, KiB",
    "misses",
)  # fmt: skip
MOST_CPU_MS, MOST_KIB, MOST_TIMES, MOST_SCRIPT_KIB, MOST_MEMORY = 50, 60, 1.5, 120, 1.3
SMALL_CPU_MS = 5.0
"""Costs below this are not compared as a ratio: they are the request itself, and noise."""

NEVER = "1000000"
"""Seconds between tasks that have nothing to do with pages: what is made in bulk has no vectors and no epoch."""

TURNS, VIEWS, MEMORY_VIEWS = 4, 8, 1_000
BROWSER = {"Accept": "text/html,*/*;q=0.8", "Accept-Encoding": "gzip"}
EXTRA = (
    f"/projects/tiny?hardware_class={quote(pages_store.RARE)}", "/projects/tiny?first=200&last=700",
    "/projects/tiny/tree.json", f"/projects/tiny/tree?below={pages_store.FIRST_ID}",
    f"{API_PREFIX}/experiments?project=tiny&hardware_class={quote(pages_store.RARE)}",
    "/projects/tiny/plot", f"{API_PREFIX}/records", f"{API_PREFIX}/hardware-classes",
    f"{API_PREFIX}/projects/tiny/progress", f"{API_PREFIX}/topics?project=tiny",
)  # fmt: skip
"""Addresses beside the pages' own: other states of theirs, and what programs read of the same."""

_IMPORT = re.compile(r'from "\./([\w.-]+\.js)"')
_SCRIPT = re.compile(r'<script[^>]* src="[^"]*/static/([\w.-]+)\?')


class Cost(NamedTuple):
    """The cost of one view of a page."""

    cpu_ms: float
    kib: float
    compressed_kib: float
    script_kib: float


class Bench:
    """A coordinator in a process of its own, on a filled database."""

    def __init__(
        self, url: str, address: str, server: ServerProcess, postgres: PostgresServer | None, experiments: int,
        secret: str,
    ) -> None:  # fmt: skip
        self.url, self.address = url, address
        self._stranger = httpx.Client(base_url=url, headers=BROWSER, timeout=60)
        self._maintainer = httpx.Client(base_url=url, headers=BROWSER, timeout=60, cookies={COOKIE: secret})
        self.server, self._postgres, self._experiments = server, postgres, experiments
        self._guarded = {page for route in NOT_PUBLIC for page in PAGES[route]}
        self._process = psutil.Process(server.process.pid)

    def cpu_seconds(self) -> float:
        own = sum(self._process.cpu_times()[:2])
        return own + (self._postgres.cpu_seconds() if self._postgres else 0.0)

    def fill_in(self, page: str, number: int) -> str:
        """An address of a page; `number` chooses the things that it is about."""
        return fill_in(page, pages_store.name_things(number, self._experiments))

    def get(self, page: str, number: int) -> httpx.Response:
        """A view of a page: as a maintainer, if it is not public."""
        http = self._maintainer if page in self._guarded else self._stranger
        return http.get(self.fill_in(page, number))

    def take_turn(self, page: str, turn: int) -> float:
        """CPU-ms of some views of a page."""
        before = self.cpu_seconds()
        for number in range(VIEWS):
            response = self.get(page, (turn + 1) * VIEWS + number)
            assert response.status_code == 200, response.url
        return 1000 * (self.cpu_seconds() - before)


def measure(benches: list[Bench], page: str) -> list[Cost]:
    """The mean cost of a view with each size; empty where there is no such page."""
    answers = [bench.get(page, 0) for bench in benches]
    if any(first.status_code != 200 for first in answers):
        sys.stderr.write(f"{page}: {[first.status_code for first in answers]}\n")
        return []
    for bench in benches:
        bench.take_turn(page, -1)
    turns = [[bench.take_turn(page, turn) for bench in benches] for turn in range(TURNS)]
    means = [sum(of_size) / (TURNS * VIEWS) for of_size in zip(*turns, strict=True)]
    sys.stderr.write(f"{page}: {', '.join(f'{mean:.1f}' for mean in means)} CPU-ms\n")
    return [
        Cost(mean, len(first.content) / 1024, int(first.headers.get("content-length", len(first.content))) / 1024,
             measure_scripts(first.text) / 1024)
        for mean, first in zip(means, answers, strict=True)
    ]  # fmt: skip


def measure_scripts(html: str) -> int:
    """Bytes of all scripts that a page loads, compressed."""
    wanted, seen = _SCRIPT.findall(html), set[str]()
    while wanted:
        name = wanted.pop()
        if name not in seen:
            seen.add(name)
            wanted += _IMPORT.findall((STATIC_FOLDER / name).read_text())
    return sum(len(gzip.compress((STATIC_FOLDER / name).read_bytes())) for name in seen)


@contextmanager
def open_bench(engine: str, experiments: int, folder: Path) -> Iterator[Bench]:
    """A coordinator whose database has so many experiments."""
    with ExitStack() as stack:
        postgres = stack.enter_context(run_postgres()) if engine == "postgresql" else None
        address = postgres.create_migrated() if postgres else f"sqlite:///{folder}/coordinator.db"
        began = time.monotonic()
        database = Database(address)
        database.migrate()
        pages_store.fill(database, folder, experiments)
        with database.write() as session:
            boss = find_or_add_volunteer(session, "boss")
            boss.role = Role.MAINTAINER
            secret = start_session(session, boss.id, TokenScope.DUTIES, "bench")
        database.close()
        sys.stderr.write(f"{engine}: {experiments:,} experiments made in {time.monotonic() - began:.0f} s\n")
        port = choose_port()
        command = [sys.executable, "-m", "coordinator", "serve", "--port", str(port)]
        server = ServerProcess(command, address, SWARM_MEANING_CHECK_SECONDS=NEVER, SWARM_EPOCH_CHECK_SECONDS=NEVER)
        stack.callback(server.stop)
        url = f"http://127.0.0.1:{port}"
        server.wait_for(f"{url}/healthz")
        yield Bench(url, address, server, postgres, experiments, secret)


def measure_engine(engine: str, sizes: tuple[int, int], pages: list[str]) -> Iterator[tuple[str, ...]]:
    """The table's rows for one engine, the memory's at the end."""
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in sizes]
        pairs = zip(sizes, folders, strict=True)
        benches = [stack.enter_context(open_bench(engine, size, folder)) for size, folder in pairs]
        found = {page: costs for page in pages if (costs := measure(benches, page))}
        memory = measure_memory(benches[-1], list(found))
    for page, (small, large) in found.items():
        times = large.cpu_ms / max(small.cpu_ms, 0.1)
        has_grown = times > MOST_TIMES and large.cpu_ms > SMALL_CPU_MS
        misses = {
            "CPU": large.cpu_ms > MOST_CPU_MS, "times": has_grown, "KiB": large.kib > MOST_KIB,
            "script": large.script_kib > MOST_SCRIPT_KIB,
        }  # fmt: skip
        figures = (small.cpu_ms, large.cpu_ms, times, large.kib, large.compressed_kib, large.script_kib)
        missed = ", ".join(name for name, is_missed in misses.items() if is_missed)
        yield engine, f"`{page}`", *(f"{figure:.1f}" for figure in figures), missed
    missed = "memory" if memory[1] > MOST_MEMORY * memory[0] else ""
    text = f"memory after {MEMORY_VIEWS:,} views: {memory[0]:.0f} to {memory[1]:.0f} MiB"
    yield engine, text, "", "", f"{memory[1] / memory[0]:.2f}", "", "", "", missed


def measure_memory(bench: Bench, pages: list[str]) -> tuple[float, float]:
    """Resident memory in MiB before and after 1,000 views of all pages in turn; each was seen before."""
    before = bench.server.read_memory("VmRSS")
    for number in range(MEMORY_VIEWS):
        bench.get(pages[number % len(pages)], number)
    return before, bench.server.read_memory("VmRSS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs=2, default=(1_000, 100_000))
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--append", type=Path, help="a Markdown file to which the table is added")
    options = parser.parse_args()
    pages = [*(page for route in sorted(PAGES) for page in PAGES[route]), *EXTRA]
    rows = []
    for engine in options.engines:
        for row in measure_engine(engine, tuple(options.sizes), pages):
            sys.stderr.write(" | ".join(row) + "\n")
            rows.append(row)
    small, large = (f"{size:,}" for size in options.sizes)
    headings = [heading.format(small=small, large=large) for heading in HEADINGS]
    sys.stdout.write(format_table(headings, rows) + "\n")
    if options.append:
        append_table(options.append, "tests.bench.bench_pages", headings, rows)


if __name__ == "__main__":
    main()
