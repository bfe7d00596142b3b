"""Measures git as the swarm grows: clones, fetches, the bundle, and the server's memory, on both engines.

python -m tests.bench.bench_git                          prints a table
python -m tests.bench.bench_git --append docs/benchmarks.md

The server is a process of its own. Times are those of the real git client, from start to exit; bytes are those of the
answer that holds the pack; memory is the server's peak (VmHWM) while it answers.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import httpx
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.git_http.protocol import frame
from coordinator.lineage.branches import list_branches, move_head
from coordinator.lineage.commits import list_nearest
from coordinator.models import Commit
from tests.bench.bench_storage import ROWS_AT_ONCE, Store
from tests.bench.report import append_table, format_table
from tests.bench.server_process import ServerProcess
from tests.bench.synthetic import Growth, write_program
from tests.support.databases import run_postgres
from tests.support.git import run_git
from tests.support.seeds import write_seed

SIZES = (1_000, 20_000)
NEW_COMMITS = 10
HEADINGS = ("engine", "commits", "what", "objects", "bytes", "seconds", "server's peak, MiB")


@dataclass(frozen=True)
class Measurement:
    """One line of the table."""

    engine: str
    commits: int
    what: str
    objects: int
    bytes: int
    seconds: float
    peak_mib: float


class Server(ServerProcess):
    """A coordinator's process, and the address of the project's remote."""

    def __init__(self, database_url: str, project: str) -> None:
        super().__init__(
            [str(Path(sys.executable).with_name("swarm-coordinator")), "serve", "--port", "0"], database_url
        )
        assert self.process.stdout is not None
        self.address = f"{self.process.stdout.readline().split()[2]}/git/{project}"
        self.wait_for(f"{self.address}.git/info/refs")  # it says its address before it listens

    def count_answer(self, *lines: str) -> tuple[int, int]:
        """Objects and bytes that a fetch with these lines brings."""
        body = b"".join(frame(line) if line else b"0000" for line in lines)
        return count_pack(httpx.post(f"{self.address}.git/git-upload-pack", content=body, timeout=None).content)


def count_pack(answer: bytes) -> tuple[int, int]:
    """Objects and bytes of an answer that holds a pack."""
    start = answer.index(b"PACK")
    return int.from_bytes(answer[start + 8 : start + 12], "big"), len(answer)


class Round:
    """One engine at one size: one thing after the other is asked of one server."""

    def __init__(self, store: Store, server: Server, folder: Path, commits: int) -> None:
        self.store, self.server, self.folder, self.commits = store, server, folder, commits
        with store.database.read() as session:
            project = select(Commit).where(Commit.project_id == store.project_id)
            deepest = session.scalars(project.order_by(Commit.depth.desc()).limit(1)).one()
            self.line = list_nearest(session, deepest.sha, deepest.depth + 1)
            self.other = session.scalars(project.where(Commit.sha.not_in(self.line)).limit(1)).one().sha

    def move_head(self, sha: str) -> None:
        with self.store.database.write() as session:
            move_head(session, list_branches(session, self.store.project_id)[0], sha, "bench", "It is better.")

    def run(self) -> Iterator[Measurement]:
        url, head, old = f"{self.server.address}.git", self.line[0], self.line[NEW_COMMITS]
        full, lone, clone = self.folder / "full", self.folder / "lone", self.folder / "clone"
        self.move_head(old)
        run_git("clone", "--bare", url, str(clone))
        self.move_head(head)
        words = f"want {head} multi_ack_detailed thin-pack", "", f"have {old}", "done"
        yield self.measure(
            f"fetch of {NEW_COMMITS} new commits", lambda: run_git("-C", str(clone), "fetch", "origin", head), *words
        )
        yield self.measure("clone", lambda: run_git("clone", "--bare", url, str(full)), f"want {head}", "", "done")
        words = f"want {head}", "deepen 1", "", "done"
        yield self.measure(
            "clone, depth 1", lambda: run_git("clone", "--bare", "--depth", "1", url, str(self.folder / "one")), *words
        )
        run_git("init", "--quiet", str(lone))
        words = f"want {self.other}", "deepen 1", "", "done"
        yield self.measure(
            "fetch of one sha, depth 1",
            lambda: run_git("-C", str(lone), "fetch", "--depth", "1", url, self.other),
            *words,
        )
        yield self.measure_bundle()

    def measure(self, what: str, action: Callable[[], object], *words: str) -> Measurement:
        objects, size = self.server.count_answer(*words)
        self.server.forget_peak()
        began = time.perf_counter()
        action()
        seconds = time.perf_counter() - began
        peak = self.server.read_memory("VmHWM")
        return Measurement(self.store.database.backend, self.commits, what, objects, size, seconds, peak)

    def measure_bundle(self) -> Measurement:
        """Download the bundle, then see with git that it is whole and that nothing of it goes."""
        file, clone = self.folder / "all.bundle", self.folder / "all"
        self.server.forget_peak()
        began = time.perf_counter()
        with httpx.stream("GET", f"{self.server.address}.bundle", timeout=None) as response, file.open("wb") as out:
            for chunk in response.iter_raw():
                out.write(chunk)
        seconds = time.perf_counter() - began
        peak = self.server.read_memory("VmHWM")
        run_git("clone", "--bare", str(file), str(clone))
        run_git("-C", str(clone), "fsck", "--full", "--strict")
        assert len(run_git("-C", str(clone), "rev-list", "--all").split()) == self.commits + 2, "root and template"
        objects, _ = count_pack(file.read_bytes())
        size = file.stat().st_size
        return Measurement(self.store.database.backend, self.commits, "bundle", objects, size, seconds, peak)


@contextmanager
def open_store(folder: Path, engine: str) -> Iterator[tuple[Store, str]]:
    """A new database with a project whose program has 25 kB, and the database's address."""
    seed = write_seed(folder / "seed")
    (seed / "train.py").write_text(write_program())
    (seed / "swarm.toml").write_text((seed / "swarm.toml").read_text().replace("4096", "65536"))
    with ExitStack() as stack:
        url = f"sqlite:///{folder}/bench.db"
        if engine == "postgresql":
            url = stack.enter_context(run_postgres()).create()
        database = Database(url)
        stack.callback(database.close)
        database.migrate()
        yield Store(database, seed), url


def run(engine: str, sizes: list[int]) -> Iterator[Measurement]:
    """Grow one database through `sizes`, and measure at each."""
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder), engine) as (store, url):
        growth = Growth(store.root, store.template)
        for size in sizes:
            made = growth.grow(size - growth.made)
            while some := list(islice(made, ROWS_AT_ONCE)):
                store.insert(some)
            server = Server(url, "tiny")
            try:
                yield from Round(store, server, Path(folder) / "git", size).run()
            finally:
                server.stop()
            shutil.rmtree(Path(folder) / "git")


def format_row(m: Measurement) -> tuple[str, ...]:
    return (
        m.engine, f"{m.commits:,}", m.what, f"{m.objects:,}", f"{m.bytes:,}", f"{m.seconds:.2f}", f"{m.peak_mib:.0f}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, nargs="+", default=SIZES, help="sizes to measure at, ascending")
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--append", type=Path, help="a Markdown file to which the table is added")
    arguments = parser.parse_args()
    sizes = sorted(arguments.commits)
    rows = [format_row(measurement) for engine in arguments.engines for measurement in run(engine, sizes)]
    sys.stdout.write(format_table(HEADINGS, rows) + "\n")
    if arguments.append:
        append_table(arguments.append, "tests.bench.bench_git", HEADINGS, rows)


if __name__ == "__main__":
    main()
