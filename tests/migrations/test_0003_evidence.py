"""A database with runs of the second schema gets offsets, milestones and calibrations."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, MetaData, literal, select, text

from coordinator.db.database import Database, migration_config
from coordinator.db.migrate import upgrade
from coordinator.evidence import epochs
from coordinator.models import CommitPosterior
from coordinator.projects.service import create_project
from tests.support.databases import PostgresServer
from tests.support.seeds import write_seed
from tests.support.swarm_data import write_history


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of schema 0002 with a project's history, as it was written before there were offsets."""
    server: PostgresServer | None = None
    address = f"sqlite:///{tmp_path}/old.db"
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        address = server.create()
    new = Database(f"sqlite:///{tmp_path}/new.db")
    new.migrate()
    with new.write() as session:
        write_history(session, create_project(session, write_seed(tmp_path / "seed"))[0], count=8)
    old = Database(address)
    with old.engine.begin() as connection:
        command.upgrade(migration_config(connection), "0002")
        with new.engine.connect() as source:
            copy_rows(source, connection)
    new.close()
    yield old
    old.close()
    if server is not None:
        server.drop(address)


def copy_rows(source: Connection, target: Connection) -> None:
    """Copy what the older schema has; texts that stand elsewhere by now are empty."""
    before, after = MetaData(), MetaData()
    before.reflect(target)
    after.reflect(source)
    for table in before.sorted_tables:
        known = after.tables[table.name].c
        gone = {column.name: literal("").label(column.name) for column in table.columns if column.name not in known}
        columns = [known[column.name] if column.name in known else gone[column.name] for column in table.columns]
        order = [column for column in columns if column.name in ("depth", "base_sha")]
        rows = [dict(row) for row in source.execute(select(*columns).order_by(*order)).mappings()]
        if rows and table.name != "alembic_version":
            target.execute(table.insert(), rows)


def test_rows_are_kept_and_evidence_begins(old: Database) -> None:
    with old.engine.connect() as connection:
        runs = connection.execute(text("select count(*) from runs")).scalar_one()
        posteriors = connection.execute(text("select count(*) from commit_posteriors")).scalar_one()
    upgrade(old)
    with old.read() as session:
        kinds = dict(session.execute(text("select kind, count(*) from runs where counts group by kind")).all())
        assert kinds["replicate"] >= 3 and sum(kinds.values()) == runs
        jobs = session.execute(text("select sum(jobs_done), sum(seed_measured) from calibrations")).one()
        assert (jobs[0], jobs[1]) == (runs, 3)
    with old.read() as session:
        assert list(epochs.find_differences(session)) == []
        after = session.scalars(select(CommitPosterior)).all()
        assert len(after) == posteriors
        assert any(row.milestone_mean is not None for row in after)
