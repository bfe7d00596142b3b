"""Volunteers' trust histories, and the replications that results need because of them.

A measurement is judged when it comes, by the offsets of its epoch; unlike posteriors, histories are not derived again.
"""

from sqlalchemy import bindparam, delete, insert, select, text
from sqlalchemy.orm import Session

from coordinator.events import service as events
from coordinator.evidence import agreement, queries
from coordinator.evidence.calibration_queries import EpochRow, WorkerEvidence
from coordinator.evidence.epochs import RunOrigin
from coordinator.evidence.posteriors import DerivedPosterior, find_ancestor
from coordinator.evidence.statistics import MAX_RUNS, Measurement, Normal
from coordinator.lineage.commits import get_commit
from coordinator.models import DueReplication, Volunteer, table_of
from coordinator.models.base import UtcDateTime
from shared.contract import Contract
from shared.events import EventKind
from shared.experiments import Standing
from shared.protocol import now
from shared.records import Trust
from shared.runs import RunReport

MAX_DUE = 8

_DUE = table_of(DueReplication)
_ADD_TO_HISTORY = text(
    "INSERT INTO trust_records "
    "(project_id, volunteer_id, agreements, contradictions, claims, replications_due, updated_at) "
    "VALUES (:project_id, :volunteer_id, :agreements, :contradictions, :claims, :due, :moment) "
    "ON CONFLICT (project_id, volunteer_id) DO UPDATE SET "
    "agreements = trust_records.agreements * (1 - :contradictions) + :agreements, "
    "contradictions = trust_records.contradictions + :contradictions, claims = trust_records.claims + :claims, "
    "replications_due = trust_records.replications_due + :due, updated_at = :moment"
).bindparams(bindparam("moment", type_=UtcDateTime()))
"""A contradiction begins the count of agreements anew."""

_ADD_DUE = insert(_DUE)
_REMOVE_DUE = delete(_DUE).where(
    _DUE.c.commit_sha == bindparam("sha"), _DUE.c.hardware_class == bindparam("hardware_class")
)
_LIST_DUE = (
    select(_DUE.c.commit_sha)
    .where(
        _DUE.c.project_id == bindparam("project_id"),
        _DUE.c.hardware_class == bindparam("hardware_class"),
        _DUE.c.volunteer_id != bindparam("volunteer_id"),
    )
    .order_by(_DUE.c.created_at, _DUE.c.commit_sha)
    .limit(MAX_DUE)
)


def record_run(
    session: Session, contract: Contract, epoch: EpochRow, origin: RunOrigin, worker: WorkerEvidence, report: RunReport
) -> Trust:
    """Compare a run that is about to be stored with those of its commit; returns what its worker is worth now."""
    record = worker.record
    if origin.kind.makes_experiment or worker.is_quarantined or report.metric is None:
        return record.trust(is_anchor=worker.is_anchor)
    unknown = Normal(0.0, contract.evidence.typical_offset_sd)
    runs = queries.map_measurements(session, [report.commit_sha], epoch.hardware_class, unknown)
    measured = Measurement(
        report.metric, origin.worker_id, worker.volunteer_id, False, unknown if worker.offset is None else worker.offset
    )
    known = runs.get(report.commit_sha, [])
    ancestor = find_ancestor(session, get_commit(session, report.commit_sha), epoch.hardware_class)
    expected = ancestor.expect(contract.evidence.effect_sd) if ancestor else None
    outcome = agreement.compare([*known, measured], epoch.noise_sd, expected)
    judged = {run.volunteer_id: outcome.author_agrees for run in known if run.is_authors}
    judged[worker.volunteer_id] = outcome.checker_agrees
    for volunteer_id, agrees in sorted(judged.items()):  # in one order, so that transactions do not lock each other out
        if agrees is not None:
            _record_outcome(session, origin.project_id, volunteer_id, report, agrees=agrees)
    return record.after(outcome.checker_agrees).trust(is_anchor=worker.is_anchor)


def _record_outcome(session: Session, project_id: int, volunteer_id: int, report: RunReport, *, agrees: bool) -> None:
    counted = {"agreements": int(agrees), "contradictions": int(not agrees), "claims": 0, "due": 0}
    key = {"project_id": project_id, "volunteer_id": volunteer_id}
    session.execute(_ADD_TO_HISTORY, key | counted | {"moment": now()})
    if not agrees:
        name = session.get_one(Volunteer, volunteer_id).name
        events.record(
            session, EventKind.RESULT_CONTRADICTED, project_id, volunteer=name, commit=report.commit_sha,
            run=str(report.id),
        )  # fmt: skip


def record_claim(
    session: Session, contract: Contract, origin: RunOrigin, worker: WorkerEvidence, report: RunReport,
    derived: DerivedPosterior,
) -> None:  # fmt: skip
    """Ask for a replication of a new result that claims a gain, if its volunteer's trust demands one.

    A result that is held as too good is due in any case, unless only a maintainer can release it.
    """
    objective = contract.objective
    if derived.effect is None or objective.sign * derived.effect.mean > -objective.min_effect:
        return
    is_due = not derived.is_implausible and (worker.record.is_replication_due or _waits_for_others(derived))
    key = {"project_id": origin.project_id, "volunteer_id": worker.volunteer_id}
    counted = {"agreements": 0, "contradictions": 0, "claims": 1, "due": int(is_due)}
    session.execute(_ADD_TO_HISTORY, key | counted | {"moment": now()})
    if is_due:
        commit = {"commit_sha": report.commit_sha, "hardware_class": report.hardware.hardware_class}
        session.execute(_ADD_DUE, key | commit | {"created_at": now()})


def resolve_due(session: Session, report: RunReport, derived: DerivedPosterior | None) -> None:
    """Remove a replication that is done, failed ones included: a commit that nobody can run is not due for ever."""
    if report.metric is None or derived is None or not _waits_for_others(derived):
        given = {"sha": report.commit_sha, "hardware_class": report.hardware.hardware_class}
        session.execute(_REMOVE_DUE, given)


def _waits_for_others(derived: DerivedPosterior) -> bool:
    """Whether a held result is released by others: beyond the plausible floor only a maintainer can."""
    return derived.standing is Standing.HELD and not derived.is_implausible and derived.runs < MAX_RUNS


def list_due(session: Session, project_id: int, hardware_class: str, volunteer_id: int) -> list[str]:
    """Commits of other volunteers that are to be replicated in the class, the longest waiting first, at most 8."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "volunteer_id": volunteer_id}
    return list(session.scalars(_LIST_DUE, given))
