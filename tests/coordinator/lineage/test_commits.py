"""Ancestors of commits."""

import sqlite3
from typing import Any

from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.lineage.commits import add_commit, list_nearest, map_nearest
from coordinator.models import Project
from shared.protocol import now
from tests.support.databases import ON_ONE_ENGINE

LINE = 60


def add_tree(database: Database) -> list[str]:
    """A line of commits below the root, beside each of which is another one; returns all, the deepest last."""
    with database.write() as session:
        project = session.scalars(select(Project)).one()
        parent, shas = project.root_sha, [project.root_sha]
        for depth in range(1, LINE + 1):
            for name in ("b", "a"):
                sha = f"{name}{depth:039d}"
                columns = {"sha": sha, "parent_sha": parent, "tree_sha": sha, "depth": depth, "has_code": True}
                add_commit(session, columns | {"project_id": project.id, "steps": 1, "created_at": now()})
                shas.append(sha)
            parent = sha
    return shas


def test_the_nearest_among_others_is_found_for_many_commits_together(database: Database, project: str) -> None:
    assert project
    shas = add_tree(database)
    among = {shas[0], *shas[7::14]}
    with database.read() as session:
        for limit in (1, 3, 8, 32):
            lines = {sha: list_nearest(session, sha, limit) for sha in shas}
            nearest = {sha: next((one for one in line if one in among), None) for sha, line in lines.items()}
            expected = {sha: one for sha, one in nearest.items() if one is not None}
            for asked in (shas, shas[::3], shas[-1:]):
                wanted = {sha: expected[sha] for sha in asked if sha in expected}
                assert map_nearest(session, asked, among, limit) == wanted


@ON_ONE_ENGINE
def test_what_many_commits_have_in_common_is_read_once(database: Database, project: str) -> None:
    assert project
    shas = add_tree(database)

    def count_steps(asked: list[str]) -> int:
        steps = [0]

        def count() -> None:
            steps[0] += 1

        with database.read() as session:
            connection: Any = session.connection().connection.driver_connection
            assert isinstance(connection, sqlite3.Connection)
            connection.set_progress_handler(count, 10)
            map_nearest(session, asked, shas[:1], 32)
            connection.set_progress_handler(None, 10)
        return steps[0]

    assert count_steps(shas) < 30 * count_steps(shas[-1:])
