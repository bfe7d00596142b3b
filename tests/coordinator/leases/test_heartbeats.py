"""Heartbeats that are held for a while before they are written."""

from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from coordinator.db.database import Database
from coordinator.leases.heartbeats import HeldHeartbeat, HeldHeartbeats
from coordinator.leases.state import LeaseClock
from coordinator.models import Lease
from shared.leases import GrantedLease as LeaseGrant
from shared.leases import LeaseState, Phase
from shared.protocol import now
from tests.support.messages import make_result
from tests.support.volunteers import MiniWorker

FILES = {"train.py": "DEPTH = 5\n"}


@pytest.fixture
def held_heartbeats(http: TestClient) -> HeldHeartbeats:
    app = http.app
    assert isinstance(app, FastAPI) and isinstance(app.state.held_heartbeats, HeldHeartbeats)
    return app.state.held_heartbeats


@pytest.fixture
def running(worker: MiniWorker) -> LeaseGrant:
    """A lease that has begun to train."""
    worker.measure_root()
    lease = worker.claim_job()
    assert worker.propose(lease, FILES).accepted
    assert worker.beat(lease, Phase.TRAINING, step=1, share=0.1).status_code == 200
    return lease


def read(database: Database, lease: LeaseGrant) -> tuple[str, str, int, float | None]:
    with database.read() as session:
        row = session.execute(select(Lease).where(Lease.id == lease.id)).scalar_one()
        return row.state, row.phase, row.step, row.loss


def test_a_new_phase_is_written_at_once(database: Database, running: LeaseGrant) -> None:
    assert read(database, running) == ("running", "training", 1, None)


def test_a_renewal_is_answered_now_and_written_soon(
    worker: MiniWorker, database: Database, held_heartbeats: HeldHeartbeats, running: LeaseGrant
) -> None:
    for step in (2, 3):
        reply = worker.beat(running, Phase.TRAINING, step=step, loss=3.5, share=step / 10)
        assert reply.json()["state"] == "running"
    held_heartbeats.write_all(database)
    assert read(database, running) == ("running", "training", 3, 3.5)


def test_what_is_held_goes_before_the_result_and_never_undoes_it(
    worker: MiniWorker, database: Database, held_heartbeats: HeldHeartbeats, running: LeaseGrant
) -> None:
    assert worker.beat(running, Phase.TRAINING, step=7, loss=3.4, share=0.7).status_code == 200
    upload = make_result(running, worker.files_of(running), FILES)
    assert worker.deliver(running, upload).status_code == 201
    assert read(database, running) == ("done", "reporting", 7, 3.4)
    held_heartbeats.write_all(database)
    assert read(database, running) == ("done", "reporting", 7, 3.4)


def test_what_is_held_does_not_revive_a_released_lease(
    worker: MiniWorker, database: Database, held_heartbeats: HeldHeartbeats, running: LeaseGrant
) -> None:
    assert worker.beat(running, Phase.TRAINING, step=7, share=0.7).status_code == 200
    assert worker.release(running).status_code == 200
    late = worker.beat(running, Phase.SCORING, step=8, share=0.8)  # was on its way when the job was given back
    assert (late.status_code, read(database, running)[0]) == (410, LeaseState.RELEASED)
    held_heartbeats.write_all(database)
    assert read(database, running)[0] == LeaseState.RELEASED
    assert worker.beat(running, Phase.TRAINING, step=8, share=0.8).status_code == 410


def test_a_lease_that_is_about_to_end_is_renewed_at_once(
    worker: MiniWorker, database: Database, running: LeaseGrant
) -> None:
    with database.write() as session:
        session.execute(update(Lease).where(Lease.id == running.id).values(expires_at=now() + timedelta(seconds=20)))
    assert worker.beat(running, Phase.TRAINING, step=9, share=0.9).status_code == 200
    assert read(database, running)[2] == 9


def test_what_cannot_be_written_is_kept(database: Database, running: LeaseGrant, tmp_path: Path) -> None:
    moment = now()
    clock = LeaseClock(
        LeaseState.RUNNING, Phase.TRAINING, 5, 0.5, running.issued_at, moment, moment, running.deadline_at
    )  # fmt: skip
    held_heartbeats = HeldHeartbeats()
    held_heartbeats.hold(running.id, HeldHeartbeat(clock, 3.3, moment + timedelta(seconds=100)))
    nowhere = Database(f"sqlite:///{tmp_path}/no/such/folder.db")
    with pytest.raises(OperationalError):
        held_heartbeats.write_all(nowhere)
    nowhere.close()
    held_heartbeats.write_all(database)
    assert read(database, running) == ("running", "training", 5, 3.3)
