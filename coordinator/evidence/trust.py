"""Volunteers' trust histories, who is vouched, and the replications that results need because of them.

A measurement is judged when it comes, by the offsets of its epoch; unlike posteriors, histories are not derived again.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Boolean, and_, bindparam, delete, exists, insert, or_, select, text

from coordinator.db.engine import Conn
from coordinator.events import service as events
from coordinator.evidence import agreement, calibration_queries, queries
from coordinator.evidence.agreement import TrustHistory
from coordinator.evidence.calibration_queries import EpochRow, WorkerEvidence
from coordinator.evidence.epochs import RunOrigin
from coordinator.evidence.posteriors import DerivedPosterior, find_ancestor, make_model
from coordinator.evidence.statistics import MAX_RUNS, Measurement, list_checks
from coordinator.lineage.commits import get_commit
from coordinator.models import DueReplication, Run, TrustAgreement, TrustRecord, Volunteer, table_of
from coordinator.models.base import UtcDateTime, is_of_class, is_of_commit
from coordinator.workers.lookup import WorkerRow
from shared.contract import Contract
from shared.events import EventKind
from shared.experiments import Dispute, Standing
from shared.protocol import now
from shared.records import Trust
from shared.runs import RunReport

MAX_DUE = 8

_DUE, _AGREEMENTS, _RUNS = table_of(DueReplication), table_of(TrustAgreement), table_of(Run)
_VOLUNTEERS, _RECORDS = table_of(Volunteer), table_of(TrustRecord)
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

_ADD_AGREEMENT = text(
    "INSERT INTO trust_agreements "
    "(project_id, hardware_class, volunteer_id, commit_sha, by_volunteer_id, is_by_anchor, agreed_at) "
    "VALUES (:project_id, :hardware_class, :volunteer_id, :commit_sha, :by, :is_by_anchor, :moment) "
    "ON CONFLICT DO NOTHING"
).bindparams(bindparam("moment", type_=UtcDateTime()))
_REMOVE_AGREEMENTS = delete(_AGREEMENTS).where(
    _AGREEMENTS.c.project_id == bindparam("project_id"), _AGREEMENTS.c.volunteer_id == bindparam("volunteer_id")
)
_ADD_DUE = insert(_DUE)
_NAME = select(_VOLUNTEERS.c.name).where(_VOLUNTEERS.c.id == bindparam("volunteer_id"))
_REMOVE_DUE = delete(_DUE).where(is_of_commit(_DUE.c))
_MEASURED_IT = exists().where(
    is_of_commit(_RUNS.c, _DUE.c.commit_sha, _DUE.c.hardware_class), _RUNS.c.worker_id == bindparam("worker_id")
)
_LIST_DUE = (
    select(_DUE.c.commit_sha)
    .where(
        is_of_class(_DUE.c),
        _DUE.c.volunteer_id != bindparam("volunteer_id"),
        or_(~_DUE.c.for_anchors, and_(bindparam("is_anchor", type_=Boolean()), ~_MEASURED_IT)),
    )
    .order_by(_DUE.c.created_at, _DUE.c.commit_sha)
    .limit(MAX_DUE)
)


class RunTrust(NamedTuple):
    """The trust in a run's worker, and whether the run may verify its commit."""

    trust: Trust
    is_check: bool


def record_run(
    session: Conn, contract: Contract, epoch: EpochRow, origin: RunOrigin, worker: WorkerEvidence, report: RunReport
) -> RunTrust:
    """Compare a run that is about to be stored with those of its commit."""
    record, is_vouched = worker.record, worker.vouching.is_enough
    is_check = origin.is_check and not origin.kind.makes_experiment
    if not is_check or worker.is_quarantined or report.metric is None:
        is_check &= report.metric is not None or _may_say_it_fails(session, epoch, worker)
        return RunTrust(record.trust(is_anchor=worker.is_anchor, is_vouched=is_vouched), is_check)
    runs = queries.map_measurements(session, [report.commit_sha], epoch.hardware_class, contract)
    response = worker.response or epoch.find_unknown(contract)
    offset = response.offset_at(report.metric, epoch.shift(origin.seed_throughput, origin.pace))
    measured = Measurement(report.metric, origin.worker_id, worker.volunteer_id, False, offset)
    measured = measured._replace(is_placed=worker.response is not None)
    known = runs.get(report.commit_sha, [])
    if _waits_for_anchor(session, epoch, origin, worker, known):
        return RunTrust(record.trust(is_vouched=is_vouched), is_check=False)
    ancestor = find_ancestor(session, get_commit(session, report.commit_sha), epoch.hardware_class)
    prior = make_model(contract, epoch.noise_sd, epoch.effects).expect_of(known)
    expected = ancestor.expect(prior) if ancestor else None
    own_trust = record.trust(is_anchor=worker.is_anchor, is_vouched=is_vouched)
    outcome = agreement.compare([*known, measured._replace(trust=own_trust)], epoch.noise_sd, expected)
    judged = {run.volunteer_id: outcome.author_agrees for run in known if run.is_authors}
    judged[worker.volunteer_id] = outcome.checker_agrees
    together = [*known, measured._replace(trust=own_trust)]
    judged |= dict.fromkeys(agreement.find_contradicted(together, epoch.noise_sd), False)
    if worker.response is None:  # where its machine stands is not known yet, so that it contradicts nobody
        judged = {by: agrees or None for by, agrees in judged.items()}
    for volunteer_id, agrees in sorted(judged.items()):  # in one order, so that transactions do not lock each other out
        if agrees is not None:
            _record_outcome(session, origin.project_id, volunteer_id, report, agrees=agrees)
    if origin.experiment_id is not None:  # the seed calibrates: a new worker agrees with anybody there
        _vouch(session, epoch, report.commit_sha, together, {by for by, agrees in judged.items() if agrees is False})
    agrees = judged[worker.volunteer_id]
    is_vouched &= agrees is not False
    return RunTrust(record.after(agrees).trust(is_anchor=worker.is_anchor, is_vouched=is_vouched), is_check)


def _waits_for_anchor(
    session: Conn, epoch: EpochRow, origin: RunOrigin, worker: WorkerEvidence, known: Sequence[Measurement]
) -> bool:
    """Whether a commit has its check by others already, and only an anchor that is at work can make the next one.

    So no group of volunteers, however long it was honest, verifies anything past an anchor (decision 0028). What is in
    dispute others settle first, so that liars do not keep the anchor busy; verified it is by the anchor all the same.
    """
    if worker.is_anchor or origin.experiment_id is None:
        return False
    checks = list_checks(known)
    has_others = any(run.volunteer_id != worker.volunteer_id for run in checks)
    if not has_others or any(run.trust == Trust.ANCHOR for run in checks):
        return False
    if agreement.find_dispute(known, epoch.noise_sd, None) != Dispute.NONE:
        return False
    return calibration_queries.has_anchor_at_work(session, epoch.project_id, epoch.hardware_class)


def _may_say_it_fails(session: Conn, epoch: EpochRow, worker: WorkerEvidence) -> bool:
    """Whether a failed run by a worker counts against a commit. While an anchor is at work only anchors' do: two
    strangers could stop any result."""
    is_at_work = calibration_queries.has_anchor_at_work(session, epoch.project_id, epoch.hardware_class)
    return worker.is_anchor or not is_at_work


def _vouch(
    session: Conn, epoch: EpochRow, sha: str, measurements: Sequence[Measurement], contradicted: set[int]
) -> None:
    """Store with which anchors and vouched volunteers the commit's checkers agree, unless they are vouched already."""
    for volunteer_id, partners in agreement.find_partners(measurements, epoch.noise_sd).items():
        of_class = epoch.project_id, epoch.hardware_class
        vouching = calibration_queries.find_vouching(session, *of_class, volunteer_id)
        if volunteer_id in contradicted or vouching.is_enough:
            continue
        key = {"project_id": of_class[0], "hardware_class": of_class[1], "volunteer_id": volunteer_id}
        for by in sorted(partners):
            added = {"commit_sha": sha, "by": by.volunteer_id, "is_by_anchor": by.is_anchor, "moment": now()}
            session.execute(_ADD_AGREEMENT, key | added)


def _record_outcome(session: Conn, project_id: int, volunteer_id: int, report: RunReport, *, agrees: bool) -> None:
    counted = {"agreements": int(agrees), "contradictions": int(not agrees), "claims": 0, "due": 0}
    key = {"project_id": project_id, "volunteer_id": volunteer_id}
    session.execute(_ADD_TO_HISTORY, key | counted | {"moment": now()})
    if not agrees:
        session.execute(_REMOVE_AGREEMENTS, key)
        name = session.scalar(_NAME, {"volunteer_id": volunteer_id})
        events.record(
            session, EventKind.RESULT_CONTRADICTED, project_id, volunteer=name, commit=report.commit_sha,
            run=str(report.id),
        )  # fmt: skip


def record_claim(
    session: Conn, contract: Contract, origin: RunOrigin, worker: WorkerEvidence, report: RunReport,
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


def resolve_due(session: Conn, report: RunReport, derived: DerivedPosterior | None) -> None:
    """Remove a replication that is done, failed ones included: a commit that nobody can run is not due for ever."""
    failed = report.metric is None and not (derived and derived.awaits_anchors)
    if failed or derived is None or not _waits_for_others(derived):
        given = {"sha": report.commit_sha, "hardware_class": report.hardware.hardware_class}
        session.execute(_REMOVE_DUE, given)


def _waits_for_others(derived: DerivedPosterior) -> bool:
    """Whether a held result is released by others: beyond the plausible floor only a maintainer can."""
    is_theirs = not derived.is_implausible and derived.runs < MAX_RUNS
    return derived.awaits_anchors or (derived.standing == Standing.HELD and is_theirs)


def is_doubted(session: Conn, project_id: int, volunteer_id: int) -> bool:
    """Whether a volunteer was contradicted of late. While an anchor works it checks what the anchor measured, by which
    it is trusted again, and cannot hold up or dispute anything else."""
    query = select(_RECORDS.c.agreements, _RECORDS.c.contradictions)
    is_its = _RECORDS.c.project_id == project_id, _RECORDS.c.volunteer_id == volunteer_id
    row = session.execute(query.where(*is_its)).first()
    return row is not None and TrustHistory(*row).trust() == Trust.DOUBTED


def list_due(session: Conn, project_id: int, hardware_class: str, worker: WorkerRow, *, is_anchor: bool) -> list[str]:
    """Commits of other volunteers that a worker may replicate in the class, the longest waiting first, at most 8. What
    waits for anchors is listed to each of them once."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "volunteer_id": worker.volunteer_id}
    given |= {"worker_id": worker.id, "is_anchor": is_anchor}
    return list(session.scalars(_LIST_DUE, given))
