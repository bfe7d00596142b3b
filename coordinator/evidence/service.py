"""What a new run changes: its commit's posterior, and those of the commits that descend from it."""

from dataclasses import dataclass
from math import isclose
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.errors import NotFoundError
from coordinator.evidence import queries, statistics
from coordinator.evidence.queries import find_posterior as find_posterior
from coordinator.evidence.queries import has_run as has_run
from coordinator.evidence.queries import list_runs_of_commit as list_runs_of_commit
from coordinator.evidence.statistics import Noise, Normal
from coordinator.lineage import service as lineage
from coordinator.models import Commit, CommitPosterior, Project, Run
from coordinator.paging import cut_page
from shared.contract import Contract
from shared.experiments import Posterior, Standing, Verdict
from shared.hardware import Hardware
from shared.protocol import Page, now
from shared.runs import CurvePoint, RunReport, RunSeconds
from shared.runs import Run as RunView

SAME_NUMBER = 1e-9
"""How far a stored number may be, absolutely or relatively, from the one that its runs give."""


@dataclass(frozen=True)
class DerivedPosterior:
    """What the runs say of a commit in a hardware class, by the stored posterior of its nearest measured ancestor."""

    metric: Normal
    effect: Normal | None
    runs: int
    verdict: Verdict | None
    standing: Standing
    rank_score: float


def store_run(
    session: Session, project_id: int, worker_id: int, lease_id: UUID, report: RunReport, experiment_id: int | None
) -> int:
    """Add a run's row; returns its id."""
    columns = {
        "uuid": report.id,
        "project_id": project_id,
        "commit_sha": report.commit_sha,
        "experiment_id": experiment_id,
        "worker_id": worker_id,
        "lease_id": lease_id,
        "hardware_class": report.hardware.hardware_class,
        "hardware": report.hardware.model_dump(mode="json"),
        "seed": report.seed,
        "outcome": report.outcome,
        "metric": report.metric,
        "reason": report.reason,
        "frame": report.frame,
        "starting_seconds": report.seconds.starting,
        "training_seconds": report.seconds.training,
        "scoring_seconds": report.seconds.scoring,
        "total_seconds": report.seconds.total,
        "steps": report.steps,
        "tokens": report.tokens,
        "parameters": report.parameters,
        "scored_bytes": report.scored_bytes,
        "peak_memory_mib": report.peak_memory_mib,
        "curve": [[point.step, point.seconds, point.loss] for point in report.curve],
        "log_tail": report.log_tail,
        "sandbox": report.sandbox,
        "started_at": report.started_at,
        "finished_at": report.finished_at,
        "created_at": now(),
    }
    return queries.add_run(session, columns)


def refresh_posteriors(session: Session, contract: Contract, sha: str, hardware_class: str) -> CommitPosterior | None:
    """Bring up to date what the runs say of a commit and of its measured descendants; returns the commit's own."""
    commit = lineage.get_commit(session, sha)
    posterior = _refresh_one(session, contract, commit, hardware_class)
    generation = [sha]
    while generation:
        children = lineage.list_children(session, generation)
        for child in children:
            _refresh_one(session, contract, child, hardware_class)
        generation = [child.sha for child in children]
    return posterior


def _refresh_one(session: Session, contract: Contract, commit: Commit, hardware_class: str) -> CommitPosterior | None:
    derived = _derive(session, contract, commit, hardware_class)
    if derived is None:
        return None
    row = queries.find_posterior(session, commit.sha, hardware_class)
    if row is None:
        row = CommitPosterior(commit_sha=commit.sha, hardware_class=hardware_class, project_id=commit.project_id)
        session.add(row)
    row.metric_mean, row.metric_sd, row.runs = derived.metric.mean, derived.metric.sd, derived.runs
    if derived.effect is not None:
        row.effect_mean, row.effect_sd = derived.effect.mean, derived.effect.sd
    row.verdict, row.standing, row.rank_score = derived.verdict, derived.standing, derived.rank_score
    row.updated_at = now()
    session.flush()
    return row


def _derive(session: Session, contract: Contract, commit: Commit, hardware_class: str) -> DerivedPosterior | None:
    """The posterior that a commit's runs give; None where no run counts. Nothing is stored."""
    values = queries.list_measured_values(session, commit.sha, hardware_class)
    if not values:
        return None
    noise = Noise(contract.evidence.noise_sd, contract.evidence.effect_sd)
    ancestor, steps = _find_measured_ancestor(session, commit, hardware_class)
    metric = statistics.commit_posterior(ancestor, steps, values, noise)
    effect, verdict = None, None
    if ancestor is not None:
        effect = statistics.effect_posterior(ancestor, steps, values, noise)
        verdict = statistics.judge(effect, contract.objective.sign, contract.objective.min_effect)
    standing = Standing.HELD if _is_implausible(contract, values) else Standing.PROVISIONAL
    return DerivedPosterior(metric, effect, len(values), verdict, standing, contract.objective.sign * metric.mean)


def find_wrong_numbers(session: Session, contract: Contract, stored: CommitPosterior) -> str:
    """How a stored posterior differs from what its runs give, in words; empty where it does not."""
    derived = _derive(session, contract, lineage.get_commit(session, stored.commit_sha), stored.hardware_class)
    if derived is None:
        return "it has no runs that count"
    pairs = {
        "metric_mean": (stored.metric_mean, derived.metric.mean),
        "metric_sd": (stored.metric_sd, derived.metric.sd),
        "effect_mean": (stored.effect_mean, derived.effect.mean if derived.effect else None),
        "effect_sd": (stored.effect_sd, derived.effect.sd if derived.effect else None),
        "rank_score": (stored.rank_score, derived.rank_score),
        "runs": (stored.runs, derived.runs),
        "verdict": (stored.verdict, derived.verdict),
        "standing": (stored.standing, derived.standing),
    }
    return ", ".join(f"{name} is {was}, the runs give {is_}" for name, (was, is_) in pairs.items() if _differ(was, is_))


def _differ(stored: float | str | None, derived: float | str | None) -> bool:
    if isinstance(stored, int | float) and isinstance(derived, int | float):
        return not isclose(stored, derived, rel_tol=SAME_NUMBER, abs_tol=SAME_NUMBER)
    return stored != derived


def _find_measured_ancestor(session: Session, commit: Commit, hardware_class: str) -> tuple[Normal | None, int]:
    """The nearest ancestor with a posterior in the class, and how many commits above it stands."""
    above, steps = commit.parent_sha, 1
    while above is not None:
        row = queries.find_posterior(session, above, hardware_class)
        if row is not None:
            return Normal(row.metric_mean, row.metric_sd), steps
        above = lineage.get_commit(session, above).parent_sha
        steps += 1
    return None, 0


def _is_implausible(contract: Contract, values: list[float]) -> bool:
    """Too good to be believed without a maintainer: beyond the contract's plausible floor."""
    sign = contract.objective.sign
    return min(sign * value for value in values) < sign * contract.objective.plausible_floor


def view_posterior(row: CommitPosterior | None) -> Posterior | None:
    if row is None:
        return None
    return Posterior(
        metric_mean=row.metric_mean,
        metric_sd=row.metric_sd,
        effect_mean=row.effect_mean,
        effect_sd=row.effect_sd,
        runs=row.runs,
        verdict=row.verdict,
        standing=Standing(row.standing),
    )


def view_page(session: Session, project: Project, before_id: int | None, limit: int) -> Page[RunView]:
    """A page of a project's runs, newest first."""
    rows = queries.list_runs(session, project.id, before_id, limit + 1)
    return cut_page([view_run(run, worker, project.name) for run, worker in rows], limit, lambda run: run.id)


def view_one(session: Session, run_id: int) -> RunView:
    """One run. Raises NotFoundError."""
    row = queries.find_run(session, run_id)
    if row is None:
        raise NotFoundError(f"There is no run {run_id}.")
    run, worker = row
    return view_run(run, worker, session.get_one(Project, run.project_id).name)


def view_run(run: Run, worker_name: str, project_name: str) -> RunView:
    return RunView(
        id=run.id,
        uuid=run.uuid,
        project=project_name,
        commit_sha=run.commit_sha,
        experiment_id=run.experiment_id,
        worker=worker_name,
        seed=run.seed,
        outcome=run.outcome,
        metric=run.metric,
        reason=run.reason,
        frame=run.frame,
        hardware_class=run.hardware_class,
        hardware=Hardware.model_validate(run.hardware),
        sandbox=run.sandbox,
        seconds=RunSeconds(
            starting=run.starting_seconds,
            training=run.training_seconds,
            scoring=run.scoring_seconds,
            total=run.total_seconds,
        ),
        steps=run.steps,
        tokens=run.tokens,
        parameters=run.parameters,
        peak_memory_mib=run.peak_memory_mib,
        curve=[CurvePoint(step=step, seconds=seconds, loss=loss) for step, seconds, loss in run.curve],
        log_tail=run.log_tail,
        started_at=run.started_at,
        finished_at=run.finished_at,
        created_at=run.created_at,
    )
