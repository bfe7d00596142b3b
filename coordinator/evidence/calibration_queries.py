"""Questions about a hardware class as a whole: its epoch, its workers' calibrations, all its runs."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, bindparam, case, exists, func, insert, or_, select, text, true, tuple_, update

from coordinator.db.engine import Conn
from coordinator.evidence.agreement import TrustHistory, Vouching
from coordinator.evidence.offsets import SharedRun
from coordinator.evidence.statistics import RESPONSE_COLUMNS, Normal, Response, read_response
from coordinator.evidence.throughput import expose
from coordinator.lineage.commits import COMMIT_ROWS, CommitRow, get_commit
from coordinator.models import (
    Calibration,
    Commit,
    CommitPosterior,
    EvidenceEpoch,
    HeldDecision,
    PastOffset,
    Run,
    TrustAgreement,
    TrustRecord,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.accounts import IS_ANCHOR
from coordinator.models.base import UtcDateTime, is_of_class, is_of_commit, is_of_same_class
from coordinator.models.evidence import FAILING
from coordinator.models.experiments import IS_MEASUREMENT
from shared.contract import Contract
from shared.experiments import HeldDecisionKind, JobKind
from shared.protocol import now
from shared.records import Trust

_RUNS, _POSTERIORS, _WORKERS = table_of(Run), table_of(CommitPosterior), table_of(Worker)
_EPOCHS, _CALIBRATIONS, _RECORDS = table_of(EvidenceEpoch), table_of(Calibration), table_of(TrustRecord)
_DECISIONS, _PAST_OFFSETS = table_of(HeldDecision), table_of(PastOffset)
_IS_REJECTED = exists().where(
    is_of_commit(_DECISIONS.c, _RUNS.c.commit_sha, _RUNS.c.hardware_class),
    _DECISIONS.c.decision == HeldDecisionKind.REJECT,
)
_TEACHES = and_(IS_MEASUREMENT, ~_IS_REJECTED)
"""That a run may tell of its class: what a maintainer rejected tells of nothing."""


class EpochRow(NamedTuple):
    """The frozen estimates of a class, as `EvidenceEpoch` stores them."""

    project_id: int
    hardware_class: str
    number: int
    noise_sd: float
    through_run_id: int
    runs: int
    rules: int
    disputed_noise_sd: float | None
    seed_throughput: float | None
    effects: dict[str, list[float]] | None
    offset_sd: float | None
    gain_sd: float | None
    throughput_slope: float | None
    centre: float | None
    ended_at: datetime | None
    underived_sha: str | None
    again_sha: str | None

    @property
    def is_settled(self) -> bool:
        """Whether the class's numbers follow from its runs: nothing waits to be derived again in the background."""
        return self.ended_at is None and self.underived_sha is None

    def is_as(self, other: "EpochRow") -> bool:
        """Whether what was estimated for one holds for the other: how far posteriors are derived changes nothing."""
        return self._replace(underived_sha=other.underived_sha, again_sha=other.again_sha) == other

    def find_unknown(self, contract: Contract) -> Response:
        """The response of a worker that is not calibrated."""
        return find_unknown(contract, self.offset_sd, self.gain_sd, self.centre)

    def shift(self, throughput: float | None, pace: float) -> float:
        """How much of a run's value is due to its budget in tokens of the seed."""
        return (self.throughput_slope or 0.0) * expose(self.seed_throughput, throughput, pace)


def find_unknown(contract: Contract, offset_sd: float | None, gain_sd: float | None, centre: float | None) -> Response:
    """The response of a worker that is not calibrated, in a class with these estimates."""
    offset = Normal(0.0, offset_sd or contract.evidence.typical_offset_sd)
    return Response(offset, Normal(0.0, gain_sd or 0.0), centre or 0.0)


class WorkerEvidence(NamedTuple):
    """A worker with its calibration in a class and its volunteer's trust; quarantine is either's."""

    volunteer_id: int
    is_quarantined: bool
    is_anchor: bool
    is_new: bool
    offset_mean: float | None
    offset_sd: float | None
    gain_mean: float | None
    gain_sd: float | None
    pivot: float | None
    jobs_done: int
    seed_measured: int
    seed_failed: int
    failures_in_row: int
    agreements: int
    contradictions: int
    claims: int
    replications_due: int
    vouching: Vouching

    @property
    def response(self) -> Response | None:
        """None until it is calibrated."""
        return read_response(self.offset_mean, self.offset_sd, self.gain_mean, self.gain_sd, self.pivot)

    @property
    def record(self) -> TrustHistory:
        return TrustHistory(self.agreements, self.contradictions, self.claims, self.replications_due)


_COMMITS, _VOLUNTEERS, _AGREEMENTS = table_of(Commit), table_of(Volunteer), table_of(TrustAgreement)
_VOUCHING = select(
    func.count(case((_AGREEMENTS.c.is_by_anchor, _AGREEMENTS.c.commit_sha)).distinct()).label("anchored"),
    func.count(_AGREEMENTS.c.commit_sha.distinct()).label("commits"),
    func.count(_AGREEMENTS.c.by_volunteer_id.distinct()).label("partners"),
    func.min(_AGREEMENTS.c.agreed_at).label("first_at"),
    func.max(_AGREEMENTS.c.agreed_at).label("last_at"),
).where(is_of_class(_AGREEMENTS.c))
_VOUCHING_OF = _VOUCHING.where(_AGREEMENTS.c.volunteer_id == bindparam("volunteer_id"))
_OWNER = select(_WORKERS.c.volunteer_id).where(_WORKERS.c.id == bindparam("worker_id")).scalar_subquery()
_OWN_VOUCHING = _VOUCHING.where(_AGREEMENTS.c.volunteer_id == _OWNER).subquery()
_IS_QUARANTINED = or_(_WORKERS.c.quarantine.is_not(None), _VOLUNTEERS.c.quarantine.is_not(None))
_IN_CLASS = _EPOCHS.c.project_id == bindparam("project_id"), _EPOCHS.c.hardware_class == bindparam("hardware_class")
_EPOCH = select(*(_EPOCHS.c[name] for name in EpochRow._fields)).where(*_IN_CLASS)
_LOCK_EPOCH = _EPOCH.with_for_update(key_share=True)
_ADD_EPOCH = text(
    "INSERT INTO evidence_epochs "
    "(project_id, hardware_class, number, noise_sd, through_run_id, runs, rules, started_at) "
    "VALUES (:project_id, :hardware_class, 0, :noise_sd, 0, 0, :rules, :moment) ON CONFLICT DO NOTHING"
).bindparams(bindparam("moment", type_=UtcDateTime()))
_WORKER = (
    select(
        _WORKERS.c.volunteer_id,
        _IS_QUARANTINED,
        _WORKERS.c.is_anchor,
        _CALIBRATIONS.c.worker_id.is_(None),
        _CALIBRATIONS.c.offset_mean,
        *(_CALIBRATIONS.c[name] for name in RESPONSE_COLUMNS[1:]),
        *(func.coalesce(_CALIBRATIONS.c[name], 0) for name in WorkerEvidence._fields[9:13]),
        *(func.coalesce(_RECORDS.c[name], 0) for name in WorkerEvidence._fields[13:17]),
        *_OWN_VOUCHING.c,
    )
    .join(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id)
    .join(_OWN_VOUCHING, true())
    .outerjoin(_CALIBRATIONS, and_(_CALIBRATIONS.c.worker_id == _WORKERS.c.id, is_of_class(_CALIBRATIONS.c)))
    .outerjoin(
        _RECORDS,
        and_(_RECORDS.c.volunteer_id == _WORKERS.c.volunteer_id, _RECORDS.c.project_id == bindparam("project_id")),
    )
    .where(_WORKERS.c.id == bindparam("worker_id"))
)
_ADD_CALIBRATION = insert(_CALIBRATIONS)
_CHANGE_CALIBRATION = update(_CALIBRATIONS).where(
    is_of_class(_CALIBRATIONS.c, bindparam("of_project_id"), bindparam("of_hardware_class")),
    _CALIBRATIONS.c.worker_id == bindparam("of_worker_id"),
)


def lock_epoch(session: Conn, project_id: int, hardware_class: str) -> EpochRow | None:
    """The class's epoch, locked until the transaction ends; SQLite has one writer anyway."""
    row = session.execute(_LOCK_EPOCH, {"project_id": project_id, "hardware_class": hardware_class}).first()
    return EpochRow._make(row) if row else None


def add_epoch(session: Conn, project_id: int, hardware_class: str, noise_sd: float, rules: int) -> None:
    """Begin epoch 0, unless another transaction just did."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "noise_sd": noise_sd, "moment": now()}
    session.execute(_ADD_EPOCH, given | {"rules": rules})


def change_epoch(session: Conn, epoch: EpochRow, **columns: Any) -> None:
    is_epoch = _EPOCHS.c.project_id == epoch.project_id, _EPOCHS.c.hardware_class == epoch.hardware_class
    session.execute(update(_EPOCHS).where(*is_epoch).values(**columns))


def add_past_offsets(session: Conn, epoch: EpochRow, responses: Mapping[int, Response]) -> None:
    """Keep workers' offsets of the epoch after this one, which is about to begin."""
    key = {"project_id": epoch.project_id, "hardware_class": epoch.hardware_class, "epoch": epoch.number + 1}
    rows = [
        key | {"worker_id": worker_id, "offset_mean": one.offset.mean, "offset_sd": one.offset.sd, "started_at": now()}
        for worker_id, one in responses.items()
    ]
    if rows:
        session.execute(insert(_PAST_OFFSETS), rows)


def find_worker(session: Conn, project_id: int, hardware_class: str, worker_id: int) -> WorkerEvidence:
    """A worker that is registered; `is_new` if the class has not seen it."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "worker_id": worker_id}
    row = session.execute(_WORKER, given).first()
    assert row is not None, "the worker is known"
    return WorkerEvidence._make([*row[:17], Vouching._make(row[17:])])


def find_vouching(session: Conn, project_id: int, hardware_class: str, volunteer_id: int) -> Vouching:
    """A volunteer's vouching in a class."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "volunteer_id": volunteer_id}
    return Vouching._make(session.execute(_VOUCHING_OF, given).one())


ANCHOR_ABSENT_AFTER = timedelta(days=1)
"""An anchor that delivered nothing for so long is not waited for."""

_ANCHOR_AT_WORK = (
    select(_CALIBRATIONS.c.worker_id)
    .join(_WORKERS, _WORKERS.c.id == _CALIBRATIONS.c.worker_id)
    .join(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id)
    .where(
        is_of_class(_CALIBRATIONS.c),
        _CALIBRATIONS.c.worker_id.in_(select(_WORKERS.c.id).where(IS_ANCHOR)),  # few of many workers
        _CALIBRATIONS.c.updated_at > bindparam("since"),
        _CALIBRATIONS.c.failures_in_row < FAILING,  # else the seed may not run on it at all
        ~_IS_QUARANTINED,
    )
    .limit(1)
)


def has_anchor_at_work(session: Conn, project_id: int, hardware_class: str) -> bool:
    """Whether an anchor that is not in quarantine measured in the class within a day, and its runs succeed."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "since": now() - ANCHOR_ABSENT_AFTER}
    return session.scalar(_ANCHOR_AT_WORK, given) is not None


def add_calibration(session: Conn, columns: Mapping[str, Any]) -> None:
    session.execute(_ADD_CALIBRATION, columns)


def change_calibration(session: Conn, key: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    session.execute(_CHANGE_CALIBRATION, {f"of_{name}": value for name, value in key.items()} | dict(columns))


def forget_offsets(session: Conn, project_id: int, hardware_class: str) -> None:
    query = update(_CALIBRATIONS).where(is_of_class(_CALIBRATIONS.c, project_id, hardware_class))
    session.execute(query.values(dict.fromkeys([*RESPONSE_COLUMNS, "through_run_id"])))


def map_responses(session: Conn, project_id: int, hardware_class: str) -> dict[int, Response]:
    """Responses by worker."""
    return _read_responses(session, _select_responses(project_id, hardware_class))


def map_earlier_responses(
    session: Conn, epoch: EpochRow, workers: Collection[int], before_run_id: int
) -> dict[int, Response]:
    """Those of these workers that were estimated before a run. Where there is none, another worker's, if any."""
    earlier = _select_responses(epoch.project_id, epoch.hardware_class).where(
        _CALIBRATIONS.c.through_run_id < before_run_id
    )
    of_these = earlier.where(_CALIBRATIONS.c.worker_id.in_(workers))
    return _read_responses(session, of_these) or _read_responses(session, earlier.limit(1))


def is_any_calibrated(session: Conn, epoch: EpochRow) -> bool:
    """Whether any worker of an epoch's class has a response."""
    return session.execute(_select_responses(epoch.project_id, epoch.hardware_class).limit(1)).first() is not None


def _select_responses(project_id: int, hardware_class: str) -> Select[*tuple[Any, ...]]:
    columns = (_CALIBRATIONS.c[name] for name in RESPONSE_COLUMNS)
    return select(_CALIBRATIONS.c.worker_id, *columns).where(
        is_of_class(_CALIBRATIONS.c, project_id, hardware_class), _CALIBRATIONS.c.offset_mean.is_not(None)
    )


def _read_responses(session: Conn, query: Select[*tuple[Any, ...]]) -> dict[int, Response]:
    found = {worker_id: read_response(*columns) for worker_id, *columns in session.execute(query)}
    return {worker_id: response for worker_id, response in found.items() if response is not None}


def list_measured(
    session: Conn, epoch: EpochRow, sha: str | None = None, through_run_id: int | None = None
) -> list[SharedRun]:
    """Runs of an epoch's class that count, of one commit if it is named, up to a run if it is named."""
    query = (
        select(
            *(_RUNS.c[name] for name in ("commit_sha", "worker_id", "metric", "kind", "id", "seed_throughput", "pace")),
            _RUNS.c.trust,
            _WORKERS.c.volunteer_id,
        )
        .join(_WORKERS, _WORKERS.c.id == _RUNS.c.worker_id)
        .where(_TEACHES)
    )
    if sha is None:
        query = query.where(is_of_same_class(_RUNS.c, epoch))
    else:  # it is of one project: with that as a condition, SQLite would go through all runs of the class
        query = query.where(is_of_commit(_RUNS.c, sha, epoch.hardware_class))
    if through_run_id is not None:
        query = query.where(_RUNS.c.id <= through_run_id)
    found = []
    for sha_, worker_id, metric, kind, run_id, throughput, pace, trust, volunteer_id in map(
        tuple, session.execute(query.order_by(_RUNS.c.id))
    ):
        exposure = expose(epoch.seed_throughput, throughput, pace)
        makes = JobKind(kind).makes_experiment
        found.append(SharedRun(sha_, worker_id, metric, makes, run_id, volunteer_id, exposure, Trust(trust)))
    return found


def list_unplaced_checkers(session: Conn, epoch: EpochRow, sha: str) -> list[int]:
    """The workers that checked a commit in an epoch's class and are not calibrated yet."""
    query = (
        select(_CALIBRATIONS.c.worker_id)
        .join(_RUNS, and_(_RUNS.c.worker_id == _CALIBRATIONS.c.worker_id, is_of_same_class(_RUNS.c, _CALIBRATIONS.c)))
        .where(is_of_commit(_RUNS.c, sha, epoch.hardware_class), IS_MEASUREMENT, _RUNS.c.is_check)
        .where(is_of_same_class(_CALIBRATIONS.c, epoch), _CALIBRATIONS.c.offset_mean.is_(None))
    )
    return sorted(set(session.scalars(query)))


def list_throughputs(session: Conn, project_id: int, hardware_class: str) -> list[tuple[int, float]]:
    """The seed's throughput on a class's workers not in quarantine, by volunteer; on anchors alone, if any."""
    query = (
        select(_CALIBRATIONS.c.volunteer_id, _CALIBRATIONS.c.seed_throughput, _WORKERS.c.is_anchor)
        .join(_WORKERS, _WORKERS.c.id == _CALIBRATIONS.c.worker_id)
        .join(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id)
        .where(is_of_class(_CALIBRATIONS.c, project_id, hardware_class))
        .where(_CALIBRATIONS.c.seed_throughput.is_not(None), ~_IS_QUARANTINED)
    )
    rows = session.execute(query).all()
    of_anchors = [row for row in rows if row.is_anchor]
    return [(volunteer_id, throughput) for volunteer_id, throughput, _ in of_anchors or rows]


MAX_LEARNT = 4_000
"""Number of newest experiments of a class from which priors of effects are learnt."""


def list_experimented(session: Conn, project_id: int, hardware_class: str, through_run_id: int) -> list[CommitRow]:
    """The commits of a class's newest experiments up to a run, and their parents, from the root downwards."""
    makes = [kind for kind in JobKind if kind.makes_experiment]
    newest = (
        select(_RUNS.c.commit_sha)
        .where(is_of_class(_RUNS.c, project_id, hardware_class), _TEACHES)
        .where(_RUNS.c.id <= through_run_id, _RUNS.c.kind.in_(makes))
        .order_by(_RUNS.c.id.desc())
        .limit(MAX_LEARNT)
        .subquery()
    )
    own = select(newest.c.commit_sha)
    parents = select(_COMMITS.c.parent_sha).where(_COMMITS.c.sha.in_(own))
    query = COMMIT_ROWS.where(or_(_COMMITS.c.sha.in_(own), _COMMITS.c.sha.in_(parents)))
    return list(map(CommitRow._make, session.execute(query.order_by(_COMMITS.c.depth, _COMMITS.c.sha))))


def list_commits_of_worker(session: Conn, worker_id: int, hardware_class: str) -> list[str]:
    """Commits that the worker measured in the class."""
    query = select(_RUNS.c.commit_sha).where(
        _RUNS.c.worker_id == worker_id, _RUNS.c.hardware_class == hardware_class, IS_MEASUREMENT
    )
    return list(session.scalars(query.distinct()))


def list_classes(session: Conn) -> list[tuple[int, str]]:
    """Projects, by id, with the hardware classes in which workers are known."""
    query = select(_CALIBRATIONS.c.project_id, _CALIBRATIONS.c.hardware_class).distinct()
    return [(project_id, name) for project_id, name in session.execute(query.order_by(*query.selected_columns))]


def count_runs_since(session: Conn, epoch: EpochRow) -> int:
    """Runs of the class that came after its epoch began."""
    query = select(func.count()).where(is_of_same_class(_RUNS.c, epoch), _RUNS.c.id > epoch.through_run_id)
    return session.scalar(query) or 0


def list_generations(
    session: Conn, project_id: int, hardware_class: str, first: CommitRow | None = None, limit: int | None = None
) -> list[list[CommitRow]]:
    """Commits that have a run or a posterior in the class, by depth, from the root or from the one that is `first`
    downwards, `limit` in all."""
    ran = exists().where(is_of_commit(_RUNS.c, _COMMITS.c.sha, hardware_class))
    judged = exists().where(is_of_commit(_POSTERIORS.c, _COMMITS.c.sha, hardware_class))
    query = COMMIT_ROWS.where(_COMMITS.c.project_id == project_id, or_(ran, judged)).limit(limit)
    if first is not None:
        query = query.where(tuple_(_COMMITS.c.depth, _COMMITS.c.sha) >= (first.depth, first.sha))
    rows = map(CommitRow._make, session.execute(query.order_by(_COMMITS.c.depth, _COMMITS.c.sha)))
    return [list(generation) for _, generation in groupby(rows, key=lambda row: row.depth)]


def list_unsettled(session: Conn) -> list[EpochRow]:
    """The epochs of classes that are to be derived again in the background, the one that ended first before others."""
    is_due = or_(_EPOCHS.c.ended_at.is_not(None), _EPOCHS.c.underived_sha.is_not(None))
    query = select(*(_EPOCHS.c[name] for name in EpochRow._fields)).where(is_due).order_by(_EPOCHS.c.ended_at)
    return list(map(EpochRow._make, session.execute(query)))


def derive_later(session: Conn, first: CommitRow, hardware_class: str) -> None:
    """Have posteriors of a class derived in the background, from a commit downwards. Where that is further down, it
    first comes to the end: else results near the root would keep it from ever getting there."""
    epoch = find_epoch(session, first.project_id, hardware_class)
    assert epoch is not None, "the class has a run"
    if epoch.underived_sha is None:
        change_epoch(session, epoch, underived_sha=first.sha)
        return
    marks = epoch.underived_sha, epoch.again_sha
    if all(_is_above(first, get_commit(session, sha)) for sha in marks if sha is not None):
        change_epoch(session, epoch, again_sha=first.sha)


def _is_above(one: CommitRow, other: CommitRow) -> bool:
    return (one.depth, one.sha) < (other.depth, other.sha)


def find_epoch(session: Conn, project_id: int, hardware_class: str) -> EpochRow | None:
    row = session.execute(_EPOCH, {"project_id": project_id, "hardware_class": hardware_class}).one_or_none()
    return EpochRow(*row) if row else None


def list_judged(session: Conn, project_id: int, hardware_class: str) -> list[str]:
    """Commits with a posterior in the class."""
    query = select(_POSTERIORS.c.commit_sha).where(is_of_class(_POSTERIORS.c, project_id, hardware_class))
    return list(session.scalars(query.order_by(_POSTERIORS.c.commit_sha)))


def list_newcomers(session: Conn, epoch: EpochRow) -> list[tuple[int, int, str]]:
    """Workers that were calibrated within the epoch: worker, the run that did it, and its commit."""
    query = (
        select(_CALIBRATIONS.c.worker_id, _RUNS.c.id, _RUNS.c.commit_sha)
        .join(_RUNS, _RUNS.c.id == _CALIBRATIONS.c.through_run_id)
        .where(is_of_same_class(_CALIBRATIONS.c, epoch), _CALIBRATIONS.c.through_run_id > epoch.through_run_id)
    )
    return [(worker_id, run_id, sha) for worker_id, run_id, sha in session.execute(query)]
