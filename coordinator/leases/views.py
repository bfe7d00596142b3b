"""Leases as people see them: who works on what right now."""

from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.experiments import service as experiments
from coordinator.leases import queries, state
from coordinator.leases.errors import LeaseUnknownError
from coordinator.models import Project
from shared.experiments import JobKind
from shared.leases import LeaseContext, LeaseState, LeaseView, Phase
from shared.protocol import now
from shared.workers import WorkerState

MAX_LEASES = 200


def view_context(session: Session, lease_id: UUID) -> LeaseContext:
    """What a lease's agent got to read. Raises LeaseUnknownError."""
    found = queries.find_context(session, lease_id)
    if found is None:
        raise LeaseUnknownError("This coordinator never gave out that lease.")
    lease, project, pack = found
    experiment = experiments.find_experiment_by_lease(session, lease_id)
    return LeaseContext(
        lease_id=lease_id,
        project=project,
        kind=JobKind(lease.kind),
        experiment_id=experiment.id if experiment else None,
        text=pack.text if pack else "",
        findings=pack.findings if pack else [],
    )


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
