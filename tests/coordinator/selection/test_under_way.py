"""Jobs under way in a fleet that is too large to count them for each claim."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from coordinator.db.database import Database
from coordinator.selection import under_way
from coordinator.selection.under_way import UnderWay, read_under_way
from tests.support.databases import ON_ONE_ENGINE
from tests.support.volunteers import MiniWorker


@pytest.mark.usefixtures("project")
@ON_ONE_ENGINE
def test_jobs_that_were_given_count_at_once_and_others_a_second_later(
    database: Database, make_worker: Callable[..., MiniWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_way, "LARGE_FLEET", 1)
    monkeypatch.setattr(under_way, "KEPT_SECONDS", 1e6)

    def read() -> UnderWay:
        with database.connect() as session:
            return replace(read_under_way(session, 1), counted_at=0.0)

    workers = [make_worker(f"w{number}") for number in range(4)]
    workers[0].measure_root()
    first = workers[0].claim_job()
    jobs = [worker.claim_job() for worker in workers[1:]]
    kept = read()
    monkeypatch.setattr(under_way, "KEPT_SECONDS", 0.0)
    assert kept == read(), "as if all had been counted again"
    assert kept.fleet == 4 and sum(kept.experiments.values()) + sum(kept.measurements.values()) == 4
    assert {job.kind for job in jobs} != {first.kind}, "measurements are among them"
    monkeypatch.setattr(under_way, "KEPT_SECONDS", 1e6)
    workers[0].release(first)
    assert read().fleet == 4
    monkeypatch.setattr(under_way, "KEPT_SECONDS", 0.0)
    assert read().fleet == 3
