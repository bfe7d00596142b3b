"""Epochs: when one ends, its offsets, noise and posteriors are derived again from all runs of the hardware class."""

from collections.abc import Iterator

from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.evidence import calibration, posteriors
from coordinator.evidence import calibration_queries as queries
from coordinator.evidence.calibration_queries import EpochRow
from coordinator.evidence.posteriors import SAME_NUMBER
from coordinator.evidence.statistics import Normal
from coordinator.models import CommitPosterior, Project
from coordinator.projects import service as projects
from shared.contract import Contract

NEW_RUNS = 16
NEW_SHARE = 0.5
"""An epoch ends after NEW_RUNS runs that are also at least NEW_SHARE of those it began with. So each run is read only a
few times, however long the project lives."""


def end_due_epochs(database: Database) -> None:
    """Start a new epoch in each class where enough runs came, each in a short transaction of its own."""
    with database.read() as session:
        over = [epoch for epoch in _list_epochs(session) if epoch is not None and _is_over(session, epoch)]
    for epoch in over:
        with database.write() as session:
            end_epoch(session, epoch.project_id, epoch.hardware_class)


def _list_epochs(session: Session) -> list[EpochRow | None]:
    """The epoch of each class in which workers are known; None in one from before there were epochs."""
    return [queries.find_epoch(session, *name) for name in queries.list_classes(session)]


def is_up_to_date(session: Session) -> bool:
    """Whether all posteriors were derived by the present rules."""
    return all(epoch is not None and epoch.rules == calibration.RULES for epoch in _list_epochs(session))


def bring_up_to_date(session: Session) -> None:
    """Derive again what another version of this program wrote. A class from before there were epochs begins its first.

    It takes as long as the classes concerned are large, once after an upgrade.
    """
    for project_id, hardware_class in queries.list_classes(session):
        contract = projects.contract_of(session.get_one(Project, project_id))
        is_first = queries.find_epoch(session, project_id, hardware_class) is None
        epoch = calibration.begin_run(session, contract, project_id, hardware_class)
        if is_first:
            calibration.start_epoch(session, contract, epoch)
        if is_first or epoch.rules != calibration.RULES:
            derive_again(session, contract, project_id, hardware_class)
            queries.change_epoch(session, epoch, rules=calibration.RULES)


def end_epochs(session: Session, *, always: bool = False) -> int:
    """Start a new epoch in each class where enough runs came since the last; returns in how many."""
    return sum(end_epoch(session, *name, always=always) for name in queries.list_classes(session))


def end_epoch(session: Session, project_id: int, hardware_class: str, *, always: bool = False) -> bool:
    """Start a new epoch in a class, if enough runs came since the last: estimate its noise and offsets again from all
    its runs, and derive its posteriors by them. Returns whether it did."""
    contract = projects.contract_of(session.get_one(Project, project_id))
    epoch = calibration.begin_run(session, contract, project_id, hardware_class)
    if not always and not _is_over(session, epoch):
        return False
    calibration.start_epoch(session, contract, epoch)
    derive_again(session, contract, project_id, hardware_class)
    return True


def _is_over(session: Session, epoch: EpochRow) -> bool:
    return queries.count_runs_since(session, epoch) >= max(NEW_RUNS, NEW_SHARE * epoch.runs)


def derive_again(session: Session, contract: Contract, project_id: int, hardware_class: str) -> int:
    """Write all posteriors of a class anew, from the root downwards; returns how many changed."""
    changed = 0
    model = posteriors.find_model(session, contract, project_id, hardware_class)
    for generation in queries.list_generations(session, project_id, hardware_class):
        changed += posteriors.derive_and_store(session, contract, model, generation, hardware_class)
    return changed


def recompute(session: Session) -> int:
    """Write all posteriors anew; returns how many changed. Offsets stay as they are in this epoch."""
    changed = 0
    for project_id, hardware_class in queries.list_classes(session):
        contract = projects.contract_of(session.get_one(Project, project_id))
        calibration.begin_run(session, contract, project_id, hardware_class)
        changed += derive_again(session, contract, project_id, hardware_class)
    return changed


def find_differences(session: Session) -> Iterator[str]:
    """All stored numbers that the runs do not give, each in a line."""
    for project_id, hardware_class in queries.list_classes(session):
        project = session.get_one(Project, project_id)
        contract = projects.contract_of(project)
        name = f"{project.name} on {hardware_class}"
        epoch = queries.find_epoch(session, project_id, hardware_class)
        if epoch is None:
            yield f"{name}: no epoch was begun"
            continue
        yield from (f"{name}: {line}" for line in _check_offsets(session, contract, epoch))
        for sha in queries.list_judged(session, project_id, hardware_class):
            stored = session.get_one(CommitPosterior, (sha, hardware_class))
            wrong = posteriors.find_wrong_numbers(session, contract, stored)
            if wrong:
                yield f"{name}, commit {sha}: {wrong}"


def _check_offsets(session: Session, contract: Contract, epoch: EpochRow) -> Iterator[str]:
    project_id, hardware_class = epoch.project_id, epoch.hardware_class
    derived: dict[int, Normal | None] = {}
    if epoch.number > 0:
        runs = queries.list_measured(session, project_id, hardware_class, through_run_id=epoch.through_run_id)
        estimate = calibration.derive_epoch(contract, runs)
        derived |= estimate.offsets
        if abs(estimate.noise_sd - epoch.noise_sd) > SAME_NUMBER:
            yield f"noise is {epoch.noise_sd}, the runs give {estimate.noise_sd}"
    stored = queries.map_offsets(session, project_id, hardware_class)
    for worker_id, run_id, sha in queries.list_newcomers(session, epoch):
        derived[worker_id] = calibration.derive_newcomer(session, contract, epoch, worker_id, run_id, sha)
    for worker_id in sorted(stored.keys() | derived.keys()):
        was, is_ = stored.get(worker_id), derived.get(worker_id)
        if was is None or is_ is None or max(abs(was.mean - is_.mean), abs(was.sd - is_.sd)) > SAME_NUMBER:
            yield f"the offset of worker {worker_id} is {was}, the runs give {is_}"
