"""The benchmark of cycles in a short form: no request fails; both engines are filled."""

import sqlite3
from contextlib import nullcontext
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, func, select

from coordinator.app import create_app
from coordinator.models import Project, Run
from coordinator.settings import CoordinatorSettings
from shared.protocol import API_PREFIX
from tests.bench import bench_cycle
from tests.support.databases import PostgresServer
from tests.support.swarm_data import History
from tests.support.volunteers import MiniWorker


def test_cycles_of_clients_that_work_at_the_same_time_all_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [40]
    monkeypatch.setattr(bench_cycle, "TURNS", 2)
    monkeypatch.setattr(bench_cycle, "WARM_UP_SECONDS", 0.2)
    monkeypatch.setattr(bench_cycle, "SETTLE_SECONDS", 0.1)
    rows = list(bench_cycle.run("sqlite", sizes, seconds=0.3, threads=(2,)))
    tallies = [tally for row in rows for tally in row.tallies]
    assert [row.stored for row in rows] == sizes
    assert len(tallies) == len(rows) * 2 * 2  # turns, clients
    assert all(tally.cycles for tally in tallies)
    assert not any(tally.failed for tally in tallies)
    assert [len(row.list_cells()) for row in rows] == [len(bench_cycle.HEADINGS)] * len(sizes)


def count_steps(stored: int) -> int:
    """Hundreds of instructions of SQLite that the first two claims take, where so many experiments are stored."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with bench_cycle.open_filled("sqlite", stored) as bench:
        app = create_app(CoordinatorSettings(database_url=bench.url, _env_file=None))
        with TestClient(app) as http:

            @event.listens_for(app.state.database.engine, "checkout")
            def _count(connection: sqlite3.Connection, _record: Any, _proxy: Any) -> None:
                connection.set_progress_handler(count, 100)

            worker = MiniWorker(http, bench.tokens[0])
            for _ in range(2):
                worker.release(worker.claim_job())
            http.get(f"{API_PREFIX}/leases", params={"project": "tiny"})
    return steps


def test_a_claim_takes_no_more_work_after_a_longer_past() -> None:
    """Statements of claims find what they need by indexes, whatever the planner of SQLite makes of them."""
    assert count_steps(600) < 1.5 * count_steps(200)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_what_comes_after_a_past_made_in_bulk_has_numbers_above_it(
    engine: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_cycle, "run_postgres", lambda: nullcontext(postgres))
    with bench_cycle.open_filled(engine, 5) as bench, bench.store.database.write() as session:
        highest = session.scalar(select(func.max(Run.id))) or 0
        history = History(session, session.get_one(Project, bench.store.project_id))
        run = history.measure(history.add_worker("w2", "bo"), history.project.root_sha, 3.3)
        assert run.id > highest > 1_000
