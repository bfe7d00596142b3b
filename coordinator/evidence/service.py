"""Storing runs, and showing them."""

from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.errors import NotFoundError
from coordinator.evidence import queries
from coordinator.evidence.posteriors import DerivedPosterior as DerivedPosterior
from coordinator.evidence.posteriors import find_wrong_numbers as find_wrong_numbers
from coordinator.evidence.posteriors import refresh_posteriors as refresh_posteriors
from coordinator.evidence.queries import find_posterior as find_posterior
from coordinator.evidence.queries import has_run as has_run
from coordinator.evidence.queries import list_runs_of_commit as list_runs_of_commit
from coordinator.models import CommitPosterior, Project, Run
from coordinator.paging import cut_page
from shared.experiments import Posterior, Standing
from shared.hardware import Hardware
from shared.protocol import Page, now
from shared.runs import CurvePoint, RunReport, RunSeconds
from shared.runs import Run as RunView


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
