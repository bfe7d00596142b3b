"""Backups are whole whatever happens meanwhile, and a restored database is the same."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from coordinator.db import Database, DatabaseError
from coordinator.maintenance.backup import BackupError, backup, restore
from coordinator.maintenance.integrity import find_problems
from coordinator.models import Experiment, Project, Worker
from tests.coordinator.maintenance.conftest import show_nothing
from tests.support.messages import make_proposal
from tests.support.swarm_data import History

COMMAND = f"{sys.executable} -c 'from coordinator.maintenance.cli import app; app()'"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "swarm.backup"


def assert_nothing_left(folder: Path, *names: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_a_restored_database_gives_the_same_answers(
    filled: Database,
    file: Path,
    empty_url: str,
    pg_bin: Path | None,
    read_api: Callable[[str], list[Any]],
) -> None:
    backup(filled, file, pg_bin, show_nothing, force=False)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "it holds hashes of tokens"
    assert_nothing_left(file.parent, file.name)
    restored = Database(empty_url)
    restore(restored, file, pg_bin, show_nothing)
    restored.close()
    assert read_api(empty_url) == read_api(filled.url.render_as_string(hide_password=False))


def test_a_backup_while_a_writer_writes_is_one_state(
    filled: Database, file: Path, empty_url: str, pg_bin: Path | None
) -> None:
    stop, enough = threading.Event(), threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            with filled.write() as session:
                history = History(session, session.scalars(select(Project)).one(), seed=written)
                worker = session.scalars(select(Worker)).first()
                assert worker is not None
                history.add_experiment(worker, history.project.root_sha, 3.1, make_proposal())
            written += 1
            enough.set()

    def show_slowly(what: str, done: int, total: int) -> None:
        stop.wait(0.3)  # the writer comes between two steps of the copy

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert enough.wait(30)
        at_least = count_experiments(filled)
        backup(filled, file, pg_bin, show_slowly, force=False)
        at_most = count_experiments(filled) + 1
    finally:
        stop.set()
        writer.join()
    restored = Database(empty_url)
    restore(restored, file, pg_bin, show_nothing)
    assert at_least <= count_experiments(restored) <= at_most < count_experiments(filled) + 2
    with restored.read() as session:
        assert list(find_problems(session, show_nothing)) == []
    restored.close()


def count_experiments(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Experiment)) or 0


def test_backups_are_replaced_only_when_asked(filled: Database, file: Path, pg_bin: Path | None) -> None:
    file.write_text("yesterday's")
    with pytest.raises(BackupError, match="--force"):
        backup(filled, file, pg_bin, show_nothing, force=False)
    assert file.read_text() == "yesterday's"
    backup(filled, file, pg_bin, show_nothing, force=True)
    assert file.stat().st_size > 10_000
    assert_nothing_left(file.parent, file.name)


def test_a_place_that_is_not_empty_is_refused(filled: Database, file: Path, pg_bin: Path | None) -> None:
    backup(filled, file, pg_bin, show_nothing, force=False)
    experiments = count_experiments(filled)
    with pytest.raises(BackupError, match="has tables"):
        restore(filled, file, pg_bin, show_nothing)
    assert count_experiments(filled) == experiments


def test_a_newer_backup_is_refused(filled: Database, file: Path, empty_url: str, pg_bin: Path | None) -> None:
    with filled.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    backup(filled, file, pg_bin, show_nothing, force=False)
    target = Database(empty_url)
    with pytest.raises(DatabaseError, match="newer version"):
        restore(target, file, pg_bin, show_nothing)
    if target.backend == "sqlite":
        assert not Path(str(target.url.database)).exists()
    target.close()


def test_what_is_no_backup_is_refused(filled: Database, file: Path, empty_url: str, pg_bin: Path | None) -> None:
    target = Database(empty_url)
    with pytest.raises(BackupError, match="No such file"):
        restore(target, file, pg_bin, show_nothing)
    file.write_text("a shopping list")
    with pytest.raises(BackupError, match="not a backup"):
        restore(target, file, pg_bin, show_nothing)
    foreign = b"PGDMP\1\x0e" if target.backend == "sqlite" else b"SQLite format 3\0"
    file.write_bytes(foreign + bytes(100))
    with pytest.raises(BackupError, match=f"SWARM_DATABASE_URL names {target.backend}"):
        restore(target, file, pg_bin, show_nothing)
    file.unlink()
    backup(filled, file, pg_bin, show_nothing, force=False)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BackupError, match=r"damaged|cannot copy|pg_restore failed"):
        restore(target, file, pg_bin, show_nothing)
    target.close()


def test_another_programs_database_is_refused(file: Path, tmp_path: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("create table recipes (id integer)")
    connection.close()
    target = Database(f"sqlite:///{tmp_path}/new.db")
    with pytest.raises(BackupError, match="not a coordinator's"):
        restore(target, file, None, show_nothing)
    (tmp_path / "new.db-wal").write_bytes(b"another database's log")
    with pytest.raises(BackupError, match="is left of another database"):
        restore(target, file, None, show_nothing)
    target.close()


def test_a_full_disk_leaves_nothing_behind(filled: Database, tmp_path: Path, pg_bin: Path | None) -> None:
    """In a mount namespace of its own, with a disk of 64 kB."""
    script = f'{COMMAND} backup /small/swarm.backup; echo "status $?"; ls -A /small'
    (tmp_path / "small").mkdir()
    confined = ["bwrap", "--dev-bind", "/", "/", "--size", "65536", "--tmpfs", str(tmp_path / "small")]
    done = subprocess.run(
        [*confined, "bash", "-c", script.replace("/small", str(tmp_path / "small"))],
        env={**os.environ, "SWARM_DATABASE_URL": filled.url.render_as_string(hide_password=False)}
        | ({"SWARM_PG_BIN": str(pg_bin)} if pg_bin else {}),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["status 1"], "no file is left"
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert "full" in done.stderr or "No space left" in done.stderr


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_programs_that_are_missing_or_too_old(filled: Database, file: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    with pytest.raises(BackupError, match=r"pg_dump was not found in .*SWARM_PG_BIN"):
        backup(filled, file, programs, show_nothing, force=False)
    (programs / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6'\n")
    (programs / "pg_dump").chmod(0o755)
    with pytest.raises(BackupError, match="pg_dump is of version 9 and the server of"):
        backup(filled, file, programs, show_nothing, force=False)
    assert_nothing_left(file.parent)
