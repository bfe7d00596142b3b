"""Measures the bytes of an experiment and the time to read a file as the swarm grows, on both engines.

python -m tests.bench.bench_storage                          prints a table
python -m tests.bench.bench_storage --append docs/benchmarks.md
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from sqlalchemy import Integer, func, insert, select, text
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.lineage import objects
from coordinator.lineage import service as lineage
from coordinator.lineage.commits import get_commit
from coordinator.lineage.objects import LoadedObject
from coordinator.models import (
    Base,
    Commit,
    CommitPosterior,
    ContextPack,
    Finding,
    Lease,
    Project,
    Run,
    StoredObject,
)
from coordinator.projects import service as projects
from coordinator.selection.context_pack import PackRequest, compose_pack
from shared.commits import CommitWords
from tests.bench.report import append_table, format_table
from tests.bench.synthetic import Growth, Leaf, Row, edit, write_program
from tests.support.databases import analyze, run_postgres
from tests.support.messages import AUTHOR, make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import History

SIZES = (1_000, 20_000, 100_000)
READS, WRITES = 2_000, 200
ROWS_AT_ONCE = 1_000
GIT_TABLES = ("git_objects", "commits")


@dataclass(frozen=True)
class Measurement:
    """One line of the table. Bytes are per experiment, indexes included; times in milliseconds."""

    engine: str
    experiments: int
    content: float
    git: float
    everything: float
    read_p50: float
    read_p99: float
    write: float
    longest_chain: int


class Store:
    """One engine's database, filled through the bulk path and measured through the services."""

    def __init__(self, database: Database, seed: Path) -> None:
        self.database = database
        with database.write() as session:
            self.project_id = projects.create_project(session, seed)[0].id
            self.root, self.template = _do_one_experiment(session, self.project_id)
        self.empty = self.measure_tables()

    def insert(self, some: list[dict[str, list[Row]]]) -> None:
        with self.database.write() as session:
            for table in some[0]:
                rows = [row for experiment in some for row in experiment[table]]
                if table == "git_objects":  # among many edits some are the same
                    for row in rows:  # in this order: bases come first
                        objects.add_objects(session, [objects.ObjectRow(**row)])
                else:
                    session.execute(insert(Base.metadata.tables[table]), rows)
            self._go_on_counting(session, some[0])

    def _go_on_counting(self, session: Session, tables: Iterable[str]) -> None:
        """Have PostgreSQL number the next rows above those that came with their numbers; SQLite does so by itself."""
        if self.database.backend == "postgresql":
            for table in tables:
                if "id" in (columns := Base.metadata.tables[table].columns) and isinstance(columns["id"].type, Integer):
                    highest = select(func.setval(func.pg_get_serial_sequence(table, "id"), func.max(columns["id"])))
                    session.execute(highest)

    def measure(self, growth: Growth) -> Measurement:
        """Sizes, then reads, then writes; what those add is not counted."""
        analyze(self.database)
        random = Random(2)
        bytes_by_table = {table: size - self.empty[table] for table, size in self.measure_tables().items()}
        chosen = [random.choice(growth.shas) for _ in range(READS)]
        reads = sorted(_time(lambda sha=sha: self._read(sha)) for sha in chosen)
        writes = sum(_time(lambda sha=sha: self._write(sha, random)) for sha in chosen[:WRITES])
        with self.database.read() as session:
            content = session.scalar(select(func.sum(func.length(StoredObject.data)))) or 0
            longest = max(self._chain_of(session, sha).deltas for sha in chosen[:WRITES])
        return Measurement(
            engine=self.database.backend,
            experiments=growth.made,
            content=content / growth.made,
            git=sum(bytes_by_table[table] for table in GIT_TABLES) / growth.made,
            everything=sum(bytes_by_table.values()) / growth.made,
            read_p50=reads[len(reads) // 2],
            read_p99=reads[len(reads) * 99 // 100],
            write=writes / WRITES,
            longest_chain=longest,
        )

    def _read(self, sha: str) -> None:
        with self.database.read() as session:
            assert len(lineage.read_files(session, self.project_id, sha, ["train.py"])["train.py"]) > 1_000

    def _write(self, sha: str, random: Random) -> None:
        """Build a commit with a read session, then store it in a transaction, as a result does."""
        with self.database.read() as session:
            parent = get_commit(session, sha)
            program = lineage.read_files(session, self.project_id, sha)["train.py"]
            words = CommitWords(AUTHOR, 1_800_000_000, "An edit")
            built = lineage.build_child(session, parent, {"train.py": edit(program, random)}, words)
        with self.database.write() as session:
            lineage.store_commit(session, self.project_id, built)

    def _chain_of(self, session: Session, sha: str) -> LoadedObject:
        blob = objects.list_tree(session, get_commit(session, sha).tree_sha)["train.py"]
        return objects.read_versions(session, [blob])[blob]

    def measure_tables(self) -> dict[str, int]:
        """Bytes on disk by table, with its indexes."""
        if self.database.backend == "sqlite":
            size = (
                "select sum(pgsize) from dbstat where name in (select name from sqlite_schema where tbl_name = :name)"
            )
        else:
            size = "select pg_total_relation_size(cast(:name as regclass))"
        with self.database.read() as session:
            return {table: session.scalar(text(size), {"name": table}) or 0 for table in Base.metadata.tables}


def _do_one_experiment(session: Session, project_id: int) -> tuple[Leaf, dict[str, Row]]:
    """Write one experiment through the services; returns the root, and the experiment's rows to copy."""
    project = session.get_one(Project, project_id)
    history = History(session, project)
    worker = history.add_worker()
    history.measure(worker, project.root_sha, 3.3)
    experiment = history.add_experiment(worker, project.root_sha, 3.25, make_proposal())
    lease = session.get_one(Lease, experiment.lease_id)
    asked = PackRequest(project, project.root_sha, lease.hardware_class, "", [])
    pack = ContextPack(lease_id=lease.id, text=compose_pack(session, asked).text, findings=[], with_findings=True)
    originals = {
        "commits": session.get_one(Commit, experiment.commit_sha),
        "leases": lease,
        "context_packs": pack,
        "experiments": experiment,
        "findings": session.scalars(select(Finding).where(Finding.experiment_id == experiment.id)).one(),
        "runs": session.scalars(select(Run).where(Run.experiment_id == experiment.id)).one(),
        "commit_posteriors": session.get_one(CommitPosterior, (experiment.commit_sha, lease.hardware_class)),
    }
    rows = {table: {column.name: getattr(row, column.name) for column in Base.metadata.tables[table].columns}
            for table, row in originals.items()}  # fmt: skip
    files = objects.list_tree(session, get_commit(session, project.root_sha).tree_sha)
    version = objects.read_versions(session, [files["train.py"]])[files["train.py"]]
    return Leaf(project.root_sha, 0, version.object.data.decode(), files, version), rows


def _time(action: Callable[[], None]) -> float:
    """Milliseconds that an action takes."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


@contextmanager
def _open_stores(folder: Path, engines: list[str]) -> Iterator[list[Store]]:
    seed = write_seed(folder / "seed")
    (seed / "train.py").write_text(write_program())
    (seed / "swarm.toml").write_text((seed / "swarm.toml").read_text().replace("4096", "65536"))
    with ExitStack() as stack:
        urls = {"sqlite": f"sqlite:///{folder}/bench.db"}
        if "postgresql" in engines:
            urls["postgresql"] = stack.enter_context(run_postgres()).create()
        stores = []
        for engine in engines:
            database = Database(urls[engine])
            stack.callback(database.close)
            database.migrate()
            stores.append(Store(database, seed))
        yield stores


def run(engines: list[str], sizes: list[int]) -> list[Measurement]:
    """Grow one database of each engine through `sizes`, and measure at each."""
    measured = []
    with tempfile.TemporaryDirectory() as folder, _open_stores(Path(folder), engines) as stores:
        growths = [Growth(store.root, store.template) for store in stores]
        for size in sizes:
            for store, growth in zip(stores, growths, strict=True):
                made = growth.grow(size - growth.made)
                while some := list(islice(made, ROWS_AT_ONCE)):
                    store.insert(some)
                    sys.stderr.write(f"\r{store.database.backend}: {growth.made:,} experiments ")
                measured.append(store.measure(growth))
    sys.stderr.write("\n")
    return measured


HEADINGS = (
    "engine", "experiments", "content, B", "objects and commits, B", "all tables, B", "read p50, ms", "read p99, ms",
    "write, ms", "longest chain",
)  # fmt: skip


def _format(m: Measurement) -> tuple[str, ...]:
    return (
        m.engine, f"{m.experiments:,}", f"{m.content:,.0f}", f"{m.git:,.0f}", f"{m.everything:,.0f}",
        f"{m.read_p50:.2f}", f"{m.read_p99:.2f}", f"{m.write:.2f}", str(m.longest_chain),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, nargs="+", default=SIZES, help="sizes to measure at, ascending")
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--append", type=Path, help="a Markdown file to which the table is added")
    arguments = parser.parse_args()
    rows = [_format(line) for line in run(arguments.engines, sorted(arguments.experiments))]
    sys.stdout.write(format_table(HEADINGS, rows) + "\n")
    if arguments.append:
        append_table(arguments.append, "tests.bench.bench_storage", HEADINGS, rows)


if __name__ == "__main__":
    main()
