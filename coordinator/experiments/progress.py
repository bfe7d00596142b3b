"""A project's progress in one hardware class."""

from sqlalchemy.orm import Session

from coordinator.evidence import service as evidence
from coordinator.experiments import queries
from coordinator.experiments.queries import ProgressRow
from coordinator.models import CommitPosterior, Project
from coordinator.projects import service as projects
from shared.experiments import Standing
from shared.records import HardwareClassCount, ProgressPoint, ProjectProgress
from shared.runs import RunOutcome

MAX_POINTS = 5000


def view_progress(session: Session, project: Project, hardware_class: str | None) -> ProjectProgress:
    """Every run of a project in a hardware class; without one, in the class with the most runs."""
    objective = projects.contract_of(project).objective
    classes = queries.list_hardware_classes(session, project.id)
    chosen = hardware_class or (classes[0][0] if classes else None)
    rows = queries.list_progress(session, project.id, chosen, MAX_POINTS) if chosen else []
    points, leader = _follow_leader(rows)
    return ProjectProgress(
        project=project.name,
        metric=objective.metric,
        unit=objective.unit,
        direction=objective.direction,
        hardware_class=chosen,
        hardware_classes=[HardwareClassCount(name=name, runs=runs) for name, runs in classes],
        experiments=queries.count_experiments(session, project.id),
        points=points,
        leader_sha=leader.commit_sha if leader else None,
        leader_id=leader.experiment_id if leader else None,
    )


def _follow_leader(rows: list[ProgressRow]) -> tuple[list[ProgressPoint], ProgressRow | None]:
    points: list[ProgressPoint] = []
    leader: ProgressRow | None = None
    for row in rows:
        if _may_lead(row.posterior) and (leader is None or _score(row) < _score(leader)):
            leader = row
        points.append(
            ProgressPoint(
                run_id=row.run_id,
                experiment_id=row.experiment_id,
                sha=row.commit_sha,
                title=row.title or "the project's seed, unchanged",
                outcome=RunOutcome(row.outcome),
                metric=row.metric,
                reason=row.reason,
                posterior=evidence.view_posterior(row.posterior),
                leading=leader.posterior.metric_mean if leader and leader.posterior else None,
                finished_at=row.finished_at,
            )
        )
    return points, leader


def _may_lead(posterior: CommitPosterior | None) -> bool:
    return posterior is not None and posterior.standing != Standing.HELD


def _score(row: ProgressRow) -> float:
    assert row.posterior is not None
    return row.posterior.rank_score
