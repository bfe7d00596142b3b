"""Questions about runs and posteriors."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, bindparam, case, delete, func, insert, or_, select, update

from coordinator.db.engine import Conn, LabelledRow, batches
from coordinator.evidence.calibration_queries import find_unknown
from coordinator.evidence.changes import record_changed
from coordinator.evidence.confirmation import ConfirmationRun
from coordinator.evidence.run_stats import Work
from coordinator.evidence.statistics import CHECKERS, RESPONSE_COLUMNS, Measurement, read_response
from coordinator.evidence.throughput import expose
from coordinator.models import (
    Calibration,
    Commit,
    CommitPosterior,
    DueReplication,
    EvidenceEpoch,
    HeldDecision,
    Run,
    Worker,
    table_of,
)
from coordinator.models.base import is_of_class, is_of_commit, is_of_same_class
from coordinator.models.experiments import IS_CONFIRMATION, IS_MEASUREMENT
from shared.contract import Contract
from shared.experiments import HeldDecisionKind, JobKind
from shared.records import Trust
from shared.runs import RunLimit, RunOutcome


class PosteriorRow(NamedTuple):
    """A posterior, as `CommitPosterior` stores it."""

    commit_sha: str
    metric_mean: float
    metric_sd: float
    measured_mean: float | None
    measured_sd: float | None
    effect_mean: float | None
    effect_sd: float | None
    milestone_mean: float | None
    milestone_sd: float | None
    anchor_sd: float | None
    runs: int
    checkers: int
    verdict: str | None
    standing: str
    dispute: str
    caches_emptied: bool
    rank_score: float


RESPONSE = len(RESPONSE_COLUMNS)
MAX_WORK = 32
"""Number of newest runs from which a commit's pace is measured."""

_RUNS, _POSTERIORS, _DECISIONS = table_of(Run), table_of(CommitPosterior), table_of(HeldDecision)
_COMMITS = table_of(Commit)
_ADD_RUN = insert(_RUNS).returning(_RUNS.c.id)
_WORKERS, _EPOCHS, _CALIBRATIONS = table_of(Worker), table_of(EvidenceEpoch), table_of(Calibration)
_RUNS_OF_COMMITS = (
    select(
        *(_RUNS.c[name] for name in ("commit_sha", "metric", "worker_id", "kind", "trust", "is_check", "limits")),
        _WORKERS.c.volunteer_id,
        _DECISIONS.c.decision,
        *(_CALIBRATIONS.c[name] for name in RESPONSE_COLUMNS),
        *(_RUNS.c[name] for name in ("seed_throughput", "pace")),
        *(_EPOCHS.c[name] for name in ("throughput_slope", "seed_throughput", "offset_sd", "gain_sd", "centre")),
    )
    .join(_WORKERS, _WORKERS.c.id == _RUNS.c.worker_id)
    .join(_EPOCHS, is_of_same_class(_EPOCHS.c, _RUNS.c))
    .outerjoin(_DECISIONS, is_of_commit(_DECISIONS.c, _RUNS.c.commit_sha, _RUNS.c.hardware_class))
    .outerjoin(
        _CALIBRATIONS, and_(is_of_same_class(_CALIBRATIONS.c, _RUNS.c), _CALIBRATIONS.c.worker_id == _RUNS.c.worker_id)
    )
    .where(
        _RUNS.c.commit_sha.in_(bindparam("shas", expanding=True)), _RUNS.c.hardware_class == bindparam("hardware_class")
    )
    .order_by(_RUNS.c.id)
)
_MEASUREMENTS = _RUNS_OF_COMMITS.where(IS_MEASUREMENT)
_CONFIRMATIONS = _RUNS_OF_COMMITS.where(IS_CONFIRMATION).add_columns(_RUNS.c.holdout_metric)
_OF_COMMIT = _RUNS.c.commit_sha == bindparam("sha"), _RUNS.c.hardware_class == bindparam("hardware_class")
_OF_COMMITS_RUN = (
    _RUNS.c.commit_sha.in_(bindparam("shas", expanding=True)),
    _RUNS.c.hardware_class == bindparam("hardware_class"),
)
_DISCOUNTED = select(_RUNS.c.commit_sha).where(*_OF_COMMITS_RUN, _RUNS.c.counts.is_(False))
_ESTIMATES = select(_EPOCHS.c.noise_sd, _EPOCHS.c.effects).where(is_of_class(_EPOCHS.c))
_DEEPER = (
    select(_RUNS.c.id)
    .join(_COMMITS, _COMMITS.c.sha == _RUNS.c.commit_sha)
    .where(is_of_class(_RUNS.c))
    .where(_COMMITS.c.depth > bindparam("depth"))
    .order_by(_RUNS.c.id.desc())
    .limit(1)
)
_FAILED_CHECKS = (
    select(
        _RUNS.c.commit_sha,
        func.count(_WORKERS.c.volunteer_id.distinct()),
        func.sum(case((_RUNS.c.trust == Trust.ANCHOR, 1), else_=0)),
    )
    .join(_WORKERS, _WORKERS.c.id == _RUNS.c.worker_id)
    .where(*_OF_COMMITS_RUN, _RUNS.c.is_check, _RUNS.c.counts, _RUNS.c.trust != Trust.DOUBTED)
    .where(_RUNS.c.outcome.in_([RunOutcome.CRASHED, RunOutcome.INVALID, RunOutcome.TIMEOUT]))
    .where(_RUNS.c.kind.in_([JobKind.REPLICATE, JobKind.CONTROL]))
    .where(or_(_RUNS.c.outcome != RunOutcome.CRASHED, _RUNS.c.frame != ""))
    .group_by(_RUNS.c.commit_sha)
)
_ADD_POSTERIOR = insert(_POSTERIORS)
_CHANGE_POSTERIOR = update(_POSTERIORS).where(
    is_of_commit(_POSTERIORS.c, bindparam("of_commit_sha"), bindparam("of_hardware_class"))
)
_OF_COMMITS = (
    _POSTERIORS.c.commit_sha.in_(bindparam("shas", expanding=True)),
    _POSTERIORS.c.hardware_class == bindparam("hardware_class"),
)
_REMOVE_POSTERIORS = delete(_POSTERIORS).where(*_OF_COMMITS)
_POSTERIOR_ROWS = select(*(_POSTERIORS.c[name] for name in PosteriorRow._fields))
_POSTERIORS_OF = _POSTERIOR_ROWS.where(*_OF_COMMITS)
_POSTERIOR_OF = _POSTERIOR_ROWS.where(is_of_commit(_POSTERIORS.c))
_WORK = (
    select(
        _RUNS.c.worker_id,
        func.coalesce(_RUNS.c.tokens, 0),
        func.coalesce(_RUNS.c.steps, 0),
        func.coalesce(_RUNS.c.budget_seconds, _RUNS.c.training_seconds, 0.0),
    )
    .where(*_OF_COMMIT, IS_MEASUREMENT)
    .order_by(_RUNS.c.id.desc())
    .limit(MAX_WORK)
)


def add_run(session: Conn, columns: Mapping[str, Any]) -> int:
    """Add a row; returns its id."""
    return int(session.scalar(_ADD_RUN, columns))


def map_measurements(
    session: Conn, shas: Sequence[str], hardware_class: str, contract: Contract,
    through_run_id: int | None = None, reference: float | None = None,
) -> dict[str, list[Measurement]]:  # fmt: skip
    """All runs that count as measurements, up to a run if it is named, by commit, in the order of the runs; with a
    throughput as `reference` for that of the class's epoch."""
    found: dict[str, list[Measurement]] = {}
    query = _MEASUREMENTS if through_run_id is None else _MEASUREMENTS.where(_RUNS.c.id <= through_run_id)
    for some in batches(shas):
        rows = session.execute(query, {"shas": some, "hardware_class": hardware_class})
        for sha, *row in map(tuple, rows):
            found.setdefault(sha, []).append(_read_measurement(row, contract, reference))
    return found


def map_confirmations(
    session: Conn, shas: Sequence[str], hardware_class: str, contract: Contract
) -> dict[str, list[ConfirmationRun]]:
    """The confirmation runs of commits in a class that came to a metric, in the order of the runs, by commit."""
    found: dict[str, list[ConfirmationRun]] = {sha: [] for sha in shas}
    rows = session.execute(_CONFIRMATIONS, {"shas": list(shas), "hardware_class": hardware_class})
    for sha, *row, holdout in map(tuple, rows):
        found[sha].append(ConfirmationRun(_read_measurement(row, contract), holdout))
    return found


def _read_measurement(row: Sequence[Any], contract: Contract, reference: float | None = None) -> Measurement:
    metric, worker_id, kind, trust, is_check, limits, volunteer_id, decided, *rest = row
    throughput, pace, slope, of_epoch, *unknown = rest[RESPONSE:]
    response = read_response(*rest[:RESPONSE]) or find_unknown(contract, *unknown)
    exposure = expose(reference or of_epoch, throughput, pace)
    offset = response.offset_at(metric, (slope or 0.0) * exposure)
    of = JobKind(kind)
    makes = of.makes_experiment
    decision = HeldDecisionKind(decided) if decided else None
    return Measurement(
        metric, worker_id, volunteer_id, makes, offset, Trust(trust), is_check, of if makes else None, exposure,
        decision, RunLimit.CACHES_EMPTIED in (limits or ()), rest[0] is not None,
    )  # fmt: skip


def list_discounted(session: Conn, shas: Sequence[str], hardware_class: str) -> set[str]:
    """Those of some commits of which a quarantine keeps a run from counting."""
    return set(session.scalars(_DISCOUNTED, {"shas": list(shas), "hardware_class": hardware_class}))


def find_estimates(
    session: Conn, project_id: int, hardware_class: str
) -> tuple[float | None, dict[str, list[float]] | None]:
    """Noise and priors of effects of a class's epoch, as stored."""
    row = session.execute(_ESTIMATES, {"project_id": project_id, "hardware_class": hardware_class}).first()
    return (row[0], row[1]) if row else (None, None)


def find_posterior(session: Conn, sha: str, hardware_class: str) -> PosteriorRow | None:
    row = session.execute(_POSTERIOR_OF, {"sha": sha, "hardware_class": hardware_class}).first()
    return PosteriorRow._make(row) if row else None


def is_any_deeper(session: Conn, hardware_class: str, project_id: int, depth: int) -> bool:
    """Whether any commit deeper than `depth` was measured in a class."""
    given = {"hardware_class": hardware_class, "project_id": project_id, "depth": depth}
    return session.execute(_DEEPER, given).first() is not None


def map_posteriors(session: Conn, shas: Sequence[str], hardware_class: str) -> dict[str, PosteriorRow]:
    """The stored posteriors of commits, by commit."""
    return {
        row[0]: PosteriorRow._make(row)
        for some in batches(shas)
        for row in session.execute(_POSTERIORS_OF, {"shas": some, "hardware_class": hardware_class}).all()
    }


def add_posteriors(session: Conn, rows: Sequence[Mapping[str, Any]]) -> None:
    record_changed(session, [row["commit_sha"] for row in rows])
    for row in rows:
        session.execute(_ADD_POSTERIOR, row)


def change_posteriors(session: Conn, rows: Sequence[Mapping[str, Any]]) -> None:
    """Change rows that are named by `of_commit_sha` and `of_hardware_class`."""
    if rows:
        record_changed(session, [row["of_commit_sha"] for row in rows])
        session.execute(_CHANGE_POSTERIOR, rows)


def remove_posteriors(session: Conn, shas: Sequence[str], hardware_class: str) -> None:
    record_changed(session, shas)
    for some in batches(shas):
        session.execute(_REMOVE_POSTERIORS, {"shas": some, "hardware_class": hardware_class})


def map_failing(session: Conn, shas: Sequence[str], hardware_class: str) -> dict[str, int]:
    """Those of some commits that failed in their code where an anchor, or CHECKERS volunteers, were given them, each
    with how often on anchors."""
    given = [{"shas": some, "hardware_class": hardware_class} for some in batches(shas)]
    rows = [row for some in given for row in session.execute(_FAILED_CHECKS, some)]
    return {sha: int(on_anchors) for sha, volunteers, on_anchors in rows if on_anchors or volunteers >= CHECKERS}


def list_work(session: Conn, sha: str, hardware_class: str) -> list[Work]:
    """The work of a commit's newest runs in a hardware class."""
    return [Work._make(row) for row in session.execute(_WORK, {"sha": sha, "hardware_class": hardware_class}).all()]


def find_pace(session: Conn, most: int) -> LabelledRow:
    """The pace of all projects together: how many `runs`, the newest `most` or fewer, were looked at, `since` when the
    oldest of them arrived, and when the `last` one did."""
    newest = select(Run.id, Run.created_at).order_by(Run.id.desc()).limit(most).subquery()
    since, last = func.min(newest.c.created_at).label("since"), func.max(newest.c.created_at).label("last")
    return session.execute(select(func.count().label("runs"), since, last).select_from(newest)).one()


def count_due_by_class(session: Conn) -> Sequence[LabelledRow]:
    """The results of each `hardware_class` that somebody else is to measure, most first: those `waiting`, and those of
    them `for_anchors` alone."""
    anchors = func.sum(case((DueReplication.for_anchors, 1), else_=0)).label("for_anchors")
    query = select(DueReplication.hardware_class, func.count().label("waiting"), anchors)
    return session.execute(query.group_by(DueReplication.hardware_class).order_by(func.count().desc())).all()
