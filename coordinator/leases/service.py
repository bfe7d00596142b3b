"""Heartbeats, release and end of leases. `claim.py` gives them out."""

import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.accounts.permissions import AccountStoppedError
from coordinator.accounts.service import authenticate, hash_token
from coordinator.db.database import Database
from coordinator.db.engine import Conn
from coordinator.events import service as events
from coordinator.experiments.lookup import find_experiment_by_lease
from coordinator.leases import queries, state
from coordinator.leases.errors import (
    LeaseEndedError,
    LeaseForeignError,
    LeaseTokenError,
    LeaseTransitionError,
    LeaseUnknownError,
)
from coordinator.leases.heartbeats import HeldHeartbeat, HeldHeartbeats
from coordinator.leases.queries import LeaseFilters, LeaseRow
from coordinator.leases.state import LeaseClock
from coordinator.models import Project, view_of
from coordinator.projects import service as projects
from shared.contract import Budget
from shared.events import EventKind
from shared.experiments import JobKind
from shared.leases import Heartbeat, HeartbeatReply, LeaseContext, LeaseState, LeaseView, Phase, ReleaseRequest
from shared.protocol import now
from shared.workers import WorkerMessage

HELD_WITHIN = timedelta(seconds=30)
"""A heartbeat is written at once where the lease, as it is stored, has no more than this left."""


def heartbeat(
    database: Database, held_heartbeats: HeldHeartbeats, bearer: str | None, lease_id: UUID, heartbeat: Heartbeat
) -> HeartbeatReply:
    """Renew a lease. Raises LeaseEndedError once it has ended, LeaseTransitionError for a step back."""
    with database.connect() as connection:
        lease = find_own(connection, bearer, lease_id)
    check_token(lease, heartbeat.token)
    budget = budget_of(lease)
    clock = clock_of(lease)
    held = held_heartbeats.find(lease_id, clock) or HeldHeartbeat(clock, None, lease.expires_at)
    after = _renew(held.clock, held.expires_at, heartbeat)
    ends_at = state.expires_at(after, budget)
    if after.phase is clock.phase and lease.expires_at - after.heartbeat_at > HELD_WITHIN:
        held_heartbeats.hold(lease_id, HeldHeartbeat(after, heartbeat.loss, ends_at))
        return HeartbeatReply(state=after.state, expires_at=ends_at, message=_message_of(lease))
    with database.begin() as session:
        columns = columns_of(after, budget) | {"loss": heartbeat.loss}
        if not queries.change_lease_as_seen(session, lease, columns):  # it changed meanwhile
            held_heartbeats.write_of(session, lease_id)
            lease = queries.lock_lease(session, lease_id)
            after = _renew(clock_of(lease), lease.expires_at, heartbeat)
            columns = columns_of(after, budget) | {"loss": heartbeat.loss}
            queries.change_lease(session, lease_id, columns)
        if after.phase != lease.phase:
            events.record(session, EventKind.LEASE_PROGRESSED, lease.project_id, lease=str(lease_id), phase=after.phase)
    return HeartbeatReply(state=after.state, expires_at=columns["expires_at"], message=_message_of(lease))


def _message_of(lease: LeaseRow) -> WorkerMessage | None:
    """The message that waits to be shown in the terminal of the lease's worker."""
    if lease.message is None:
        return None
    return WorkerMessage(worker=lease.worker, number=lease.message_number, text=lease.message)


def _renew(clock: LeaseClock, expires_at: datetime, heartbeat: Heartbeat) -> LeaseClock:
    moment = now()
    refuse_ended(clock.state, expires_at, moment)
    try:
        return state.renew(clock, heartbeat.phase, heartbeat.step, heartbeat.share, moment)
    except state.TransitionError as error:
        raise LeaseTransitionError(f"{error}.") from error


def release(
    database: Database, held_heartbeats: HeldHeartbeats, bearer: str | None, lease_id: UUID, request: ReleaseRequest
) -> HeartbeatReply:
    """Take a job back. Releasing again is fine; after the result it changes nothing."""
    with database.write() as session:
        check_token(find_own(session, bearer, lease_id), request.token)
        held_heartbeats.write_of(session, lease_id)
        lease = queries.lock_lease(session, lease_id)
        is_live = lease.state in state.LIVE
        after = give_back(session, lease, request.reason) if is_live else LeaseState(lease.state)
        return HeartbeatReply(state=after, expires_at=lease.expires_at)


def finish(session: Conn, lease: LeaseRow, result: Mapping[str, Any]) -> None:
    """Note that a lease's result was stored, in the columns of `result`. Raises LeaseTransitionError if it had one."""
    moment = now()
    try:
        clock = state.finish(clock_of(lease), moment)
    except state.TransitionError as error:
        raise LeaseTransitionError(f"{error}.") from error
    columns = columns_of(clock, budget_of(lease)) | {"ended_at": moment, **result}
    queries.change_lease(session, lease.id, columns)
    events.record(session, EventKind.LEASE_ENDED, lease.project_id, lease=str(lease.id), state=clock.state)


def give_back(session: Conn, lease: LeaseRow, reason: str) -> LeaseState:
    """End a lease because its worker does not work on it any more."""
    return _end(session, lease, state.release(clock_of(lease), now()).state, reason)


def expire(session: Conn, lease_id: UUID, reason: str) -> None:
    """Write down that a lease has expired, because something of it is given away now."""
    lease = queries.lock_lease(session, lease_id)
    _end(session, lease, state.expire(clock_of(lease)).state, reason)


def _end(session: Conn, lease: LeaseRow, ended: LeaseState, reason: str) -> LeaseState:
    queries.change_lease(session, lease.id, {"state": ended, "ended_at": now(), "end_reason": reason})
    events.record(session, EventKind.LEASE_ENDED, lease.project_id, lease=str(lease.id), state=ended)
    return ended


def find_own(session: Conn, bearer: str | None, lease_id: UUID) -> LeaseRow:
    """The lease, if there is one and it is of the volunteer whose token this is.

    Raises UnauthorizedError, AccountStoppedError, LeaseUnknownError, LeaseForeignError.
    """
    lease = queries.find_lease_of_token(session, lease_id, hash_token(bearer)) if bearer else None
    if lease is None or lease.is_stopped:
        lease = get_own(session, authenticate(session, bearer), lease_id)
        refuse_stopped(lease)
    return lease


def get_own(session: Conn, volunteer_id: int, lease_id: UUID) -> LeaseRow:
    """The lease, if there is one and it is this volunteer's. Raises LeaseUnknownError, LeaseForeignError."""
    lease = queries.find_lease(session, lease_id)
    if lease is None:
        raise LeaseUnknownError("Claim a job first; this coordinator never gave out that lease.")
    if lease.volunteer_id != volunteer_id:
        raise LeaseForeignError("Only the volunteer who claimed a job can speak for it.")
    return lease


def refuse_stopped(lease: LeaseRow) -> None:
    """Raise AccountStoppedError for a lease of a worker that may write nothing."""
    if lease.is_stopped:
        raise AccountStoppedError(f"A maintainer stopped {lease.worker} or its account.")


def check_token(lease: LeaseRow, token: str) -> None:
    """Raises LeaseTokenError for another token than the lease's."""
    if not hmac.compare_digest(lease.token_sha256, hash_token(token)):
        raise LeaseTokenError("Send the token that came with the lease.")


def refuse_ended(stored: LeaseState, expires_at: datetime, moment: datetime) -> None:
    """Raise LeaseEndedError for a lease that is not live any more."""
    effective = state.effective_state(stored, expires_at, moment)
    if effective not in state.LIVE:
        raise LeaseEndedError(f"It is {effective}. A finished run may still be delivered; for more work, claim again.")


def clock_of(lease: LeaseRow) -> LeaseClock:
    """A lease as its transitions see it."""
    return LeaseClock(
        state=LeaseState(lease.state),
        phase=Phase(lease.phase),
        step=lease.step,
        share=lease.share,
        phase_started_at=lease.phase_started_at,
        heartbeat_at=lease.heartbeat_at,
        progressed_at=lease.progressed_at,
        deadline_at=lease.deadline_at,
    )


def budget_of(lease: LeaseRow) -> Budget:
    """The budget of a lease's run, at the pace of 1."""
    return projects.parse_stored(lease.contract).on_rung(lease.rung).budget


def columns_of(clock: LeaseClock, budget: Budget) -> dict[str, Any]:
    """The columns of a lease that its clock decides."""
    return vars(clock) | {"expires_at": state.expires_at(clock, budget)}


MAX_LEASES = 200


def view_context(session: Session, lease_id: UUID) -> LeaseContext:
    """The context pack of a lease. Raises LeaseUnknownError."""
    found = queries.find_context(session, lease_id)
    if found is None:
        raise LeaseUnknownError("This coordinator never gave out that lease.")
    lease, project, pack = found
    experiment = find_experiment_by_lease(session, lease_id)
    return LeaseContext(
        lease_id=lease_id,
        project=project,
        kind=JobKind(lease.kind),
        experiment_id=experiment.id if experiment else None,
        text=pack.text if pack else "",
        findings=pack.findings if pack else [],
    )


def count_live_by_phase(session: Conn, project_id: int | None) -> dict[Phase, int]:
    """The numbers of live leases of a project, or of all."""
    return {Phase(phase): count for phase, count in queries.count_live_by_phase(session, project_id)}


def list_volunteers_at_work(session: Session, project_id: int) -> list[tuple[str, bool]]:
    """Names of those who hold a project's live leases, at most 1,000, and whether a maintainer let them in."""
    return queries.list_volunteers_at_work(session, project_id, 1_000)


class LeaseOrder(StrEnum):
    """The order of a list of live leases: by when they were given, or by the last sign of life."""

    ISSUED = "issued"
    HEARD = "heard"


def view_live_leases(
    session: Session, project: Project, filters: LeaseFilters, order: LeaseOrder, limit: int = MAX_LEASES, *,
    ascending: bool = True,
) -> list[LeaseView]:  # fmt: skip
    """The project's live leases that fit, the oldest first or the newest, at most `limit`: those heard of longest ago,
    or last."""
    moment = now()
    rows = queries.list_live_leases(session, project.id, limit, filters, latest=not ascending)
    if order == LeaseOrder.ISSUED:
        rows.sort(key=lambda row: row[0].issued_at, reverse=not ascending)
    return [
        view_of(
            LeaseView,
            lease,
            project=project.name,
            worker=worker_name,
            worker_state=worker.state,
            agent=worker.agent,
            state=state.effective_state(LeaseState(lease.state), lease.expires_at, moment),
            title=str((lease.proposal or {}).get("title", "")),
            branch=branch,
        )
        for lease, worker, worker_name, branch in rows
    ]
