"""Plans of the statements by which lists are answered, on both engines: no filter or order reads a table as a whole.

PostgreSQL is kept from reading whole tables where an index would do, which it likes to do with few rows: what it still
reads so has no index. SQLite's plans do not depend on the number of rows.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, select

from coordinator.db.database import Database
from coordinator.experiments import listing
from coordinator.experiments.run_lists import ORDERS
from coordinator.git_http.queries import find_commits
from coordinator.leases.service import LeaseOrder
from coordinator.models import Base, Commit
from coordinator.records.progress import follow_runs
from coordinator.selection.queries import count_measured_by
from coordinator.workers.service import VolunteerOrder, WorkerOrder
from shared.protocol import API_PREFIX
from shared.records import ExperimentSort
from shared.topics import TopicSort
from tests.bench.bench_findings import EACH
from tests.bench.findings_store import FindingsStore
from tests.support.databases import ON_ONE_ENGINE

SMALL = {"projects", "branches", "hardware_classes", "topic_counts"}
"""Tables whose rows are few however long a swarm lives."""

SORTED = (ExperimentSort.NEWEST, ExperimentSort.METRIC)
OF_FINDINGS = {name: values[0] for name, values in EACH.items()}
OF_RUNS = {name: value for name, value in OF_FINDINGS.items() if name not in ("tag", "with_retracted")}
DATES = {"since": "2020-01-01T00:00:00Z", "until": "2090-01-01T00:00:00Z"}
LISTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "findings": (OF_FINDINGS, list(ExperimentSort)), "experiments": (OF_RUNS, list(ExperimentSort)),
    "runs": (OF_RUNS, list(ORDERS)),
    "topics": (OF_RUNS | {"min_experiments": 2}, list(TopicSort)),
    "workers": (
        DATES | {"project": "tiny", "state": "paused", "hardware_class": "x", "volunteer": "ada", "version": "1",
                 "mark": "anchor"},
        list(WorkerOrder),
    ),
    "volunteers": (DATES | {"text": "a", "role": "moderator", "hardware_class": "x"}, list(VolunteerOrder)),
    "leases": (
        DATES | {"kind": "improve", "phase": "training", "branch": "main", "hardware_class": "x", "worker": "w1",
                 "volunteer": "ada", "axis": "DEPTH"},
        list(LeaseOrder),
    ),
}  # fmt: skip
"""Each list's filters, and its orders."""


def list_questions() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, (filters, orders) in LISTS.items():
        given = {} if path in ("workers", "volunteers") else {"project": "tiny"}
        both_ways = [given | {"sort": order, "ascending": ascending} for order in orders for ascending in (False, True)]
        yield from ((path, order) for order in both_ways)
        yield from ((path, {name: value} | order) for (name, value), order in zip(filters.items(), cycle(both_ways)))


def find_whole(plan: list[str], statement: str) -> list[str]:
    """Steps of a plan that read a whole table, but for those that stop at a page's end, in the order of its key."""
    stops = " limit " in " ".join(statement.casefold().split()) and not any("ORDER BY" in step for step in plan)
    found = (re.search(r"Seq Scan on (\w+)|^SCAN (\w+)(?! .*USING)", step) for step in plan)
    names = (each[1] or (None if stops else each[2]) for each in found if each)
    return [name for name in names if name in Base.metadata.tables.keys() - SMALL]


def test_no_filter_or_order_of_a_list_reads_a_table_as_a_whole(
    database: Database, http: TestClient, tmp_path: Path
) -> None:
    FindingsStore(database, tmp_path).fill(40, with_meanings=False)
    follow_runs(database)
    seen: dict[str, tuple[Any, str]] = {}
    asked = ""

    @event.listens_for(database.engine, "before_cursor_execute")
    def _see(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        seen.setdefault(statement, (parameters, asked))

    for path, parameters in list_questions():
        asked = f"{path} {parameters}"
        answer = http.get(f"{API_PREFIX}/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
    event.remove(database.engine, "before_cursor_execute", _see)
    wrong = []
    explain = "explain" if database.engine.dialect.name == "postgresql" else "explain query plan"
    with database.engine.connect() as connection:
        if explain == "explain":
            connection.exec_driver_sql("set enable_seqscan = off")
        for statement, (given, told) in seen.items():
            if re.match(r"\s*(select|with)\b", statement, re.IGNORECASE):
                plan = [str(row[-1]) for row in connection.exec_driver_sql(f"{explain} {statement}", given)]
                wrong += [(name, told, statement, plan) for name in find_whole(plan, statement)]
        whole = "select id from runs order by reason limit 9"
        plan = [str(row[-1]) for row in connection.exec_driver_sql(f"{explain} {whole}")]
    assert find_whole(plan, whole) == ["runs"] and len(seen) > len(LISTS)
    assert wrong == []


MOST_STEPS = 300_000
"""Steps of SQLite's virtual machine for a page or a search; a join that begins with all takes over 700,000."""


@ON_ONE_ENGINE
def test_a_filter_looks_at_what_may_be_shown_and_not_at_a_whole_project(
    database: Database, http: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite keeps no statistics: it takes whatever an index finds for few rows."""
    monkeypatch.setattr(listing, "FEW", 20)
    FindingsStore(database, tmp_path).fill(1_500)
    follow_runs(database)
    steps = Counter[str]()
    asked = ""

    @event.listens_for(database.engine, "checkout")
    def _count(connection: sqlite3.Connection, _record: Any, _proxy: Any) -> None:
        connection.set_progress_handler(lambda: steps.update({asked: 1_000}), 1_000)

    searches = [("findings/search", {"q": "decay rate"}), *(("findings", {"sort": sort}) for sort in SORTED)]
    lists = [("experiments", {"sort": ExperimentSort.NEWEST}), ("runs", {"sort": "metric"}), ("topics", {})]
    for name, values in EACH.items():
        for path, more in [*searches, *(lists if name in OF_RUNS else ())]:
            for value in values:
                asked = f"{path} {more} {name}={value}"
                answer = http.get(f"{API_PREFIX}/{path}", params={"project": "tiny", name: value} | more)
                assert answer.status_code == 200, answer.text
    assert max(steps.values()) > MOST_STEPS / 50, "they are counted"
    assert {asked: found for asked, found in steps.items() if found > MOST_STEPS} == {}


@ON_ONE_ENGINE
def test_what_is_named_is_looked_up_by_its_name(database: Database, tmp_path: Path) -> None:
    """Not among all that its project or its volunteer has, by which SQLite would read the whole of either."""
    store = FindingsStore(database, tmp_path)
    store.fill(40, with_meanings=False)
    seen: list[tuple[str, Any]] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def _see(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        seen.append((statement, parameters))

    with database.read() as session:
        shas = list(session.scalars(select(Commit.sha).limit(30)))
        seen.clear()
        find_commits(session, 1, shas)
        count_measured_by(session, 1, "x", shas)
    event.remove(database.engine, "before_cursor_execute", _see)
    with database.engine.connect() as connection:
        plans = [connection.exec_driver_sql(f"explain query plan {asked}", given) for asked, given in seen]
        steps = [str(row[-1]) for plan in plans for row in plan]
    assert any("commits USING" in step for step in steps) and any("runs USING" in step for step in steps), steps
    assert [step for step in steps if re.search(r"(commits|runs) USING .*\((project_id|worker_id)=", step)] == []
