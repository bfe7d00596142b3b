"""How many statements a worker's requests run on the database, and that they do not take more in a large fleet."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, event, func, literal, select, text, true, update
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.leases import heartbeats
from coordinator.models import Calibration, EvidenceEpoch, Lease, Run, TrustRecord, Volunteer, Worker, table_of
from coordinator.selection import running_jobs
from coordinator.selection.queries import MOST_CLASSES, list_other_classes
from shared.leases import Phase, ResultUpload
from tests.support.databases import SqliteFolder
from tests.support.messages import make_result, make_run
from tests.support.volunteers import MiniWorker

MAX_OF_A_CYCLE = 56
"""Statements of a claim, a proposal, three heartbeats and a result, with BEGIN and COMMIT."""

OTHERS = 1_000
STEPS = 20
"""SQLite tells after so many steps of its virtual machine that it is still at work."""

LONG = 4
"""Steps for each of the others, in six cycles: a statement that looks at each of them but once takes more."""

GROWING = ("GROUP BY leases.base_sha, leases.kind", "SELECT leases.base_sha, leases.proposal")
"""Statements that read all live leases: what is under way, from an index alone, and what runs, once a second."""

OF_A_FIT = "SELECT runs.commit_sha AS sha, runs.worker_id, runs.hardware_class, runs.metric"
"""The newest runs, for the additive model, which is fitted in a two-hundredth of the time at most."""


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


def copy_rows(session: Session, table: Table, **changed: Any) -> None:
    """Write a table's newest row OTHERS times more, with these columns changed."""
    numbers = select(literal(1).label("number")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.number + 1).where(numbers.c.number < OTHERS))
    newest = select(table).order_by(text("rowid desc")).limit(1).subquery()
    values = {name: numbers.c.number + value for name, value in changed.items() if isinstance(value, int)}
    values |= {name: value for name, value in changed.items() if not isinstance(value, int)}
    columns = [values.get(column.name, newest.c[column.name]) for column in table.columns]
    copies = select(*columns).select_from(newest.join(numbers, true()))
    session.execute(table.insert().from_select(list(table.columns.keys()), copies))


def test_a_claim_looks_at_few_hardware_classes_however_many_strangers_invent(
    project: str, database: Database, make_worker: Callable[..., MiniWorker]
) -> None:
    """Those with the most runs, so that what others found in a real one is looked at all the same."""
    make_worker("w1", "bo").measure_root()
    worker = make_worker()
    worker.measure_root()
    seen: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        seen.append(statement)

    def count() -> int:
        seen.clear()
        reply = worker.claim(kinds=[])
        assert reply.lease is None and len(seen) > 0
        return len(seen)

    alone = count()
    with database.write() as session:
        epochs = table_of(EvidenceEpoch)
        copy_rows(session, epochs, hardware_class=func.hex(func.randomblob(8)))
        newest = select(epochs.c.hardware_class).order_by(text("rowid desc")).limit(1).scalar_subquery()
        real = {"hardware_class": "a real one", "runs": 9}
        session.execute(update(epochs).where(epochs.c.hardware_class == newest).values(real))
        project_id = session.scalars(select(epochs.c.project_id)).first()
        assert project_id is not None and "a real one" in list_other_classes(session, project_id, "here")
    assert count() <= alone + 2 * MOST_CLASSES


@pytest.mark.usefixtures("project")
def test_no_statement_of_a_cycle_takes_longer_in_a_large_fleet(
    database: Database, make_worker: Callable[..., MiniWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_jobs, "KEPT_SECONDS", 0.0)
    steps, texts = Counter[str](), [""]

    @event.listens_for(database.engine, "checkout")
    def _count(connection: sqlite3.Connection, _record: Any, _proxy: Any) -> None:
        connection.set_progress_handler(lambda: steps.update([texts[-1]]), STEPS)

    @event.listens_for(database.engine, "before_cursor_execute")
    def _name(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        texts.append(statement)

    def cycle(worker: MiniWorker, value: float) -> None:
        lease = worker.claim_job()
        changed, result = {"train.py": f"LR = {value}\n"}, ResultUpload(run=make_run(lease.base.sha, 3.2))
        if lease.kind.makes_experiment:
            assert worker.propose(lease, changed).accepted
            result = make_result(lease, files, changed, 3.2)
        for step in (1, 2, 3):
            assert worker.beat(lease, Phase.TRAINING, step=step, share=step / 4).status_code == 200
        assert worker.deliver(lease, result).status_code == 201

    worker, other = make_worker(), make_worker("other")
    for one in (worker, other):
        one.measure_root()
        one.experiment(f"LR = {0.5 if one is worker else 0.75}\n")
    files = worker.files_of(drafted := worker.claim_job())
    worker.release(drafted)
    assert other.propose(other.claim_job(), {"train.py": "LR = 0.125\n"}).accepted
    random = func.lower(func.hex(func.randomblob(16)))
    with database.write() as session:
        copy_rows(session, table_of(Volunteer), id=10_000, name=func.hex(func.randomblob(8)))
        copy_rows(session, table_of(Worker), id=10_000, volunteer_id=10_000)
        copy_rows(session, table_of(TrustRecord), volunteer_id=10_000)
        copy_rows(session, table_of(Calibration), worker_id=10_000, volunteer_id=10_000)
        copy_rows(session, table_of(Lease), id=random, worker_id=10_000)
        copy_rows(session, table_of(Run), id=10_000, uuid=random, worker_id=10_000)
    newcomer = make_worker("newcomer")
    steps.clear()
    for number, one in enumerate([worker, newcomer] * 3):
        cycle(one, 0.01 * (number + 1))
    long = {text: count * STEPS for text, count in steps.items() if count * STEPS > LONG * OTHERS}
    expected = {text for text in long if any(part in text for part in GROWING)}
    assert len(expected) == len(GROWING), "the fleet is large enough to be seen"
    assert not {text: long[text] for text in long.keys() - expected if not text.startswith(OF_A_FIT)}
