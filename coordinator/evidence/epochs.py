"""Epochs of a hardware class: its workers' responses are frozen within one, and estimated again when it ends.

A class is measured by its first worker until responses are estimated together. A newcomer's is estimated once,
from its first run of a commit that calibrated workers measured (usually the seed), and stays until the next epoch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.db.engine import Conn
from coordinator.evidence import agreement, effects, offsets, posteriors, promotions, statistics
from coordinator.evidence import calibration_queries as queries
from coordinator.evidence import queries as run_queries
from coordinator.evidence.calibration_queries import EpochRow, WorkerEvidence
from coordinator.evidence.offsets import SharedRun
from coordinator.evidence.posteriors import SAME_NUMBER
from coordinator.evidence.statistics import EXACT, Response
from coordinator.evidence.throughput import find_reference
from coordinator.models import CommitPosterior, Project
from coordinator.projects import service as projects
from shared.contract import Contract
from shared.experiments import HeldDecisionKind, JobKind
from shared.protocol import now
from shared.records import Trust
from shared.runs import RunOutcome, RunReport

NEW_RUNS = 16
NEW_SHARE = 0.5
"""An epoch ends after NEW_RUNS runs that are also at least NEW_SHARE of those that it began with."""

RULES = 19
"""Version of how posteriors are derived. A release that raises it derives all of them again from the same runs."""

RESPONSES_LEARNT = 17
"""The rules since which an epoch's responses are estimated as they are now; one from before begins anew."""


def begin_run(session: Conn, contract: Contract, project_id: int, hardware_class: str) -> EpochRow:
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

    It `is_check` if the coordinator chose that this volunteer measures this commit. A claim `asks_for_replication` as
    far as its volunteer's trust demands; imported ones do not. Its budget was `pace` times the contract's, by the
    `seed_throughput` that its worker had measured; on a `rung` of the contract, that rung's. The report's columns that
    are `unknown` are not stored; `metrics` are further ones of an imported run.
    """

    project_id: int
    worker_id: int
    lease_id: UUID
    kind: JobKind
    experiment_id: int | None
    asks_for_replication: bool = True
    is_check: bool = True
    pace: float = 1.0
    seed_throughput: float | None = None
    rung: str | None = None
    unknown: frozenset[str] = frozenset()
    metrics: Mapping[str, float] | None = None


def count_run(session: Conn, origin: RunOrigin, known: WorkerEvidence, report: RunReport) -> None:
    is_ok = report.outcome == RunOutcome.OK
    was_stopped = report.outcome == RunOutcome.STOPPED_EARLY  # which says nothing against the worker
    is_seed = origin.experiment_id is None and origin.rung is None  # no experiment made the seed
    counted = {
        "jobs_done": known.jobs_done + 1,
        "seed_measured": known.seed_measured + int(is_seed and is_ok),
        "seed_failed": known.seed_failed + int(is_seed and not is_ok),
        # That a commit fails on a rung, with another size, says nothing against the worker either.
        "failures_in_row": 0 if is_ok or was_stopped else known.failures_in_row + int(origin.rung is None),
        "updated_at": now(),
    }
    if is_ok and origin.seed_throughput is not None:
        counted["seed_throughput"] = origin.seed_throughput
    hardware_class = report.hardware.hardware_class
    key = {"project_id": origin.project_id, "hardware_class": hardware_class, "worker_id": origin.worker_id}
    if known.is_new:
        queries.add_calibration(session, key | counted | {"volunteer_id": known.volunteer_id})
    else:
        queries.change_calibration(session, key, counted)


def begin_reference(session: Conn, epoch: EpochRow, origin: RunOrigin, report: RunReport) -> None:
    """The first throughput that comes with a run is the class's reference until the epoch ends."""
    if epoch.seed_throughput is None and origin.seed_throughput is not None and report.outcome == RunOutcome.OK:
        queries.change_epoch(session, epoch, seed_throughput=origin.seed_throughput)


def calibrate_newcomer(
    session: Conn, contract: Contract, epoch: EpochRow, worker_id: int, run_id: int, sha: str
) -> list[str]:
    """Give a worker its response if its new run allows it; returns its commits whose posteriors this changes."""
    key = {"project_id": epoch.project_id, "hardware_class": epoch.hardware_class, "worker_id": worker_id}
    response = derive_newcomer(session, contract, epoch, worker_id, run_id, sha)
    if response is None:
        return []
    queries.change_calibration(session, key, response.columns() | {"through_run_id": run_id, "updated_at": now()})
    return queries.list_commits_of_worker(session, worker_id, epoch.hardware_class)


def place_checkers(
    session: Conn, contract: Contract, epoch: EpochRow, worker: WorkerEvidence, run_id: int, sha: str
) -> list[str]:
    """Give those who checked a commit, and whose machines are not placed yet, their responses by an anchor's new run of
    it: so what they say of other commits can be held to it. Returns the commits whose posteriors this changes."""
    unplaced = queries.list_unplaced_checkers(session, epoch, sha) if worker.is_anchor and worker.response else []
    changed = (calibrate_newcomer(session, contract, epoch, worker_id, run_id, sha) for worker_id in unplaced)
    return [of_worker for some in changed for of_worker in some]


def derive_newcomer(
    session: Conn, contract: Contract, epoch: EpochRow, worker_id: int, run_id: int, sha: str
) -> Response | None:
    """A worker's response from its runs of a commit up to `run_id`; None where no calibrated worker measured it, and
    where a single volunteer did, no anchor, from whom it differs by so much that one of the two must be wrong."""
    runs = queries.list_measured(session, epoch, sha, run_id)
    others_here = {run.worker_id for run in runs} - {worker_id}
    calibrated = queries.map_earlier_responses(session, epoch, others_here, run_id)
    if not calibrated:
        return Response(EXACT)  # the first of its class
    slope = epoch.throughput_slope or 0.0
    own = [run.value - slope * run.exposure for run in runs if run.worker_id == worker_id]
    others = [
        statistics.Measurement(
            run.value,
            run.worker_id,
            run.volunteer_id,
            False,
            calibrated[run.worker_id].offset_at(run.value, slope * run.exposure),
            run.trust,
        )
        for run in runs
        if run.worker_id != worker_id and run.worker_id in calibrated
    ]
    if not own or not others:
        return None
    level = agreement.estimate(others, epoch.noise_sd)  # so that no lie about the seed moves those who come later
    placed = offsets.estimate_newcomer(own, level, epoch.noise_sd, epoch.find_unknown(contract))
    agreed = {run.volunteer_id: run.trust for run in agreement.leave_out_apart(others, epoch.noise_sd)}
    is_sure = len(agreed) >= statistics.CHECKERS or Trust.ANCHOR in agreed.values()
    return placed.response if placed.is_plausible or is_sure else None


def derive_epoch(contract: Contract, runs: Sequence[SharedRun], seed: str) -> offsets.EpochEstimate:
    """Noise and responses of an epoch that ends with these runs (oldest first); gains count from the `seed`."""
    prior = contract.evidence
    estimate = offsets.estimate(runs, prior.noise_sd, prior.typical_offset_sd, seed)
    if not estimate.responses and runs:
        estimate = estimate._replace(responses={runs[0].worker_id: Response(EXACT)})
    return estimate


def derive_effects(
    session: Conn, contract: Contract, epoch: EpochRow, estimate: offsets.EpochEstimate, through_run_id: int
) -> dict[str, list[float]]:
    """The priors that a class's experiments up to a run teach, as an epoch with these estimates stores them."""
    unknown = estimate.find_unknown(contract.evidence.typical_offset_sd)
    commits = queries.list_experimented(session, epoch.project_id, epoch.hardware_class, through_run_id)
    shas = [commit.sha for commit in commits]
    reference = epoch.seed_throughput
    runs = run_queries.map_measurements(session, shas, epoch.hardware_class, contract, through_run_id, reference)
    measured = [
        effects.MeasuredCommit(
            commit.sha,
            commit.parent_sha,
            commit.steps,
            [
                run._replace(
                    offset=estimate.responses.get(run.worker_id, unknown).offset_at(
                        run.value, estimate.slope * run.exposure
                    )
                )
                for run in runs[commit.sha]
            ],
        )
        for commit in commits
        if commit.sha in runs and runs[commit.sha][0].decision != HeldDecisionKind.REJECT
    ]
    learnt = effects.learn(measured, estimate.noise_sd, contract.evidence.effect_sd)
    return {kind.value if kind else posteriors.ALL_KINDS: list(prior) for kind, prior in learnt.items()}


class NextEpoch(NamedTuple):
    """The numbers that an epoch begins with: reference throughput, and the estimates from so many `runs` up to one."""

    reference: float | None
    through_run_id: int
    runs: int
    estimate: offsets.EpochEstimate
    effects: dict[str, list[float]]


def estimate(session: Session, contract: Contract, epoch: EpochRow) -> NextEpoch:
    """Estimate noise, offsets and priors of effects again, for the epoch after this one."""
    throughputs = queries.list_throughputs(session, epoch.project_id, epoch.hardware_class)
    reference = find_reference(throughputs, epoch.seed_throughput)
    epoch = epoch._replace(seed_throughput=reference)
    runs = queries.list_measured(session, epoch)
    through = max((run.run_id for run in runs), default=0)
    found = derive_epoch(contract, runs, session.get_one(Project, epoch.project_id).root_sha)
    return NextEpoch(reference, through, len(runs), found, derive_effects(session, contract, epoch, found, through))


def begin_next(session: Session, contract: Contract, epoch: EpochRow, found: NextEpoch) -> None:
    """Freeze estimates for the epoch after this one. Its posteriors are then due. Workers that were calibrated by runs
    which came meanwhile are so again."""
    project_id, hardware_class = epoch.project_id, epoch.hardware_class
    known = max(found.through_run_id, epoch.through_run_id)
    newcomers = queries.list_newcomers(session, epoch._replace(through_run_id=known))
    queries.forget_offsets(session, project_id, hardware_class)
    for worker_id, response in found.estimate.responses.items():
        key = {"project_id": project_id, "hardware_class": hardware_class, "worker_id": worker_id}
        columns = response.columns() | {"through_run_id": found.through_run_id, "updated_at": now()}
        queries.change_calibration(session, key, columns)
    queries.add_past_offsets(session, epoch, found.estimate.responses)
    queries.change_epoch(
        session, epoch, number=epoch.number + 1, noise_sd=found.estimate.noise_sd, runs=found.runs,
        through_run_id=found.through_run_id, started_at=now(), disputed_noise_sd=found.estimate.disputed_noise_sd,
        throughput_slope=found.estimate.slope, offset_sd=found.estimate.offset_sd, gain_sd=found.estimate.gain_sd,
        centre=found.estimate.centre, effects=found.effects, seed_throughput=found.reference, ended_at=None,
        underived_sha=session.get_one(Project, project_id).root_sha, again_sha=None,
    )  # fmt: skip
    begun = queries.lock_epoch(session, project_id, hardware_class)
    for worker_id, run_id, sha in sorted(newcomers, key=lambda row: row[1]):
        if begun is not None and worker_id not in found.estimate.responses:
            calibrate_newcomer(session, contract, begun, worker_id, run_id, sha)


def list_over(session: Conn, *, always: bool = False) -> list[EpochRow]:
    """The epochs that nothing has ended yet, of classes where enough runs came since."""
    going_on = [epoch for epoch in _list_epochs(session) if epoch is not None and epoch.ended_at is None]
    return [epoch for epoch in going_on if always or _is_over(session, epoch)]


def _list_epochs(session: Conn) -> list[EpochRow | None]:
    """The epoch of each class in which workers are known; None in one from before there were epochs."""
    return [queries.find_epoch(session, *name) for name in queries.list_classes(session)]


def is_up_to_date(session: Conn) -> bool:
    """Whether all posteriors were derived by the present rules."""
    return all(epoch is not None and epoch.rules == RULES for epoch in _list_epochs(session))


def bring_up_to_date(session: Session) -> None:
    """Derive again what another version of this program wrote; a class without an epoch begins its first."""
    for project_id, hardware_class in queries.list_classes(session):
        contract = projects.contract_of(session.get_one(Project, project_id))
        is_first = queries.find_epoch(session, project_id, hardware_class) is None
        epoch = begin_run(session, contract, project_id, hardware_class)
        if is_first or epoch.rules < RESPONSES_LEARNT:
            begin_next(session, contract, epoch, estimate(session, contract, epoch))
        if is_first or epoch.rules != RULES:
            derive_again(session, contract, project_id, hardware_class)
            queries.change_epoch(session, epoch, rules=RULES)


def _is_over(session: Conn, epoch: EpochRow) -> bool:
    return queries.count_runs_since(session, epoch) >= max(NEW_RUNS, NEW_SHARE * epoch.runs)


def derive_again(session: Session, contract: Contract, project_id: int, hardware_class: str) -> int:
    """Write all posteriors of a class anew, from the root downwards; returns how many changed."""
    changed = 0
    model = posteriors.find_model(session, contract, project_id, hardware_class)
    for generation in queries.list_generations(session, project_id, hardware_class):
        changed += len(generation)
        changed -= len(posteriors.derive_and_store(session, contract, model, generation, hardware_class)[1])
    promotions.refresh(session, session.get_one(Project, project_id), hardware_class)
    if (epoch := queries.find_epoch(session, project_id, hardware_class)) is not None:
        queries.change_epoch(session, epoch, underived_sha=None, again_sha=None)
    return changed


def list_disputed_noise(session: Session, project_id: int | None = None) -> Iterator[str]:
    """The classes whose noise a maintainer should look at, each in a line."""
    for of_project, hardware_class in queries.list_classes(session):
        epoch = queries.find_epoch(session, of_project, hardware_class)
        if epoch is None or epoch.disputed_noise_sd is None or project_id not in (None, of_project):
            continue
        project = session.get_one(Project, of_project)
        yield (
            f"{project.name} on {hardware_class}: volunteers repeat each other's measurements within "
            f"{epoch.disputed_noise_sd:.2g}, the contract expects {projects.contract_of(project).evidence.noise_sd:g}. "
            f"{epoch.noise_sd:.2g} is used. Look for broken machines and invented numbers; else the contract is wrong."
        )


def list_left_out(session: Session) -> Iterator[str]:
    """The classes that are derived again in the background, so that nothing compares them with their runs yet, each in
    a line."""
    for epoch in queries.list_unsettled(session):
        name = session.get_one(Project, epoch.project_id).name
        yield (
            f"{name} on {epoch.hardware_class}: its numbers are derived again in the background, so they were not "
            "compared with its runs. Ask again in a minute."
        )


def recompute(session: Session) -> int:
    """Write all posteriors anew; returns how many changed. Offsets stay as they are in this epoch."""
    changed = 0
    for project_id, hardware_class in queries.list_classes(session):
        contract = projects.contract_of(session.get_one(Project, project_id))
        begin_run(session, contract, project_id, hardware_class)
        changed += derive_again(session, contract, project_id, hardware_class)
    return changed


def find_differences(session: Session) -> Iterator[str]:
    """All stored numbers that the runs do not give, each in a line. Classes that are derived again in the background
    are left out: it is known that they do not follow yet."""
    for project_id, hardware_class in queries.list_classes(session):
        project = session.get_one(Project, project_id)
        contract = projects.contract_of(project)
        name = f"{project.name} on {hardware_class}"
        epoch = queries.find_epoch(session, project_id, hardware_class)
        if epoch is None:
            yield f"{name}: no epoch was begun"
        if epoch is None or not epoch.is_settled:
            continue
        yield from (f"{name}: {line}" for line in _check_responses(session, contract, epoch))
        for sha in queries.list_judged(session, project_id, hardware_class):
            stored = session.get_one(CommitPosterior, (sha, hardware_class))
            wrong = posteriors.find_wrong_numbers(session, contract, stored)
            if wrong:
                yield f"{name}, commit {sha}: {wrong}"


def _check_responses(session: Session, contract: Contract, epoch: EpochRow) -> Iterator[str]:
    project_id, hardware_class = epoch.project_id, epoch.hardware_class
    derived: dict[int, Response | None] = {}
    if epoch.number > 0:
        runs = queries.list_measured(session, epoch, through_run_id=epoch.through_run_id)
        estimate = derive_epoch(contract, runs, session.get_one(Project, project_id).root_sha)
        derived |= estimate.responses
        if abs(estimate.noise_sd - epoch.noise_sd) > SAME_NUMBER:
            yield f"noise is {epoch.noise_sd}, the runs give {estimate.noise_sd}"
        learnt = derive_effects(session, contract, epoch, estimate, epoch.through_run_id)
        if not _are_same(epoch.effects or {}, learnt):
            yield f"the priors of effects are {epoch.effects}, the runs give {learnt}"
    stored = queries.map_responses(session, project_id, hardware_class)
    for worker_id, run_id, sha in queries.list_newcomers(session, epoch):
        derived[worker_id] = derive_newcomer(session, contract, epoch, worker_id, run_id, sha)
    for worker_id in sorted(stored.keys() | derived.keys()):
        was, is_ = stored.get(worker_id), derived.get(worker_id)
        if (
            was is None
            or is_ is None
            or not _are_same({"": [*was.columns().values()]}, {"": [*is_.columns().values()]})
        ):
            yield f"the offset of worker {worker_id} is {was}, the runs give {is_}"


def _are_same(stored: Mapping[str, Sequence[float]], derived: Mapping[str, Sequence[float]]) -> bool:
    pairs = ((stored[name], derived[name]) for name in derived if name in stored)
    is_near = all(abs(was - is_) <= SAME_NUMBER for one in pairs for was, is_ in zip(*one, strict=True))
    return stored.keys() == derived.keys() and is_near
