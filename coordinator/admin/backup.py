"""Writes a whole database to one file, and fills an empty database from it.

A backup is one consistent state, taken while the coordinator works. It is written beside its final name and renamed
when it is complete. It holds tokens' hashes, so only its owner can read it.
"""

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from getpass import getuser
from pathlib import Path
from uuid import uuid4

from sqlalchemy import inspect, text
from sqlalchemy.exc import ProgrammingError

from coordinator.admin import queries
from coordinator.admin.console import CommandFailed, ShowProgress
from coordinator.admin.integrity import find_problems
from coordinator.db.database import Database, refuse_newer
from coordinator.db.migrate import upgrade
from coordinator.events import audit
from coordinator.events.audit import Actor
from coordinator.models import Commit, Run
from shared.formatting import count_noun
from shared.protocol import now

PAGES_AT_ONCE = 2_000
SQLITE_MAGIC, DUMP_MAGIC = b"SQLite format 3\0", b"PGDMP"
OUR_TABLES = {"alembic_version", "git_objects", "commits"}
SIDECARS = ("-wal", "-shm", "-journal")
SCRATCH = "_scratch_"
_LEFT_SCRATCH = text(
    "select datname from pg_database as d where datname ~ :name"
    " and not exists (select from pg_stat_activity as a where a.datname = d.datname)"
)


class BackupError(CommandFailed):
    """A backup or a restore cannot be done; nothing was changed."""


def backup(database: Database, file: Path, pg_bin: Path | None, show_progress: ShowProgress, *, force: bool) -> None:
    """Write the database to `file`. Raises BackupError, also where `file` exists and `force` is not given."""
    refuse_existing(file, force)
    if database.backend == "sqlite":
        source = _get_sqlite_file(database)
        if not source.is_file():
            raise BackupError(f"there is no database at {source}. Is SWARM_DATABASE_URL right?")
        with _new_file(file) as unfinished:
            _copy_sqlite(source, unfinished, show_progress)
            with closing(sqlite3.connect(unfinished)) as copy:
                _check_is_coordinators(database, _list_sqlite_tables(copy))
    else:
        _check_is_coordinators(database, inspect(database.engine).get_table_names())
        with _new_file(file) as unfinished:
            _run_postgres_tool(database, "pg_dump", pg_bin, "--format=custom", f"--file={unfinished}")


def refuse_existing(file: Path, force: bool) -> None:
    try:
        if file.is_dir():
            raise BackupError(f"{file} is a folder. Name a file in it.")
        if file.exists() and not force:
            raise BackupError(f"{file} exists. Choose another name, or replace it: --force.")
    except OSError as error:
        raise BackupError(f"cannot write {file}: {error.strerror}.") from error


@contextmanager
def open_scratch(database: Database, folder: Path) -> Iterator[Database]:
    """An empty database to restore into, removed at the end: a file below `folder`, or one on the same server."""
    if database.backend == "sqlite":
        with (
            tempfile.TemporaryDirectory(prefix=".swarm-scratch-", dir=folder) as place,
            closing(Database(f"sqlite:///{place}/coordinator.db")) as scratch,
        ):
            yield scratch
        return
    prefix = f"{str(database.url.database)[:20]}{SCRATCH}"
    name = f"{prefix}{uuid4().hex}"
    server = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    quote = database.engine.dialect.identifier_preparer.quote
    with server.connect() as connection:
        for left in connection.scalars(_LEFT_SCRATCH, {"name": f"^{re.escape(prefix)}[0-9a-f]{{32}}$"}).all():
            connection.execute(text(f"drop database {quote(left)}"))  # of a backup that was killed
        try:
            connection.execute(text(f"create database {quote(name)} template template0"))
        except ProgrammingError as error:
            raise BackupError(
                f"no scratch database can be made to restore into: {error.orig}. "
                "Let the user make databases: ALTER ROLE ... CREATEDB."
            ) from error
    try:
        with closing(Database(database.url.set(database=name).render_as_string(hide_password=False))) as scratch:
            yield scratch
    finally:
        with server.connect() as connection:
            connection.execute(text(f"drop database if exists {quote(name)} with (force)"))


def _check_is_coordinators(database: Database, tables: Iterable[str]) -> None:
    if not OUR_TABLES.issubset(tables):
        raise BackupError(f"{database.safe_url} is not a coordinator's database. Is SWARM_DATABASE_URL right?")


def restore(database: Database, file: Path, pg_bin: Path | None, show_progress: ShowProgress) -> None:
    """Fill an empty database from a backup and bring it up to date. Raises BackupError, DatabaseError."""
    kind = _recognise(file)
    if kind != database.backend:
        raise BackupError(f"{file} is a backup of {kind}, and SWARM_DATABASE_URL names {database.backend}.")
    if kind == "sqlite":
        _restore_sqlite(database, file, show_progress)
    else:
        _restore_postgres(database, file, pg_bin)
    upgrade(database)


def _recognise(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            start = opened.read(16)
    except OSError as error:
        raise BackupError(f"cannot read {file}: {error.strerror}.") from error
    if start == SQLITE_MAGIC:
        return "sqlite"
    if start.startswith(DUMP_MAGIC):
        return "postgresql"
    raise BackupError(f"{file} is not a backup that `swarm-coordinator backup` wrote.")


@contextmanager
def _new_file(file: Path) -> Iterator[Path]:
    """A name beside `file` to write to; what is written becomes `file` at the end, or is removed on an error."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.unfinished")
    try:
        unfinished.touch(mode=0o600, exist_ok=False)
        try:
            yield unfinished
            _flush(unfinished)
            unfinished.replace(file)
            _flush(file.parent)
        finally:
            for name in ("", *SIDECARS):
                Path(f"{unfinished}{name}").unlink(missing_ok=True)
    except OSError as error:
        raise BackupError(f"cannot write {file}: {error.strerror}.") from error
    except sqlite3.Error as error:
        raise BackupError(f"cannot copy the database to {file}: {error}.") from error


def _flush(path: Path) -> None:
    """Have a file's content, or a folder's list of names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _get_sqlite_file(database: Database) -> Path:
    assert database.url.database is not None
    return Path(database.url.database)


def _copy_sqlite(source: Path, target: Path, show_progress: ShowProgress) -> None:
    """Copy one state of a SQLite database, whatever others write meanwhile."""
    with (
        closing(sqlite3.connect(source, isolation_level=None)) as reader,
        closing(sqlite3.connect(target, isolation_level=None)) as writer,
    ):
        reader.execute("begin")
        reader.execute("select count(*) from sqlite_schema").fetchone()  # from here on it sees one state
        reader.backup(
            writer, pages=PAGES_AT_ONCE, progress=lambda _, left, total: show_progress("pages", total - left, total)
        )
        writer.execute("pragma journal_mode = delete")  # one file, without a log beside it


def _restore_sqlite(database: Database, file: Path, show_progress: ShowProgress) -> None:
    path = _get_sqlite_file(database)
    _check_sqlite_is_empty(path)
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as source:
        try:
            if not OUR_TABLES.issubset(_list_sqlite_tables(source)):
                raise BackupError(f"{file} is a SQLite database, but not a coordinator's.")
            refuse_newer(*source.execute("select version_num from alembic_version").fetchone() or (None,))
        except sqlite3.Error as error:
            raise BackupError(f"{file} is damaged: {error}.") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackupError(f"cannot create the folder {path.parent}: {error.strerror}.") from error
    with _new_file(path) as unfinished:
        _copy_sqlite(file, unfinished, show_progress)


def _check_sqlite_is_empty(path: Path) -> None:
    left = [name for name in SIDECARS if Path(f"{path}{name}").exists()]
    tables: list[str] = []
    if path.exists():
        try:
            with closing(sqlite3.connect(path)) as target:
                tables = _list_sqlite_tables(target)
        except sqlite3.Error as error:
            raise BackupError(f"{path} exists and cannot be read: {error}. Move it away.") from error
    if tables or left:
        problem = f"{path} has tables" if tables else f"{path}{left[0]} is left of another database"
        raise BackupError(f"{problem}. Restore into a new file: name another one, or move this one away.")


def _list_sqlite_tables(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("select name from sqlite_schema where type = 'table'")]


def _restore_postgres(database: Database, file: Path, pg_bin: Path | None) -> None:
    tables = inspect(database.engine).get_table_names()
    if tables:
        raise BackupError(f"{database.safe_url} has tables. Restore into a new database: createdb, or CREATE DATABASE.")
    stored = _run_tool("pg_restore", pg_bin, "--data-only", "--table=alembic_version", "--file=-", str(file))
    revision = re.search(r"^COPY .*alembic_version .*\n(\w+)$", stored, re.MULTILINE)
    if revision is None:
        raise BackupError(f"{file} is a dump of PostgreSQL, but not of a coordinator's database.")
    refuse_newer(revision[1])
    options = ("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
    _run_postgres_tool(database, "pg_restore", pg_bin, *options, str(file))
    with database.write() as session:
        queries.analyze(session)


def _run_postgres_tool(database: Database, tool: str, pg_bin: Path | None, *arguments: str) -> None:
    """Run pg_dump or pg_restore on the database; the password goes through a file that only we can read."""
    _check_version(database, tool, pg_bin)
    with tempfile.NamedTemporaryFile("w", prefix="swarm-pgpass-") as passwords:
        address = database.url.set(drivername="postgresql", password=None)
        if database.url.password:
            passwords.write("*:*:*:*:" + re.sub(r"([\\:])", r"\\\1", str(database.url.password)))
            passwords.flush()
            address = address.update_query_dict({"passfile": passwords.name})
        _run_tool(tool, pg_bin, f"--dbname={address.render_as_string(hide_password=False)}", *arguments)


def _check_version(database: Database, tool: str, pg_bin: Path | None) -> None:
    found = re.search(r"\(PostgreSQL\) (\d+)", _run_tool(tool, pg_bin, "--version"))
    with database.engine.connect() as connection:
        server = int(connection.scalar(text("show server_version_num"))) // 10_000
    if found is None or int(found.group(1)) < server:
        raise BackupError(
            f"{tool} is of version {found.group(1) if found else '?'} and the server of {server}. Install "
            f"PostgreSQL's client programs of version {server} or newer, or name their folder: SWARM_PG_BIN."
        )


def _run_tool(tool: str, pg_bin: Path | None, *arguments: str) -> str:
    program = shutil.which(tool, path=str(pg_bin) if pg_bin else None)
    if program is None:
        raise BackupError(
            f"{tool} was not found {f'in {pg_bin}' if pg_bin else 'on PATH'}. Install PostgreSQL's client programs "
            "(Debian: postgresql-client), or name their folder: SWARM_PG_BIN."
        )
    done = subprocess.run(  # noqa: S603  the program is PostgreSQL's own, the arguments are ours
        [program, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise BackupError(f"{tool} failed: {' '.join(done.stderr.split()) or f'exit status {done.returncode}'}")
    return done.stdout


UNVERIFIED = "swarm.unverified"
"""Name of a backup until it is verified. One that turns out wrong keeps it, until the next one."""

NAMED_BY_TIME = "swarm-{:%Y%m%dT%H%M%SZ}.backup"
MATCHES_NAMES = "swarm-????????T??????Z.backup"


def choose_file(place: Path) -> Path:
    """`place` itself, or if it is a folder, a file in it that is named by the time."""
    return place / NAMED_BY_TIME.format(now()) if place.is_dir() else place


def backup_verified(
    database: Database, file: Path, pg_bin: Path | None, show_progress: ShowProgress, *, force: bool
) -> tuple[int, int]:
    """Write the database to `file`, restore that and verify it. Returns its commits and runs.

    Raises BackupError, also where the copy has a problem; what was written is left as `swarm.unverified` then.
    """
    refuse_existing(file, force)
    if not database.is_current():
        raise BackupError(f"the schema of {database.safe_url} is of another version; start that version's coordinator.")
    least = _count(database)
    unverified = file.with_name(UNVERIFIED)
    backup(database, unverified, pg_bin, show_progress, force=True)
    with open_scratch(database, file.parent) as scratch:
        restore(scratch, unverified, pg_bin, show_progress)
        with scratch.read() as session:
            problems = list(find_problems(session, show_progress))
        found = _count(scratch)
    if found[0] < least[0] or found[1] < least[1]:  # none is ever removed
        problems.append(f"it has {found[0]} commits and {found[1]} runs, the database has {least[0]} and {least[1]}")
    if problems:
        raise BackupError(
            f"the backup was restored and has {count_noun(len(problems), 'problem')}, the first: {problems[0]}. "
            f"It is left as {unverified}; `swarm-coordinator verify` lists what the database itself has."
        )
    size = unverified.stat().st_size
    unverified.replace(file)
    with database.write() as session:
        audit.record_backup(session, Actor(_name_user()), {"commits": found[0], "runs": found[1], "bytes": size})
    return found


def _count(database: Database) -> tuple[int, int]:
    with database.read() as session:
        return queries.count_rows(session, Commit), queries.count_rows(session, Run)


def _name_user() -> str:
    """The name of who runs this; in a container a user may have none."""
    with suppress(KeyError, OSError):
        return getuser()
    return "backup"


def remove_old(folder: Path, keep: int) -> list[Path]:
    """Remove all backups of a folder that are named by their time, but the newest `keep`. Returns the removed ones."""
    old = sorted(folder.glob(MATCHES_NAMES), reverse=True)[keep:]
    for file in old:
        file.unlink()
    return old
