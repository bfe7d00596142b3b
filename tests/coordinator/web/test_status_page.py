"""`/status` for everybody: what happens, what waits, and how old the last verified backup is."""

from pathlib import Path

from fastapi.testclient import TestClient
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.events import audit
from coordinator.events.audit import Actor
from coordinator.models import Commit, DueReplication, Volunteer
from coordinator.projects.service import create_project
from shared.protocol import now
from tests.support.seeds import write_seed
from tests.support.swarm_data import write_history


def test_a_new_swarm(http: TestClient) -> None:
    text = http.get("/status").text
    assert "No backup has been verified yet" in text and "No result has arrived yet" in text
    assert '<a href="/status"' in text, "the navigation leads here"


def test_a_swarm_with_a_past(http: TestClient, database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        project, _ = create_project(session, write_seed(tmp_path / "seed"))
        write_history(session, project, 6)
        volunteer_id = session.scalars(select(Volunteer.id).limit(1)).one()
        shas = session.scalars(select(Commit.sha).limit(3)).all()
        session.add_all(
            DueReplication(
                commit_sha=sha, hardware_class="cpu <b>", project_id=project.id, volunteer_id=volunteer_id,
                for_anchors=sha == shas[0], created_at=now(),
            )
            for sha in shas
        )  # fmt: skip
        audit.record_backup(session, Actor("timer"), {"commits": 7, "runs": 1_234, "bytes": 10})
    text = http.get("/status").text
    assert "The last verified backup was made" in text and "it has 1,234 runs" in text
    assert 'cpu &lt;b&gt;</bdi></th><td class="number">3</td><td class="number">1</td>' in text
    assert (
        "results an hour</span>: of the newest" in text
        and "the first arrived" in text
        and '<th scope="row">epochs</th><td>works</td>' in text
    )
