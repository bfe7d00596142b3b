"""Measures the cost of exports for the server: seconds, bytes and growth of memory, on both engines.

python -m tests.bench.bench_export --findings 100000 --engines sqlite postgresql

The server is a process of its own, without the coordinator's tasks beside requests, so that nothing else takes memory
(filling an index with so many findings at once does). Memory is its peak (VmHWM) while it answers, less what it had
(VmRSS) before the first export: the whole growth that exports cause, libraries that they load included.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha1
from itertools import islice
from pathlib import Path
from uuid import UUID

import httpx
from fastapi import FastAPI

from coordinator.app import create_app
from coordinator.settings import CoordinatorSettings
from shared.export import ExportFormat, ExportTable
from shared.protocol import API_PREFIX
from tests.bench.bench_git import open_store
from tests.bench.bench_storage import ROWS_AT_ONCE, Store
from tests.bench.report import append_table, format_table
from tests.bench.server_process import ServerProcess
from tests.bench.synthetic import Row
from tests.support.ports import choose_port

HEADINGS = ("engine", "experiments", "export", "bytes", "seconds", "server's growth, MiB")
PROJECT = "tiny"


@dataclass(frozen=True)
class Measurement:
    """One line of the table."""

    engine: str
    experiments: int
    what: str
    bytes: int
    seconds: float
    growth_mib: float


class ExportServer(ServerProcess):
    """The application in a process, on a free port of loopback."""

    def __init__(self, database_url: str) -> None:
        port = str(choose_port())
        command = [sys.executable, "-m", "uvicorn", "--factory", "tests.bench.bench_export:make_app", "--port", port]
        super().__init__([*command, "--lifespan", "off", "--log-level", "warning"], database_url)
        self.address = f"http://127.0.0.1:{port}"
        self.wait_for(f"{self.address}{API_PREFIX}/versions")


def make_app() -> FastAPI:
    """The coordinator's application, for the server's process."""
    return create_app(CoordinatorSettings())


def download(address: str) -> int:
    """Read an answer to its end; how many bytes it has."""
    with httpx.stream("GET", address, timeout=None) as response:
        assert response.status_code == 200, response.read()
        return sum(len(chunk) for chunk in response.iter_raw())


def make_experiments(store: Store, count: int) -> Iterator[dict[str, list[Row]]]:
    """Experiments as rows, each a child of the one before, with a citation; no table that is exported holds their code,
    so none is made."""
    parent_sha = store.root.sha
    for number in range(1_000, 1_000 + count):
        sha = sha1(str(number).encode(), usedforsecurity=False).hexdigest()
        lease_id, run_id = UUID(int=number, version=4), UUID(int=2**64 + number, version=4)
        changes: dict[str, Row] = {
            "commits": {"sha": sha, "parent_sha": parent_sha, "depth": number},
            "leases": {"id": lease_id, "base_sha": parent_sha, "result_key": run_id},
            "experiments": {"id": number, "commit_sha": sha, "parent_sha": parent_sha, "lease_id": lease_id},
            "findings": {"id": number, "experiment_id": number},
            "runs": {
                "id": number, "uuid": run_id, "commit_sha": sha, "experiment_id": number, "lease_id": lease_id
            },
            "commit_posteriors": {"commit_sha": sha},
        }  # fmt: skip
        rows = {table: [store.template[table] | changed] for table, changed in changes.items()}
        yield rows | {"citations": [{"experiment_id": number, "finding_id": max(1_000, number - 1)}]}
        parent_sha = sha


def run(engine: str, experiments: int) -> Iterator[Measurement]:
    """Fill a database, and export everything from a server that has just been started."""
    tables = [f"{table}.{format_}" for table in ExportTable for format_ in ExportFormat]
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder), engine) as (store, url):
        made = make_experiments(store, experiments)
        while some := list(islice(made, ROWS_AT_ONCE)):
            store.insert(some)
        server = ExportServer(url)
        try:
            before = server.read_memory("VmRSS")
            for name in [*tables, "results.tsv"]:
                server.forget_peak()
                began = time.perf_counter()
                size = download(f"{server.address}{API_PREFIX}/projects/{PROJECT}/export/{name}")
                seconds = time.perf_counter() - began
                yield Measurement(engine, experiments, name, size, seconds, server.read_memory("VmHWM") - before)
        finally:
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--findings", type=int, default=100_000, help="as many experiments, each with one finding")
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--append", type=Path, help="a Markdown file to which the table is added")
    arguments = parser.parse_args()
    rows = []
    for engine in arguments.engines:
        for m in run(engine, arguments.findings):
            growth = f"{m.growth_mib:.0f}"
            rows.append((m.engine, f"{m.experiments:,}", m.what, f"{m.bytes:,}", f"{m.seconds:.1f}", growth))
            print(*rows[-1], file=sys.stderr, flush=True)  # it takes minutes
    sys.stdout.write(format_table(HEADINGS, rows) + "\n")
    if arguments.append:
        append_table(arguments.append, "tests.bench.bench_export", HEADINGS, rows)


if __name__ == "__main__":
    main()
