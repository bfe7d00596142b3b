"""Errors as answers: what a request is told while the database cannot be used."""

from collections.abc import Callable

import httpx
import pytest
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from shared.leases import Phase
from tests.support.volunteers import MiniWorker


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_ended_its_connections_is_used_again(
    http: TestClient, database: Database, worker: MiniWorker
) -> None:
    """As when PostgreSQL restarts: a request that finds its connection closed says so, and the next has a new one."""
    lease = worker.claim_job()
    asks: list[Callable[[], httpx.Response]] = [
        lambda: http.get("/api/v1/projects"),
        lambda: worker.beat(lease, Phase.READY),
    ]
    for ask in asks:
        with database.engine.connect() as connection:
            connection.exec_driver_sql(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
        answers = [ask().status_code for _ in range(3)]
        assert set(answers) <= {200, 503} and answers[-2:] == [200, 200], answers


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("/api/v1/lineage/%00abcd", ["path.sha"]),
        ("/projects/tiny?hardware_class=a%00b", ["query.hardware_class"]),
        ("/api/v1/topics/tiny/%00", ["path.slug"]),
    ],
)
def test_a_character_that_cannot_be_stored_is_found_in_the_address(
    http: TestClient, worker: MiniWorker, address: str, where: list[str]
) -> None:
    worker.measure_root()
    answer = http.get(address)
    assert answer.status_code == 422 and answer.json()["type"] == "/problems/request-invalid", answer.text
    assert [mistake["where"] for mistake in answer.json()["errors"]] == where


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("/nowhere/api/v1/leases", "does the coordinator's address end before /nowhere?"),
        ("/api/v1/nowhere", "see /docs for what is."),
    ],
)
def test_an_address_with_a_path_too_many_is_said_to_be_one(http: TestClient, address: str, advice: str) -> None:
    assert http.post(address).json()["detail"] == f"POST {address} is not here; {advice}"
