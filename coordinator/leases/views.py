"""Leases as people see them: who works on what right now."""

from sqlalchemy.orm import Session

from coordinator.leases import queries, state
from coordinator.models import Project
from shared.experiments import JobKind
from shared.fleet import WorkerState
from shared.leases import LeaseState, LeaseView, Phase
from shared.protocol import now

MAX_LEASES = 200


def view_live_leases(session: Session, project: Project) -> list[LeaseView]:
    """The project's live leases, the oldest first, at most 200."""
    moment = now()
    return [
        LeaseView(
            id=lease.id,
            project=project.name,
            worker=worker.name,
            worker_state=WorkerState(worker.state),
            agent=worker.agent,
            kind=JobKind(lease.kind),
            state=state.effective_state(LeaseState(lease.state), lease.expires_at, moment),
            phase=Phase(lease.phase),
            title=str((lease.proposal or {}).get("title", "")),
            why=lease.why,
            base_sha=lease.base_sha,
            branch=branch,
            step=lease.step,
            loss=lease.loss,
            share=lease.share,
            issued_at=lease.issued_at,
            heartbeat_at=lease.heartbeat_at,
            expires_at=lease.expires_at,
        )
        for lease, worker, branch in queries.list_live_leases(session, project.id, MAX_LEASES)
    ]
