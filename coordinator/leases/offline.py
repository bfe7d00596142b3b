"""Jobs that workers gave themselves while this coordinator was away."""

from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.accounts.service import authenticate, hash_token
from coordinator.db.database import Database
from coordinator.http.errors import NotFoundError
from coordinator.leases import queries, service, state
from coordinator.lineage.branches import get_branch_of_commit
from coordinator.lineage.commits import find_commit
from coordinator.projects import service as projects
from coordinator.workers import service as workers
from shared.experiments import JobKind
from shared.leases import HeartbeatReply, LeaseState, OfflineLease
from shared.protocol import now

WHY = "This coordinator was away, and the worker went on by itself from the best commit that it knew."


def register_own(database: Database, bearer: str | None, lease_id: UUID, own: OfflineLease) -> HeartbeatReply:
    """Register a job that a worker gave itself, so that its result can be delivered. Repeating it is fine.

    Raises NotFoundError where project or base are unknown, LeaseForeignError and LeaseTokenError.
    """
    with database.write() as session:
        return _register(session, authenticate(session, bearer), lease_id, own)


def _register(session: Session, volunteer_id: int, lease_id: UUID, own: OfflineLease) -> HeartbeatReply:
    if queries.find_lease(session, lease_id) is not None:
        lease = service.get_own(session, volunteer_id, lease_id)
        service.check_token(lease, own.token)
        return HeartbeatReply(state=LeaseState(lease.state), expires_at=lease.expires_at)
    project = projects.get_project(session, own.project)
    if find_commit(session, project.id, own.base_sha) is None:
        raise NotFoundError(f"The project {own.project} has no commit {own.base_sha}. Deliver parents first.")
    branch = get_branch_of_commit(session, project.id, own.base_sha)
    worker = workers.register_worker(session, volunteer_id, own.worker, own.agent, own.hardware)
    moment = now()
    clock = state.begin_expired(own.issued_at, moment)
    columns = service.columns_of(clock, projects.contract_of(project).budget) | {
        "id": lease_id, "project_id": project.id, "worker_id": worker.id, "branch_id": branch.id,
        "hardware_class": worker.hardware_class, "kind": JobKind.IMPROVE, "base_sha": own.base_sha, "is_check": False,
        "seed": own.seed, "why": WHY, "end_reason": "", "assignment": None, "token_sha256": hash_token(own.token),
        "issued_at": clock.heartbeat_at, "ended_at": moment,
    }  # fmt: skip
    queries.add_lease(session, columns)
    return HeartbeatReply(state=clock.state, expires_at=columns["expires_at"])
