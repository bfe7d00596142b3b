"""SQLite's plans for the statements of all pages: no table is gone through once for each row of another one, and no
project's rows are all sorted to find a few."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, event

from coordinator.accounts.service import find_or_add_volunteer
from coordinator.accounts.sessions import start_session
from coordinator.models import Base
from coordinator.web.sessions import COOKIE
from shared.workers import TokenScope
from tests.coordinator.web.conftest import serve_swarm
from tests.support.demo_swarm import BOSS, DemoSwarm
from tests.support.page_table import list_addresses

Statements = dict[str, Any]
"""Statements with the parameters that they were run with."""
Steps = list[tuple[int, str]]
"""A plan: each step with the number of the one that it belongs to."""

ALL_OF_A_PROJECT = re.compile(
    r"SEARCH (commits|commit_posteriors|experiments|findings|leases|runs) .*\(project_id=\?\)"
)
SORT = "USE TEMP B-TREE FOR ORDER BY"


def list_wasteful(
    connection: Connection, statements: Statements, find: Callable[[Steps], Iterable[str]]
) -> Iterator[str]:
    """The steps that `find` yields of the statements' plans, with the statements."""
    for statement, parameters in statements.items():
        if re.match(r"\s*(select|with|update|delete)\b", statement, re.IGNORECASE):
            plan = connection.exec_driver_sql(f"explain query plan {statement}", parameters)
            yield from (f"{step}: {statement}" for step in find([(row[1], row[3]) for row in plan]))


def _find_sorted_projects(steps: Steps) -> Iterator[str]:
    """Steps that read all of a project's rows, which are sorted afterwards."""
    sorting = {parent for parent, step in steps if step == SORT}
    yield from (step for parent, step in steps if parent in sorting and ALL_OF_A_PROJECT.match(step))


def _find_inner_scans(steps: Steps) -> Iterator[str]:
    """Steps that go through a whole table for each row of what stands before it."""
    before = Counter[int]()
    for parent, step in steps:
        verb, name, *_ = (*step.split(), "")
        is_whole = verb == "SCAN" or "AUTOMATIC" in step  # an index that is made for this statement alone
        if is_whole and name in Base.metadata.tables and before[parent]:
            yield step
        before[parent] += verb in ("SCAN", "SEARCH")


def test_no_page_goes_through_far_more_rows_than_it_shows(tmp_path: Path) -> None:
    seen: Statements = {}
    with serve_swarm(tmp_path, "") as swarm:
        engine = swarm.database.engine
        with httpx.Client(base_url=swarm.url, timeout=60, follow_redirects=True) as http:
            things = DemoSwarm(swarm.database, http, 30).things
            with swarm.database.write() as session:
                boss = find_or_add_volunteer(session, BOSS)
                http.cookies.set(COOKIE, start_session(session, boss.id, TokenScope.DUTIES, "test"))

            @event.listens_for(engine, "before_cursor_execute")
            def _see(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
                seen.setdefault(statement, parameters)

            for address in list_addresses(things):
                assert http.get(address, headers={"Accept": "text/html"}).status_code == 200, address
        with engine.connect() as connection:
            for find in (_find_inner_scans, _find_sorted_projects):
                assert list(list_wasteful(connection, dict(seen), find)) == []
            wrong = {"select 1 from runs left join leases on leases.base_sha = runs.lease_id": ()}
            assert len(list(list_wasteful(connection, wrong, _find_inner_scans))) == 1
            wrong = {"select depth from commits where project_id = 1 and sha > '' order by sha limit 1": ()}
            assert len(list(list_wasteful(connection, wrong, _find_sorted_projects))) == 1
    assert len(seen) > len(list_addresses(things))
