"""A backup counts once its copy was restored and verified."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from coordinator.admin.backup import SCRATCH, UNVERIFIED, BackupError, backup_verified, restore
from coordinator.db.database import Database
from coordinator.events.audit import find_last_backup
from shared.protocol import now
from tests.coordinator.admin.conftest import show_nothing
from tests.coordinator.admin.test_cli import assert_one_clear_line, run
from tests.support.databases import PostgresServer


def list_scratch(database: Database) -> list[str]:
    if database.backend == "sqlite":
        return [path.name for path in Path(str(database.url.database)).parent.rglob("*scratch*")]
    with database.engine.connect() as connection:
        return list(connection.scalars(text(f"select datname from pg_database where datname like '%{SCRATCH}%'")))


def test_the_nightly_command(filled: Database, empty_url: str, tmp_path: Path, pg_bin: Path | None) -> None:
    folder, url = tmp_path / "backups", filled.url.render_as_string(hide_password=False)
    folder.mkdir()
    (folder / "swarm-of-last-year.backup").write_text("not named as the command names")
    for day in (1, 2, 3):
        (folder / f"swarm-2026010{day}T031500Z.backup").write_text("an old one")
    with filled.read() as session:
        assert find_last_backup(session) is None
    done = run(url, "backup", "--verified", "--keep", "2", str(folder), pg_bin=pg_bin)
    assert done.exit_code == 0, done.stderr
    assert "restored it and verified 13 commits and 15 runs" in done.stdout and done.stdout.count("Removed ") == 2
    *others, new = sorted(path.name for path in folder.glob("swarm-2*"))
    assert others == ["swarm-20260103T031500Z.backup"] and (folder / "swarm-of-last-year.backup").exists()
    with filled.read() as session:
        entry = find_last_backup(session)
        assert entry is not None and entry.after is not None
        assert now() - entry.created_at < timedelta(minutes=5)
        assert entry.after["runs"] == 15 and entry.after["bytes"] == (folder / new).stat().st_size
        number = entry.id
    assert list_scratch(filled) == []
    assert_one_clear_line(run(url, "undo", str(number), "--reason", "a mistake"), "changed nothing that stands")
    restored = Database(empty_url)
    restore(restored, folder / new, pg_bin, show_nothing)
    restored.close()
    assert "Verified 13 commits" in run(empty_url, "verify").stdout


def test_a_copy_with_a_problem_does_not_count(filled: Database, tmp_path: Path, pg_bin: Path | None) -> None:
    folder, url = tmp_path / "backups", filled.url.render_as_string(hide_password=False)
    folder.mkdir()
    good = folder / "swarm-20260101T031500Z.backup"
    good.write_text("a good one")
    with filled.write() as session:
        session.execute(text("update commit_posteriors set metric_mean = 1 where effect_mean is null"))
    done = run(url, "backup", "--keep", "1", str(folder), pg_bin=pg_bin)
    assert_one_clear_line(done, "the first: posterior of commit")
    assert sorted(path.name for path in folder.iterdir()) == [good.name, UNVERIFIED], "the good one stays"
    assert list_scratch(filled) == []
    with filled.read() as session:
        assert find_last_backup(session) is None


def test_a_database_of_another_version_is_left_alone(filled: Database, tmp_path: Path) -> None:
    with filled.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '0001'")
    with pytest.raises(BackupError, match="of another version"):
        backup_verified(filled, tmp_path / "swarm.backup", None, show_nothing, force=False)


def test_keep_wants_a_folder(tmp_path: Path) -> None:
    done = run(f"sqlite:///{tmp_path}/x.db", "backup", "--keep", "3", str(tmp_path / "nowhere"))
    assert_one_clear_line(done, "--keep needs a folder")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_scratch_databases_of_killed_backups_are_removed(
    filled: Database, tmp_path: Path, pg_bin: Path, postgres: PostgresServer
) -> None:
    prefix = f"{str(filled.url.database)[:20]}{SCRATCH}"
    ours, not_ours = f"{prefix}{'0' * 32}", f"{prefix}of_ada"
    with filled.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for name in (ours, not_ours):
            connection.execute(text(f"create database {name}"))
    backup_verified(filled, tmp_path / "swarm.backup", pg_bin, show_nothing, force=False)
    assert list_scratch(filled) == [not_ours]
    postgres.drop(make_url(postgres.migrated).set(database=not_ours).render_as_string(hide_password=False))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_user_who_may_not_make_databases_is_told_so(filled: Database, tmp_path: Path, pg_bin: Path) -> None:
    with filled.engine.begin() as connection:
        connection.exec_driver_sql(
            "create role frugal login; grant usage on schema public, search to frugal;"
            "grant select on all tables in schema public, search to frugal;"
            "grant select on all sequences in schema public, search to frugal"
        )
    frugal = Database(filled.url.set(username="frugal", password=None).render_as_string())
    try:
        with pytest.raises(BackupError, match="ALTER ROLE"):
            backup_verified(frugal, tmp_path / "swarm.backup", pg_bin, show_nothing, force=False)
    finally:
        frugal.close()
        with filled.engine.begin() as connection:
            connection.exec_driver_sql("drop owned by frugal; drop role frugal")
