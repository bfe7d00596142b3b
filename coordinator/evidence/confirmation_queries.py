"""Questions about confirmation runs, who may make them, and what was let out of sealed windows."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, and_, bindparam, case, func, insert, literal, or_, select
from sqlalchemy.orm import Session

from coordinator.db.engine import Conn
from coordinator.evidence.agreement import TrustHistory, Vouching
from coordinator.evidence.calibration_queries import ANCHOR_ABSENT_AFTER
from coordinator.evidence.confirmation import Tries
from coordinator.models import (
    Calibration,
    CommitPosterior,
    Experiment,
    HoldoutCheck,
    Lease,
    Run,
    TrustAgreement,
    TrustRecord,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.base import is_of_class
from shared.experiments import JobKind, Standing
from shared.protocol import now
from shared.records import Trust

_RUNS, _WORKERS, _LEASES, _POSTERIORS = map(table_of, (Run, Worker, Lease, CommitPosterior))
_CALIBRATIONS, _RECORDS, _AGREEMENTS = map(table_of, (Calibration, TrustRecord, TrustAgreement))
_VOLUNTEERS, _EXPERIMENTS, _CHECKS = map(table_of, (Volunteer, Experiment, HoldoutCheck))
_OF_CLASS: dict[str, BindParameter[Any]] = {
    "project_id": bindparam("project_id"),
    "hardware_class": bindparam("hardware_class"),
}
_SHAS: BindParameter[Any] = bindparam("shas", expanding=True)
_IS_CONFIRM_LEASE = _LEASES.c.kind == literal(JobKind.CONFIRM.value, literal_execute=True)  # so that its index is used
_RECORD = (
    select(_POSTERIORS.c.commit_sha)
    .where(
        *(_POSTERIORS.c[name] == value for name, value in _OF_CLASS.items()),
        _POSTERIORS.c.standing == Standing.VERIFIED,
    )
    .order_by(_POSTERIORS.c.rank_score, _POSTERIORS.c.commit_sha)
    .limit(1)
)
_AUTHORS = (
    select(_EXPERIMENTS.c.commit_sha, _WORKERS.c.volunteer_id)
    .join(_WORKERS, _WORKERS.c.id == _EXPERIMENTS.c.worker_id)
    .where(_EXPERIMENTS.c.commit_sha.in_(_SHAS))
)
_AT_WORK = (
    select(
        _WORKERS.c.volunteer_id,
        func.max(case((_WORKERS.c.is_anchor, 1), else_=0)),
        func.max(func.coalesce(_RECORDS.c.agreements, 0)),
        func.max(func.coalesce(_RECORDS.c.contradictions, 0)),
    )
    .join(_CALIBRATIONS, _CALIBRATIONS.c.worker_id == _WORKERS.c.id)
    .join(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id)
    .outerjoin(
        _RECORDS,
        and_(
            _RECORDS.c.project_id == _CALIBRATIONS.c.project_id, _RECORDS.c.volunteer_id == _CALIBRATIONS.c.volunteer_id
        ),
    )
    .where(
        *(_CALIBRATIONS.c[name] == value for name, value in _OF_CLASS.items()),
        or_(_CALIBRATIONS.c.updated_at > bindparam("since"), _WORKERS.c.volunteer_id == bindparam("volunteer_id")),
        _WORKERS.c.quarantine.is_(None),
        _VOLUNTEERS.c.quarantine.is_(None),
    )
    .group_by(_WORKERS.c.volunteer_id)
)
_VOUCHING = (
    select(
        _AGREEMENTS.c.volunteer_id,
        func.count(case((_AGREEMENTS.c.is_by_anchor, _AGREEMENTS.c.commit_sha)).distinct()),
        func.count(_AGREEMENTS.c.commit_sha.distinct()),
        func.count(_AGREEMENTS.c.by_volunteer_id.distinct()),
        func.min(_AGREEMENTS.c.agreed_at),
        func.max(_AGREEMENTS.c.agreed_at),
    )
    .where(*(_AGREEMENTS.c[name] == value for name, value in _OF_CLASS.items()))
    .group_by(_AGREEMENTS.c.volunteer_id)
)
_ADD_CHECK = insert(_CHECKS)


def map_tries(session: Conn, shas: Sequence[str], hardware_class: str) -> dict[tuple[str, int], Tries]:
    """The leases to confirm commits in a class, by commit and volunteer."""
    live = func.sum(case((Lease.is_live_at(now()), 1), else_=0))
    query = (
        select(_LEASES.c.base_sha, _WORKERS.c.volunteer_id, func.count(), live)
        .join(_WORKERS, _WORKERS.c.id == _LEASES.c.worker_id)
        .where(_LEASES.c.base_sha.in_(shas), _LEASES.c.hardware_class == hardware_class, _IS_CONFIRM_LEASE)
        .group_by(_LEASES.c.base_sha, _WORKERS.c.volunteer_id)
    )
    return {(sha, volunteer): Tries(given, live) for sha, volunteer, given, live in session.execute(query)}


def list_confirmed(session: Conn, project_id: int) -> set[tuple[str, str]]:
    """The commits of a project that have confirmation runs, each with the class."""
    given = select(_LEASES.c.base_sha, _LEASES.c.hardware_class).where(
        _LEASES.c.project_id == project_id, _IS_CONFIRM_LEASE
    )
    return {(sha, hardware_class) for sha, hardware_class in session.execute(given.distinct())}


def find_record(session: Conn, project_id: int, hardware_class: str) -> str | None:
    """The best verified commit of a class."""
    return session.scalar(_RECORD, {"project_id": project_id, "hardware_class": hardware_class})


def map_authors(session: Conn, shas: Sequence[str]) -> dict[str, int]:
    """The volunteers whose workers made commits; nobody made the seed."""
    return {row[0]: row[1] for row in session.execute(_AUTHORS, {"shas": list(shas)}).all()}


def list_trusted(session: Conn, project_id: int, hardware_class: str, volunteer_id: int) -> set[int]:
    """The volunteers with an anchor, or who are vouched, that measured in the class within a day. The volunteer who
    asks need not have."""
    given: dict[str, Any] = {"project_id": project_id, "hardware_class": hardware_class}
    vouched = {row[0] for row in session.execute(_VOUCHING, given).all() if Vouching._make(row[1:]).is_enough}
    given |= {"since": now() - ANCHOR_ABSENT_AFTER, "volunteer_id": volunteer_id}
    return {
        by
        for by, is_anchor, agreements, contradictions in session.execute(_AT_WORK, given).all()
        if TrustHistory(agreements, contradictions).trust(is_anchor=bool(is_anchor), is_vouched=by in vouched)
        in (Trust.ANCHOR, Trust.VOUCHED)
    }


def list_checks(session: Session, project_id: int, hardware_class: str) -> Sequence[HoldoutCheck]:
    """The ladder's answers in a class, the first first."""
    query = select(HoldoutCheck).where(is_of_class(HoldoutCheck, project_id, hardware_class))
    return session.scalars(query.order_by(HoldoutCheck.created_at, HoldoutCheck.commit_sha)).all()


def add_check(session: Conn, columns: Mapping[str, Any]) -> None:
    session.execute(_ADD_CHECK, columns)
