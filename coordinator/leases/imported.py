"""Leases of jobs that were done elsewhere, before this coordinator knew of them: for imported experiments."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.models import Lease
from shared.experiments import JobKind
from shared.leases import LeaseState, Phase

NO_TOKEN = "0" * 64
"""The hash of no token: nobody can deliver to such a lease."""


def add_past_lease(
    session: Session, lease_id: UUID, project_id: int, worker_id: int, branch_id: int, hardware_class: str,
    kind: JobKind, base_sha: str, code: tuple[str, str] | None, moment: datetime,
) -> None:  # fmt: skip
    """Add a lease that is done. `code` is the tree that came of it and its fingerprint, where there is any: so a
    proposal of the same code is recognised."""
    lease = Lease(
        id=lease_id, project_id=project_id, worker_id=worker_id, branch_id=branch_id, hardware_class=hardware_class,
        kind=kind, state=LeaseState.DONE, base_sha=base_sha, seed=0, why="Done before it was imported.",
        token_sha256=NO_TOKEN, phase=Phase.REPORTING, share=1.0,
        proposed_tree_sha=code[0] if code else None, proposed_fingerprint=code[1] if code else None,
        issued_at=moment, phase_started_at=moment, heartbeat_at=moment, progressed_at=moment, expires_at=moment,
        deadline_at=moment, ended_at=moment, result_key=lease_id,
    )  # fmt: skip
    session.add(lease)
    session.flush()
