"""The frontier that is kept for a moment is the one that stands in the database."""

import pytest
from sqlalchemy import update

from coordinator.db.database import Database
from coordinator.evidence.changes import MAX_CHANGES, list_changed, record_changed
from coordinator.models import CommitPosterior
from coordinator.selection import frontier, queries
from coordinator.selection.frontier import read_frontier
from coordinator.selection.under_way import read_under_way
from shared.experiments import Standing
from tests.support.messages import make_result
from tests.support.volunteers import MiniWorker


def try_depth(worker: MiniWorker, depth: int, metric: float) -> str:
    """An experiment; returns the class that it was measured in."""
    lease = worker.claim_job()
    files = {"train.py": f"DEPTH = {depth}\n"}
    assert worker.propose(lease, files).accepted
    upload = make_result(lease, worker.files_of(lease), files, metric)
    assert worker.deliver(lease, upload).status_code == 201
    return upload.run.hardware.hardware_class


def test_what_this_process_changes_is_seen_at_once(worker: MiniWorker, database: Database) -> None:
    worker.measure_root(3.3)
    for number, metric in enumerate((3.2, 3.35, 3.1, 3.25)):
        hardware_class = try_depth(worker, 10 + number, metric)
        with database.read() as session:
            kept = read_frontier(session, 1, hardware_class)
            assert kept.candidates == queries.list_frontier(session, 1, hardware_class)
        assert len(kept.candidates) == number + 2
        assert kept.places == {candidate.sha: at for at, candidate in enumerate(kept.candidates)}


def test_what_others_change_is_seen_soon(
    worker: MiniWorker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.measure_root(3.3)
    hardware_class = try_depth(worker, 10, 3.2)
    with database.read() as session:
        assert len(read_frontier(session, 1, hardware_class).candidates) == 2
    with database.write() as session:
        session.execute(update(CommitPosterior).values(standing=Standing.HELD))
    later = frontier.monotonic() + frontier.FRONTIER_MAX_AGE_SECONDS
    monkeypatch.setattr(frontier, "monotonic", lambda: later)
    with database.read() as session:
        assert read_frontier(session, 1, hardware_class).candidates == []


def test_jobs_under_way_are_counted_on_their_commit(worker: MiniWorker, database: Database) -> None:
    worker.measure_root(3.3)
    lease = worker.claim_job()
    with database.read() as session:
        kept = read_frontier(session, 1, worker_class(worker))
        (candidate,) = kept.view_candidates(read_under_way(session, 1))
    assert (candidate.sha, candidate.children_in_flight, candidate.measured_in_flight) == (lease.base.sha, 1, 0)
    assert kept.candidates[0].children_in_flight == 0, "what is kept does not count them"


def worker_class(worker: MiniWorker) -> str:
    row = worker.get_json("/experiments?project=tiny")["items"] or worker.get_json("/runs?project=tiny")["items"]
    return str(row[0]["hardware_class"])


def test_changes_that_are_too_many_are_not_told_one_by_one(database: Database) -> None:
    with database.read() as session:
        record_changed(session, ["a", "b"])
        assert list_changed(session, 0.0) == {"a", "b"}
        record_changed(session, map(str, range(MAX_CHANGES)))
        assert list_changed(session, 0.0) is None
