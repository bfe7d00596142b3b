"""The benchmark of lists in a small form: it asks with every filter and in every order that the API has."""

from pathlib import Path

from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.findings.api import FindingQuery
from coordinator.settings import CoordinatorSettings
from tests.bench.bench_findings import EACH, HEADINGS, SORTS, run_lists
from tests.bench.findings_store import FindingsStore
from tests.support.databases import SqliteFolder
from tests.support.in_process import open_client


def test_every_filter_and_every_order_is_timed(tmp_path: Path, sqlite_folder: SqliteFolder) -> None:
    database = Database(url := sqlite_folder.create_migrated(tmp_path))
    FindingsStore(database, tmp_path).fill(30, with_meanings=False)
    database.close()
    assert set(EACH) == set(FindingQuery.model_fields) - {"project"}
    with open_client(create_app(CoordinatorSettings(database_url=url, meaning_check_seconds=1e6))) as http:
        rows = list(run_lists("sqlite", 30, http, 1))
    assert all(len(row) == len(HEADINGS) for row in rows)
    names = [row[2] for row in rows]
    assert len(set(names)) == len(names) >= 2 * sum(map(len, SORTS.values())) + 4 * len(EACH) - 4
    assert [float(row[5]) for row in rows] == sorted((float(row[5]) for row in rows), reverse=True)
