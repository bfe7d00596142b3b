"""Backups are whole whatever happens meanwhile, and a restored database is the same."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, inspect, select, text

from coordinator.admin.backup import BackupError, backup, restore
from coordinator.admin.integrity import find_problems
from coordinator.db.database import Database, DatabaseError
from coordinator.events.history import enter_restore
from coordinator.models import Experiment, Project, Worker
from coordinator.projects.service import get_project
from swarm.verify import verify_folder
from tests.coordinator.admin.conftest import show_nothing
from tests.support.history import write_export
from tests.support.messages import make_proposal
from tests.support.swarm_data import History

COMMAND = f"{sys.executable} -c 'from coordinator.admin.cli import app; app()'"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "swarm.backup"


def assert_nothing_left(folder: Path, *names: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def assert_empty(database: Database) -> None:
    """Nothing was restored, not even half."""
    if database.backend == "sqlite":
        folder = Path(str(database.url.database)).parent
        assert not folder.exists() or list(folder.iterdir()) == []
    else:
        assert inspect(database.engine).get_table_names() == []
    database.close()


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


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_plans_by_what_was_restored(filled: Database, file: Path, empty_url: str, pg_bin: Path) -> None:
    backup(filled, file, pg_bin, show_nothing, force=False)
    restored = Database(empty_url)
    restore(restored, file, pg_bin, show_nothing)
    with restored.read() as session:
        known = session.scalars(text("SELECT DISTINCT tablename FROM pg_stats WHERE schemaname = 'public'")).all()
    restored.close()
    assert {"commits", "experiments", "findings", "leases", "runs"} <= set(known)


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
    assert_empty(target)


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
    assert_empty(target)


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


def test_places_where_nothing_can_be_written(filled: Database, file: Path, pg_bin: Path | None) -> None:
    (file.parent / "folder").mkdir()
    (file.parent / "plain").write_text("")
    places = {
        "folder": "is a folder",
        "plain/swarm.backup": "Not a directory",
        "nowhere/swarm.backup": "No such file or directory",
        "x" * 250: "File name too long",  # the name itself is not, but the one that is written to first
        "x" * 300: "File name too long",
    }
    for name, words in places.items():
        with pytest.raises(BackupError, match=words):
            backup(filled, file.parent / name, pg_bin, show_nothing, force=True)
    assert_nothing_left(file.parent, "folder", "plain")
    assert_nothing_left(file.parent / "folder")


def test_what_is_no_coordinators_database_is_not_backed_up(
    empty_url: str, file: Path, pg_bin: Path | None, tmp_path: Path
) -> None:
    """An address with a mistake in it must not leave its owner with a backup of nothing."""
    source = Database(empty_url)
    with pytest.raises(BackupError, match="Is SWARM_DATABASE_URL right"):
        backup(source, file, pg_bin, show_nothing, force=False)
    source.close()
    (tmp_path / "empty.db").write_bytes(b"")
    source = Database(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(BackupError, match="is not a coordinator's database"):
        backup(source, file, None, show_nothing, force=False)
    source.close()
    assert_nothing_left(file.parent)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_place_that_cannot_be_made(filled: Database, file: Path, tmp_path: Path) -> None:
    backup(filled, file, None, show_nothing, force=False)
    (tmp_path / "plain").write_text("")
    target = Database(f"sqlite:///{tmp_path}/plain/new/coordinator.db")
    with pytest.raises(BackupError, match=r"cannot create the folder .*/plain/new: Not a directory\.$"):
        restore(target, file, None, show_nothing)
    target.close()


def run_on_a_small_disk(folder: Path, arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a mount namespace of its own, where `folder` is a disk of 64 kB; then its status and the files."""
    folder.mkdir()
    return subprocess.run(
        ["bwrap", "--dev-bind", "/", "/", "--size", "65536", "--tmpfs", str(folder),
         "bash", "-c", f'{COMMAND} {arguments}; echo "status $?"; ls -A {folder}'],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_full_disk_leaves_nothing_behind(filled: Database, tmp_path: Path, pg_bin: Path | None) -> None:
    small, url = tmp_path / "small", filled.url.render_as_string(hide_password=False)
    given = {"SWARM_DATABASE_URL": url} | ({"SWARM_PG_BIN": str(pg_bin)} if pg_bin else {})
    assert_it_was_full(run_on_a_small_disk(small, f"backup {small}/swarm.backup", **given))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_full_disk_where_one_restores_to(filled: Database, file: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    backup(filled, file, None, show_nothing, force=False)
    given = {"SWARM_DATABASE_URL": f"sqlite:///{small}/coordinator.db"}
    assert_it_was_full(run_on_a_small_disk(small, f"restore {file}", **given))


def assert_it_was_full(done: subprocess.CompletedProcess[str]) -> None:
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


def test_a_history_that_went_on_from_a_backup_is_told_from_the_one_that_was_lost(
    filled: Database, file: Path, empty_url: str, pg_bin: Path | None, tmp_path: Path
) -> None:
    kept = write_export(filled, "tiny", tmp_path / "kept") / "checkpoint"
    backup(filled, file, pg_bin, show_nothing, force=False)
    add_run(filled)
    lost = write_export(filled, "tiny", tmp_path / "lost") / "checkpoint"
    with closing(Database(empty_url)) as restored:
        restore(restored, file, pg_bin, show_nothing)
        with restored.write() as session:
            enter_restore(session)
        add_run(restored)
        export = write_export(restored, "tiny", tmp_path / "restored")
        with restored.read() as session:
            assert list(find_problems(session, show_nothing)) == []
    assert verify_folder(export, kept, None).problems == []
    (problem,) = verify_folder(export, lost, None).problems
    assert "history was rewritten" in problem and "restored from a backup" in problem


def add_run(database: Database) -> None:
    with database.write() as session:
        past = History(session, get_project(session, "tiny"))
        past.measure(past.add_worker(), past.project.root_sha, 3.3)
