"""The counts, bins and topics that the revision fills in are those that the coordinator keeps."""

from pathlib import Path
from typing import Any

from alembic import command
from sqlalchemy import text

from coordinator.db.database import Database, migration_config
from coordinator.projects.service import create_project
from coordinator.records import progress
from tests.support.seeds import write_seed
from tests.support.swarm_data import write_history

TABLES = {"class_progress": "hardware_class", "progress_bins": "number", "topic_counts": "topic"}
INDEXES = ("ix_runs_class", "ix_findings_class_experiment")


def read_tables(database: Database) -> dict[str, list[dict[str, Any]]]:
    with database.engine.connect() as connection:
        rows = {
            table: [dict(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY {key}")).mappings()]
            for table, key in TABLES.items()
        }
    for row in rows["topic_counts"]:
        row.pop("counted_at")
        row.pop("newest_at")  # which a later revision takes from other dates
        for name in [name for name in row if name.startswith("gains_")]:  # which a later revision adds
            row.pop(name)
    return rows


def test_what_is_kept_is_made_from_the_rows(database_url: str, tmp_path: Path) -> None:
    database = Database(database_url)
    with database.write() as session:
        write_history(session, create_project(session, write_seed(tmp_path / "seed"))[0], 20)
        progress.rebuild(session)
    kept = read_tables(database)
    assert kept["class_progress"][0]["experiments"] == 20 and len(kept["progress_bins"]) > 20
    with database.engine.begin() as connection:
        for table in (*TABLES, "leader_changes"):
            connection.execute(text(f"DROP TABLE {table}"))
        for index in INDEXES:
            connection.execute(text(f"DROP INDEX {index}"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0032'"))
    with database.engine.begin() as connection:
        command.upgrade(migration_config(connection), "0033")
    assert read_tables(database) == kept
    with database.engine.connect() as connection:
        changes = connection.execute(text("SELECT run_number, metric_mean FROM leader_changes ORDER BY id")).all()
    assert changes[0].run_number == 1
    assert [change.metric_mean for change in changes] == sorted(
        (change.metric_mean for change in changes), reverse=True
    )
    database.close()
