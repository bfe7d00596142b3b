"""Stores runs with all that follows from them, and shows them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from coordinator.db.engine import Conn
from coordinator.events import history
from coordinator.events import service as events
from coordinator.evidence import calibration_queries, epochs, queries, throughput
from coordinator.evidence import trust as trusts
from coordinator.evidence.epochs import RunOrigin
from coordinator.evidence.posteriors import DerivedPosterior, make_model, refresh_posteriors, store_first
from coordinator.evidence.queries import PosteriorRow
from coordinator.evidence.run_stats import Work, compare_pace, find_run
from coordinator.evidence.statistics import Measurement, Model
from coordinator.evidence.trust import RunTrust
from coordinator.http.errors import must_find
from coordinator.lineage.commits import CommitRow
from coordinator.models import CommitPosterior, Project, Run, table_of, view_of
from shared.contract import Contract
from shared.events import EventKind
from shared.experiments import Posterior, Standing
from shared.history import LeafKind
from shared.protocol import now
from shared.runs import CurvePoint, RunOutcome, RunReport, RunSeconds, RunView

_REPORTED_COLUMNS = [name for name in RunReport.model_fields if name in table_of(Run).c and name != "id"]


@dataclass(frozen=True)
class StoredRun:
    """A run's id, and what all runs together now say of its commit."""

    id: int
    posterior: DerivedPosterior | None


def store_run(
    session: Conn, contract: Contract, origin: RunOrigin, report: RunReport, made: CommitRow | None = None
) -> StoredRun:
    """Add a run, and bring up to date what it changes: its worker's calibration, its commit, the commits below, and
    whom to trust. `made` is its commit where this transaction stored it, so that the run is its first."""
    hardware_class = report.hardware.hardware_class
    epoch = epochs.begin_run(session, contract, origin.project_id, hardware_class)
    worker = calibration_queries.find_worker(session, origin.project_id, hardware_class, origin.worker_id)
    trust = trusts.record_run(session, contract, epoch, origin, worker, report)
    run_id = queries.add_run(session, _columns_of(origin, report, trust, counts=not worker.is_quarantined))
    history.enter(session, origin.project_id, LeafKind.RESULT, run_id)
    epochs.count_run(session, origin, worker, report)
    if not worker.is_quarantined:
        epochs.begin_reference(session, epoch, origin, report)
    if not origin.kind.is_evidence:
        return StoredRun(run_id, refresh_posteriors(session, contract, report.commit_sha, hardware_class))
    is_measured = report.outcome == RunOutcome.OK and not worker.is_quarantined
    is_newcomer = is_measured and worker.response is None
    first: DerivedPosterior | None = None  # of a commit that was just made nothing is known, unless this run tells
    if made is None or (is_newcomer and not calibration_queries.is_any_calibrated(session, epoch)):
        sha, found = report.commit_sha, list[str]()
        if is_newcomer:
            found = epochs.calibrate_newcomer(session, contract, epoch, origin.worker_id, run_id, sha)
        elif is_measured:
            found = epochs.place_checkers(session, contract, epoch, worker, run_id, sha)
        changed = dict.fromkeys([sha, *found])
        first, *_ = [refresh_posteriors(session, contract, one, hardware_class) for one in changed]
    elif is_measured:  # nobody else measured the commit, so it calibrates no newcomer
        assert report.metric is not None
        response = worker.response or epoch.find_unknown(contract)
        shift = epoch.shift(origin.seed_throughput, origin.pace)
        offset = response.offset_at(report.metric, shift)
        own = Measurement(report.metric, origin.worker_id, worker.volunteer_id, True, offset, trust.trust)
        own = own._replace(kind=origin.kind, is_placed=worker.response is not None)
        model = make_model(contract, epoch.noise_sd, epoch.effects)
        first = store_first(session, contract, model, made, hardware_class, own)
    if not origin.kind.makes_experiment:
        trusts.resolve_due(session, report, first)
    elif first is not None and origin.asks_for_replication:
        trusts.record_claim(session, contract, origin, worker, report, first)
    if origin.kind.makes_experiment and first is not None and first.standing == Standing.HELD:
        data = {"experiment": origin.experiment_id, "commit": report.commit_sha, "hardware_class": hardware_class}
        events.record(session, EventKind.RESULT_HELD, origin.project_id, **data)
    return StoredRun(run_id, first)


def measure_pace(session: Conn, parent_sha: str, worker_id: int, report: RunReport) -> float | None:
    """A run's tokens a second over those of its parent in the same hardware class, None where that is not known."""
    if report.outcome != RunOutcome.OK:
        return None
    own = Work(worker_id, report.tokens, report.steps, report.seconds.on_budget)
    return compare_pace(own, queries.list_work(session, parent_sha, report.hardware.hardware_class))


def _columns_of(origin: RunOrigin, report: RunReport, trust: RunTrust, *, counts: bool) -> dict[str, Any]:
    reported = {name: getattr(report, name) for name in _REPORTED_COLUMNS}
    seconds = {f"{part}_seconds": value for part, value in report.seconds}
    return reported | seconds | {
        "uuid": report.id,
        "project_id": origin.project_id,
        "experiment_id": origin.experiment_id,
        "worker_id": origin.worker_id,
        "lease_id": origin.lease_id,
        "kind": origin.kind,
        "pace": origin.pace,
        "seed_throughput": origin.seed_throughput,
        "rung": origin.rung,
        "counts": counts,
        "is_check": trust.is_check,
        "trust": trust.trust,
        "hardware_class": report.hardware.hardware_class,
        "hardware": report.hardware.model_dump(mode="json"),
        "curve": [[point.step, point.seconds, point.loss] for point in report.curve],
        "metrics": dict(origin.metrics) if origin.metrics else None,
        "usage": report.usage.model_dump() if report.usage else None,
        "created_at": now(),
    } | dict.fromkeys(origin.unknown)  # fmt: skip


class ClassEstimates(NamedTuple):
    """The estimates of a hardware class that a job is given by. Without a `reference`, a throughput of the seed,
    budgets are not normalised."""

    model: Model
    reference: float | None

    def choose_pace(self, seed_throughput: float | None) -> float:
        """The training budget of a worker that measured this throughput of the seed, in units of the contract's."""
        return 1.0 if seed_throughput is None else throughput.choose_pace(self.reference, seed_throughput)


def read_estimates(session: Conn, contract: Contract, project_id: int, hardware_class: str) -> ClassEstimates:
    """The estimates of a class's epoch; the contract's where nothing was measured yet."""
    epoch = calibration_queries.find_epoch(session, project_id, hardware_class)
    if epoch is None:
        return ClassEstimates(make_model(contract, None, None), None)
    return ClassEstimates(make_model(contract, epoch.noise_sd, epoch.effects), epoch.seed_throughput)


def list_disputed_noise(session: Session, project_id: int) -> list[str]:
    """The project's hardware classes whose noise a maintainer should look at, each in a line."""
    return list(epochs.list_disputed_noise(session, project_id))


def view_posterior(row: PosteriorRow | CommitPosterior | None) -> Posterior | None:
    return None if row is None else Posterior.model_validate(row, from_attributes=True)


def view_one(session: Session, run_id: int) -> RunView:
    """One run. Raises NotFoundError."""
    row = must_find(find_run(session, run_id), f"There is no run {run_id}.")
    run, worker = row
    return view_run(run, worker, session.get_one(Project, run.project_id).name)


def view_run(run: Run, worker_name: str, project_name: str) -> RunView:
    return view_of(
        RunView,
        run,
        project=project_name,
        worker=worker_name,
        seconds=None
        if run.total_seconds is None
        else {part: getattr(run, f"{part}_seconds") for part in RunSeconds.model_fields},
        curve=[CurvePoint(step=step, seconds=seconds, loss=loss) for step, seconds, loss in run.curve],
    )
