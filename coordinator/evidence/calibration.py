"""Calibration of workers in a class: offsets, frozen for an epoch, and the outcomes of their jobs.

A class is measured by its first worker until offsets are estimated together. A newcomer's offset is estimated once,
from its first run of a commit that calibrated workers measured (usually the seed), and stays until the next epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.evidence import calibration_queries as queries
from coordinator.evidence import offsets, statistics
from coordinator.evidence.calibration_queries import EpochRow, WorkerEvidence
from coordinator.evidence.offsets import SharedRun
from coordinator.evidence.statistics import EXACT, Normal
from shared.contract import Contract
from shared.experiments import JobKind
from shared.protocol import now
from shared.runs import RunOutcome, RunReport

RULES = 4
"""Version of what posteriors are made of, and how. Raise it where a release derives others from the same runs: they are
derived again when the database is opened."""


def begin_run(session: Session, contract: Contract, project_id: int, hardware_class: str) -> EpochRow:
    """Lock the class's epoch, so that its runs are stored one after the other; the first run makes it."""
    epoch = queries.lock_epoch(session, project_id, hardware_class)
    if epoch is None:
        queries.add_epoch(session, project_id, hardware_class, contract.evidence.noise_sd, RULES)
        epoch = queries.lock_epoch(session, project_id, hardware_class)
    assert epoch is not None, "it was just made"
    return epoch


@dataclass(frozen=True)
class RunOrigin:
    """Where a run comes from: the lease it answers, and the experiment that made its commit, if one did.

    A claim of a gain `asks_for_replication` as far as its volunteer's trust demands; imported ones do not.
    """

    project_id: int
    worker_id: int
    lease_id: UUID
    kind: JobKind
    experiment_id: int | None
    asks_for_replication: bool = True


def count_run(session: Session, origin: RunOrigin, known: WorkerEvidence, report: RunReport) -> None:
    """Count a worker's run."""
    is_ok = report.outcome is RunOutcome.OK
    was_stopped = report.outcome is RunOutcome.STOPPED_EARLY  # which says nothing against the worker
    is_seed = origin.experiment_id is None  # no experiment made the seed
    counted = {
        "jobs_done": known.jobs_done + 1,
        "seed_measured": known.seed_measured + int(is_seed and is_ok),
        "seed_failed": known.seed_failed + int(is_seed and not is_ok),
        "failures_in_row": 0 if is_ok or was_stopped else known.failures_in_row + 1,
        "updated_at": now(),
    }
    key = {
        "project_id": origin.project_id,
        "hardware_class": report.hardware.hardware_class,
        "worker_id": origin.worker_id,
    }
    if known.is_new:
        queries.add_calibration(session, key | counted | {"volunteer_id": known.volunteer_id})
    else:
        queries.change_calibration(session, key, counted)


def calibrate_newcomer(
    session: Session, contract: Contract, epoch: EpochRow, worker_id: int, run_id: int, sha: str
) -> list[str]:
    """Give a worker its offset if its new run allows it; returns its commits whose posteriors this changes."""
    key = {"project_id": epoch.project_id, "hardware_class": epoch.hardware_class, "worker_id": worker_id}
    offset = derive_newcomer(session, contract, epoch, worker_id, run_id, sha)
    if offset is None:
        return []
    columns = {"offset_mean": offset.mean, "offset_sd": offset.sd, "through_run_id": run_id, "updated_at": now()}
    queries.change_calibration(session, key, columns)
    return queries.list_commits_of_worker(session, worker_id, epoch.hardware_class)


def derive_newcomer(
    session: Session, contract: Contract, epoch: EpochRow, worker_id: int, run_id: int, sha: str
) -> Normal | None:
    """A worker's offset from its runs of a commit up to `run_id`; None where no calibrated worker measured it."""
    calibrated = queries.map_offsets(session, epoch.project_id, epoch.hardware_class, before_run_id=run_id)
    if not calibrated.keys() - {worker_id}:
        return EXACT  # the first of its class
    runs = queries.list_measured(session, epoch.project_id, epoch.hardware_class, sha, run_id)
    own = [run.value for run in runs if run.worker_id == worker_id]
    others = [
        statistics.Measurement(run.value, run.worker_id, 0, False, calibrated[run.worker_id])
        for run in runs
        if run.worker_id != worker_id and run.worker_id in calibrated
    ]
    if not own or not others:
        return None
    level = statistics.pool(others, epoch.noise_sd)
    return offsets.estimate_newcomer(own, level, epoch.noise_sd, contract.evidence.typical_offset_sd)


def derive_epoch(contract: Contract, runs: Sequence[SharedRun]) -> offsets.EpochEstimate:
    """Noise and offsets of an epoch that ends with these runs (oldest first)."""
    prior = contract.evidence
    estimate = offsets.estimate(runs, prior.noise_sd, prior.typical_offset_sd)
    if not estimate.offsets and runs:
        estimate = estimate._replace(offsets={runs[0].worker_id: EXACT})
    return estimate


def start_epoch(session: Session, contract: Contract, epoch: EpochRow) -> None:
    """Estimate noise and offsets again from all runs, and freeze them. The posteriors do not follow here."""
    project_id, hardware_class = epoch.project_id, epoch.hardware_class
    runs = queries.list_measured(session, project_id, hardware_class)
    through = max((run.run_id for run in runs), default=0)
    estimate = derive_epoch(contract, runs)
    queries.forget_offsets(session, project_id, hardware_class)
    for worker_id, offset in estimate.offsets.items():
        key = {"project_id": project_id, "hardware_class": hardware_class, "worker_id": worker_id}
        columns = {"offset_mean": offset.mean, "offset_sd": offset.sd, "through_run_id": through, "updated_at": now()}
        queries.change_calibration(session, key, columns)
    queries.change_epoch(
        session, epoch, number=epoch.number + 1, noise_sd=estimate.noise_sd, through_run_id=through, runs=len(runs),
        started_at=now(),
    )  # fmt: skip
