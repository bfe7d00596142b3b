"""How many statements a worker's requests run on the database."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from coordinator.db.database import Database
from coordinator.leases import heartbeats
from shared.leases import Phase
from tests.support.databases import SqliteFolder
from tests.support.messages import make_result
from tests.support.volunteers import MiniWorker

MAX_OF_A_CYCLE = 56
"""Statements of a claim, a proposal, three heartbeats and a result, with BEGIN and COMMIT."""


@pytest.fixture
def database_url(sqlite_folder: SqliteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of SQLite, whose driver tells each statement; held heartbeats are not written meanwhile."""
    monkeypatch.setattr(heartbeats, "HOLD_SECONDS", 1e6)
    return sqlite_folder.create_migrated(tmp_path)


@pytest.mark.usefixtures("project")
def test_a_cycle_runs_few_statements(database: Database, make_worker: Callable[..., MiniWorker]) -> None:
    seen: list[str] = []

    @event.listens_for(database.engine, "checkout")
    def _trace(connection: sqlite3.Connection, _record: Any, _proxy: Any) -> None:
        connection.set_trace_callback(seen.append)

    worker = make_worker()
    worker.measure_root()
    worker.experiment("LR = 0.5\n")
    drafted = worker.claim_job()
    files = worker.files_of(drafted)
    worker.release(drafted)
    seen.clear()
    lease = worker.claim_job()
    changed = {"train.py": "LR = 0.25\n"}
    assert worker.propose(lease, changed).accepted
    for step in (1, 2, 3):
        assert worker.beat(lease, Phase.TRAINING, step=step, share=step / 4).status_code == 200
    assert worker.deliver(lease, make_result(lease, files, changed, 3.2)).status_code == 201
    ours = [sql for sql in seen if not sql.startswith("--")]  # those are the full-text index's own
    assert "BEGIN IMMEDIATE" in ours and len(ours) <= MAX_OF_A_CYCLE, "\n".join(f"{sql:.150}" for sql in ours)
