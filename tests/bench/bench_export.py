"""What an export costs the server: seconds, bytes, and how far its memory grows; on both engines.

python -m tests.bench.bench_export --findings 100000 --engines sqlite postgresql

The server is a process of its own. Memory is its peak (VmHWM) while it answers, less what it had (VmRSS) before the
first export: the whole growth that exports cause, libraries that they load included.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import httpx

from shared.export import ExportFormat, ExportTable
from shared.protocol import API_PREFIX
from tests.bench.bench_git import Server, open_store
from tests.bench.bench_storage import ROWS_AT_ONCE
from tests.bench.report import append_table, format_table
from tests.bench.synthetic import Growth

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


def read_memory(server: Server) -> float:
    """What the server holds now, in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [kib] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    return int(kib) / 1024


def download(address: str) -> int:
    """Read an answer to its end; how many bytes it has."""
    with httpx.stream("GET", address, timeout=None) as response:
        assert response.status_code == 200, response.read()
        return sum(len(chunk) for chunk in response.iter_raw())


def run(engine: str, experiments: int) -> Iterator[Measurement]:
    """Fill a database, and export everything from a server that has just been started."""
    tables = [f"{table}.{format_}" for table in ExportTable for format_ in ExportFormat]
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder), engine) as (store, url):
        made = Growth(store.root, store.template).grow(experiments)
        while some := list(islice(made, ROWS_AT_ONCE)):
            store.insert(some)
        server = Server(url, PROJECT)
        try:
            base = server.address.rpartition("/git/")[0]
            before = read_memory(server)
            for name in [*tables, "results.tsv"]:
                server.forget_peak()
                began = time.perf_counter()
                size = download(f"{base}{API_PREFIX}/projects/{PROJECT}/export/{name}")
                seconds = time.perf_counter() - began
                yield Measurement(engine, experiments, name, size, seconds, server.read_peak() - before)
        finally:
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--findings", type=int, default=100_000, help="as many experiments, each with one finding")
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--append", type=Path, help="a Markdown file to which the table is added")
    arguments = parser.parse_args()
    measured = [line for engine in arguments.engines for line in run(engine, arguments.findings)]
    rows = [
        (m.engine, f"{m.experiments:,}", m.what, f"{m.bytes:,}", f"{m.seconds:.1f}", f"{m.growth_mib:.0f}")
        for m in measured
    ]
    sys.stdout.write(format_table(HEADINGS, rows) + "\n")
    if arguments.append:
        append_table(arguments.append, "tests.bench.bench_export", HEADINGS, rows)


if __name__ == "__main__":
    main()
