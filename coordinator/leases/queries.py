"""Questions about leases.

Statements that every job needs stand in constants: building one takes longer than running it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any, NamedTuple, cast
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    CursorResult,
    Select,
    bindparam,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from coordinator.db.engine import Conn
from coordinator.leases.validation import WorkerTime, count_at_once
from coordinator.models import (
    WORKER_NAME,
    Branch,
    Commit,
    ContextPack,
    Lease,
    Project,
    Run,
    Token,
    TrustRecord,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.accounts import IS_STOPPED, IS_VALID_TOKEN, IS_WORKER_STOPPED
from coordinator.models.base import is_of_commit
from coordinator.models.leases import IS_LIVE, IS_OPEN, LIVE_STATES
from coordinator.novelty.service import ProposedCode
from coordinator.selection.context_pack import Pack
from coordinator.workers.lookup import WorkerRow
from shared.experiments import JobKind
from shared.leases import Phase
from shared.protocol import now
from shared.runs import RunOutcome

OpenLeases = list[tuple[UUID, datetime]]
"""Leases that are live, or have expired and nobody wrote it down; each with when it expires."""

LiveLease = tuple[Lease, Worker, str, str]
"""A lease, its worker, that as others see it, and its branch's name."""

_LEASES, _WORKERS, _PROJECTS = table_of(Lease), table_of(Worker), table_of(Project)
_PACKS, _TOKENS, _RUNS, _COMMITS = table_of(ContextPack), table_of(Token), table_of(Run), table_of(Commit)
_RECORDS, _VOLUNTEERS = table_of(TrustRecord), table_of(Volunteer)


GIVEN_RUNS = 2000
"""Number of an account's newest runs, of jobs that the coordinator gave, that show how many devices it has."""

EXPERIMENTS = [kind for kind in JobKind if kind.makes_experiment]
"""Of these kinds are the jobs that workers give themselves; they have no proposal."""


class LeaseRow(NamedTuple):
    """A lease with its owner and its contract.

    The first block changes only where a proposal turns the job into a measurement, so it may be read at any time. A
    worker `is_stopped` if it or its account may write nothing.
    """

    id: UUID
    project_id: int
    contract: str
    worker_id: int
    worker: str
    volunteer: str
    message: str | None
    message_number: int
    volunteer_id: int
    branch_id: int
    hardware_class: str
    kind: str
    base_sha: str
    is_check: bool
    seed: int
    pace: float
    seed_throughput: float | None
    rung: str | None
    issued_at: datetime
    why: str
    assignment: dict[str, Any] | None
    token_sha256: str

    is_stopped: bool
    state: str
    phase: str
    step: int
    share: float
    phase_started_at: datetime
    heartbeat_at: datetime
    progressed_at: datetime
    expires_at: datetime
    deadline_at: datetime
    proposed_tree_sha: str | None
    refused_proposals: int
    result_key: UUID | None
    result_sha256: str | None
    result_reply: dict[str, Any] | None


_ELSEWHERE = {
    "contract": _PROJECTS.c.contract,
    "worker": _WORKERS.c.name,
    "volunteer": _VOLUNTEERS.c.name,
    "message": _WORKERS.c.message,
    "message_number": _WORKERS.c.message_number,
    "volunteer_id": _WORKERS.c.volunteer_id,
    "is_stopped": IS_WORKER_STOPPED,
}
_FIND = (
    select(*(_ELSEWHERE[name] if name in _ELSEWHERE else _LEASES.c[name] for name in LeaseRow._fields))
    .join(_WORKERS, _WORKERS.c.id == _LEASES.c.worker_id)
    .join(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id)
    .join(_PROJECTS, _PROJECTS.c.id == _LEASES.c.project_id)
    .where(_LEASES.c.id == bindparam("lease_id"))
)
_LOCK = _FIND.with_for_update(of=_LEASES, key_share=True)
_OTHER = _LEASES.alias().c
_OF_PROJECT = _OTHER.project_id == _LEASES.c.project_id, _OTHER.id != _LEASES.c.id
_LOCK_WITH_CODE = _LOCK.add_columns(  # each by an index of its own
    or_(
        exists().where(_COMMITS.c.project_id == _LEASES.c.project_id, _COMMITS.c.tree_sha == bindparam("tree_sha")),
        exists().where(*_OF_PROJECT, _OTHER.proposed_fingerprint == bindparam("fingerprint")),
        exists().where(*_OF_PROJECT, _OTHER.proposed_idea == bindparam("idea")),
        exists().where(*_OF_PROJECT, _OTHER.proposed_move == bindparam("move")),
    )
)
_LOCK_WITH_RESULT = _LOCK.add_columns(
    select(_RUNS.c.id).where(_RUNS.c.uuid == bindparam("uuid")).scalar_subquery(),
    select(_COMMITS.c.sha).where(_COMMITS.c.sha == bindparam("sha")).scalar_subquery(),
    select(_PACKS.c.findings).where(_PACKS.c.lease_id == bindparam("lease_id")).scalar_subquery(),
)
_SEE_OWN = _FIND.join(_TOKENS, _TOKENS.c.volunteer_id == _WORKERS.c.volunteer_id).where(
    _TOKENS.c.sha256 == bindparam("sha256"), IS_VALID_TOKEN
)
_LIVE_BY_PROJECT = select(_LEASES.c.project_id, func.count()).where(IS_LIVE).group_by(_LEASES.c.project_id)
_VOLUNTEER: BindParameter[int] = bindparam("volunteer_id")
_COUNTS = (
    select(func.count())
    .select_from(_WORKERS.join(_LEASES, _LEASES.c.worker_id == _WORKERS.c.id))
    .where(_WORKERS.c.volunteer_id == _VOLUNTEER, IS_LIVE),
    select(func.count()).where(_LEASES.c.address_sha256 == bindparam("address_sha256"), IS_LIVE),
    select(func.coalesce(func.sum(_RECORDS.c.agreements), 0)).where(
        _RECORDS.c.volunteer_id == _VOLUNTEER,
        _RECORDS.c.project_id.in_(select(_PROJECTS.c.id)),  # so an index answers
    ),
    select(func.count()).where(
        _WORKERS.c.volunteer_id == _VOLUNTEER, _WORKERS.c.is_anchor, _WORKERS.c.quarantine.is_(None)
    ),
    select(func.count()).where(_VOLUNTEERS.c.id == _VOLUNTEER, IS_STOPPED),
)
_HELD = (
    select(*(count.scalar_subquery().correlate(None) for count in _COUNTS), _LEASES.c.id, _LEASES.c.expires_at)
    .select_from(_WORKERS.outerjoin(_LEASES, (_LEASES.c.worker_id == _WORKERS.c.id) & IS_OPEN))
    .where(_WORKERS.c.id == bindparam("worker_id"))
)
_ADD = insert(_LEASES)
_ADD_PACK = insert(_PACKS)
_TOOK_TIME = (_RUNS.c.worker_id == _WORKERS.c.id) & (_RUNS.c.outcome != RunOutcome.INVALID)
_WORKER_TIME = select(
    _WORKERS.c.created_at,
    select(func.coalesce(func.sum(_RUNS.c.training_seconds), 0.0)).where(_TOOK_TIME).scalar_subquery(),
    exists().where(_TOOK_TIME, _RUNS.c.started_at < bindparam("moment"), _RUNS.c.finished_at > bindparam("moment")),
).where(_WORKERS.c.id == bindparam("worker_id"))
_OTHERS = (
    select(func.count(_RUNS.c.worker_id.distinct()))
    .join(_WORKERS, _TOOK_TIME)
    .where(_WORKERS.c.volunteer_id == bindparam("volunteer_id"), _RUNS.c.worker_id != bindparam("worker_id"))
    .where(_RUNS.c.started_at < bindparam("moment"), _RUNS.c.finished_at > bindparam("moment"))
)
_GIVEN = (
    select(_RUNS.c.started_at, _RUNS.c.starting_seconds, _RUNS.c.training_seconds)
    .join(_WORKERS, _TOOK_TIME)
    .join(_LEASES, _LEASES.c.id == _RUNS.c.lease_id)
    .where(_WORKERS.c.volunteer_id == bindparam("volunteer_id"))
    .where(_LEASES.c.proposed_tree_sha.is_not(None) | _LEASES.c.kind.not_in(EXPERIMENTS))
    .order_by(_RUNS.c.id.desc())
    .limit(GIVEN_RUNS)
)
_WORK = func.coalesce(func.nullif(_RUNS.c.tokens, 0), _RUNS.c.steps)
_SPEEDS = (
    select(_WORK / func.coalesce(_RUNS.c.budget_seconds, _RUNS.c.training_seconds) / _RUNS.c.seed_throughput)
    .join(_WORKERS, _WORKERS.c.id == _RUNS.c.worker_id)
    .where(
        is_of_commit(_RUNS.c),
        _RUNS.c.outcome == RunOutcome.OK,
        _RUNS.c.seed_throughput.is_not(None),
        _RUNS.c.rung.is_(None),
        _RUNS.c.training_seconds > 0,
        func.coalesce(_RUNS.c.budget_seconds, 1.0) > 0,
        _WORKERS.c.volunteer_id != bindparam("volunteer_id"),
    )
    .order_by(_RUNS.c.id)
    .limit(100)
)
_CHANGE = update(_LEASES).where(_LEASES.c.id == bindparam("lease_id"))
_CHANGE_AS_SEEN = _CHANGE.where(
    *(_LEASES.c[name] == bindparam(f"seen_{name}") for name in ("state", "phase", "heartbeat_at", "progressed_at"))
)
_RENEW = (
    update(_LEASES)
    .where(
        _LEASES.c.id == bindparam("lease_id"),
        IS_OPEN,
        _LEASES.c.phase == bindparam("new_phase"),
        _LEASES.c.heartbeat_at < bindparam("new_at"),
    )
    .values(
        {name: bindparam(f"new_{name}") for name in ("step", "share", "loss", "progressed_at", "expires_at")}
        | {"heartbeat_at": bindparam("new_at")}
    )
)


def list_volunteers_at_work(session: Session, project_id: int, limit: int) -> list[tuple[str, bool]]:
    """Names of those who hold a project's live leases, and whether a maintainer let them in."""
    query = select(_VOLUNTEERS.c.name, _VOLUNTEERS.c.is_approved).where(
        _VOLUNTEERS.c.id.in_(
            select(_WORKERS.c.volunteer_id)
            .join(_LEASES, _LEASES.c.worker_id == _WORKERS.c.id)
            .where(_LEASES.c.project_id == project_id, IS_LIVE)
        )
    )
    rows = session.execute(query.order_by(_VOLUNTEERS.c.name).limit(limit), {"moment": now()})
    return [(name, is_approved) for name, is_approved in rows]


def find_lease(session: Conn, lease_id: UUID) -> LeaseRow | None:
    row = session.execute(_FIND, {"lease_id": lease_id}).first()
    return LeaseRow._make(row) if row else None


def find_lease_of_token(session: Conn, lease_id: UUID, token_sha256: str) -> LeaseRow | None:
    """A lease, if it is of the volunteer whose valid token has this hash."""
    row = session.execute(_SEE_OWN, {"lease_id": lease_id, "sha256": token_sha256, "moment": now()}).first()
    return LeaseRow._make(row) if row else None


def lock_lease(session: Conn, lease_id: UUID) -> LeaseRow:
    """A lease that exists, its row locked until the transaction ends (SQLite locks the whole database instead)."""
    return LeaseRow._make(session.execute(_LOCK, {"lease_id": lease_id}).one())


def lock_with_code(session: Conn, lease_id: UUID, code: ProposedCode) -> tuple[LeaseRow, bool]:
    """As `lock_lease`, and whether a commit has these files, or another lease ever proposed this code or idea."""
    given = {"tree_sha": code.tree_sha, "fingerprint": code.fingerprint, "lease_id": lease_id}
    row = session.execute(_LOCK_WITH_CODE, given | {"idea": code.idea.on_parent, "move": code.idea.move}).one()
    return LeaseRow._make(row[:-1]), bool(row[-1])


class KnownOfResult(NamedTuple):
    """The stored parts of a result that arrives: a run of its id, its commit, and the numbers of the findings that its
    agent got to read."""

    has_run: bool
    has_commit: bool
    findings_read: list[int]


def lock_with_result(session: Conn, lease_id: UUID, run_uuid: UUID, sha: str) -> tuple[LeaseRow, KnownOfResult]:
    """As `lock_lease`, with what is known of a result's run and commit."""
    row = session.execute(_LOCK_WITH_RESULT, {"lease_id": lease_id, "uuid": run_uuid, "sha": sha}).one()
    *lease, run_id, stored_sha, findings = row
    return LeaseRow._make(lease), KnownOfResult(run_id is not None, stored_sha is not None, findings or [])


class LeaseCounts(NamedTuple):
    """Live leases of a volunteer and of an address, the volunteer's agreements in all projects, its anchors, and
    whether it was stopped meanwhile."""

    of_volunteer: int
    of_address: int
    agreements: int
    anchors: int
    is_stopped: int


def count_leases(session: Conn, worker: WorkerRow, address_sha256: str | None) -> tuple[LeaseCounts, OpenLeases]:
    """The counts, and the worker's own leases."""
    given = {"worker_id": worker.id, "volunteer_id": worker.volunteer_id, "address_sha256": address_sha256}
    rows = session.execute(_HELD, given | {"moment": now()}).all()
    return LeaseCounts._make(rows[0][:-2]), [(row[-2], row[-1]) for row in rows if row[-2] is not None]


def add_lease(session: Conn, columns: Mapping[str, Any]) -> None:
    session.execute(_ADD, columns)


def add_pack(session: Conn, lease_id: UUID, pack: Pack) -> None:
    session.execute(_ADD_PACK, {"lease_id": lease_id, **pack._asdict()})


def find_relative_speed(session: Conn, lease: LeaseRow) -> float | None:
    """How fast other volunteers' runs of a lease's commit were, in units of the seed's throughput there; the median."""
    given = {"sha": lease.base_sha, "hardware_class": lease.hardware_class, "volunteer_id": lease.volunteer_id}
    speeds = [float(speed) for speed in session.scalars(_SPEEDS, given)]
    return median(speeds) if speeds else None


def read_worker_time(session: Conn, lease: LeaseRow, moment: datetime) -> WorkerTime:
    """The time of a lease's worker and account, and what was under way at the moment. Reads all its runs."""
    given = {"volunteer_id": lease.volunteer_id, "worker_id": lease.worker_id, "moment": moment}
    known_since, trained_seconds, is_taken = session.execute(_WORKER_TIME, given).one()
    others = session.scalar(_OTHERS, given) or 0
    devices = count_at_once((row[0], row[1], row[2]) for row in session.execute(_GIVEN, given)) if others else 1
    return WorkerTime(known_since, trained_seconds, is_taken, others, devices)


def change_lease(session: Conn, lease_id: UUID, columns: Mapping[str, Any]) -> None:
    session.execute(_CHANGE, {"lease_id": lease_id, **columns})


def change_lease_as_seen(session: Conn, seen: LeaseRow, columns: Mapping[str, Any]) -> bool:
    """Change a lease that is still as it was when it was read; returns whether it was."""
    before = {f"seen_{name}": getattr(seen, name) for name in ("state", "phase", "heartbeat_at", "progressed_at")}
    result = session.execute(_CHANGE_AS_SEEN, {"lease_id": seen.id, **before, **columns})
    return bool(cast("CursorResult[Any]", result).rowcount)


def store_heartbeats(session: Conn, heartbeats: Sequence[Mapping[str, Any]]) -> None:
    """Write heartbeats (keys: `_RENEW`'s parameters) to leases still in that phase that have heard nothing newer."""
    session.execute(_RENEW, heartbeats)


def find_context(session: Session, lease_id: UUID) -> tuple[Lease, str, ContextPack | None] | None:
    """A lease, its project's name, and what its agent got to read."""
    query = (
        select(Lease, Project.name, ContextPack)
        .join(Project, Project.id == Lease.project_id)
        .outerjoin(ContextPack, ContextPack.lease_id == Lease.id)
        .where(Lease.id == lease_id)
    )
    row = session.execute(query).one_or_none()
    return (row[0], row[1], row[2]) if row else None


def count_live_by_phase(session: Conn, project_id: int | None) -> list[tuple[str, int]]:
    """The numbers of live leases of a project, or of all."""
    query = select(Lease.phase, func.count()).where(Lease.is_live_at(now())).group_by(Lease.phase)
    is_one = Lease.project_id == project_id
    is_any = Lease.project_id.in_(select(Project.id))  # which lets the index of live leases answer
    rows = session.execute(query.where(is_any if project_id is None else is_one))
    return [(phase, count) for phase, count in rows]


class LeaseFilters(NamedTuple):
    """The filters of a list of live leases; None means no filter. `since` and `until` are about when they were given,
    `axis` about the proposal, as its agent wrote it."""

    kind: JobKind | None = None
    phase: Phase | None = None
    branch: str | None = None
    hardware_class: str | None = None
    worker: str | None = None
    volunteer: str | None = None
    axis: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def narrow(self, query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
        for column, value in (
            (Lease.kind, self.kind), (Lease.phase, self.phase), (Branch.name, self.branch),
            (Lease.hardware_class, self.hardware_class), (Volunteer.name, self.volunteer),
            (Lease.proposal["axis"].as_string(), self.axis),
        ):  # fmt: skip
            query = query if value is None else query.where(column == value)
        if self.worker is not None:
            query = query.where(or_(Worker.name == self.worker, literal(self.worker) == WORKER_NAME))
        if self.since is not None:
            query = query.where(Lease.issued_at >= self.since)
        if self.until is not None:
            query = query.where(Lease.issued_at < self.until)
        return query


def list_live_leases(
    session: Session, project_id: int, limit: int, filters: LeaseFilters, *, latest: bool = False
) -> list[LiveLease]:
    """The live leases with their workers, those heard of longest ago first, or last."""
    # Of one state an index gives them in order. By `issued_at` SQLite would go through all leases ever given.
    order = Lease.expires_at.desc() if latest else Lease.expires_at
    query = (
        select(Lease, Worker, WORKER_NAME, Branch.name)
        .join(Worker, Worker.id == Lease.worker_id)
        .join(Volunteer, Volunteer.id == Worker.volunteer_id)
        .join(Branch, Branch.id == Lease.branch_id)
        .where(Lease.project_id == project_id, Lease.state == bindparam("of_state"), Lease.expires_at > now())
        .order_by(order)
        .limit(limit)
    )
    query = filters.narrow(query)
    found: list[LiveLease] = []
    for state in LIVE_STATES:
        found += (
            (lease, worker, name, branch) for lease, worker, name, branch in session.execute(query, {"of_state": state})
        )
    found.sort(key=lambda row: row[0].expires_at, reverse=latest)
    return found[:limit]


def count_live_leases_by_project(session: Conn) -> dict[int, int]:
    return dict(session.execute(_LIVE_BY_PROJECT, {"moment": now()}).all())
