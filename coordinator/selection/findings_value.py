"""The worth of findings: jobs whose agents read findings of others, beside jobs drawn at random to go without.

A job counts in its arm from the draw on, so that the page shows if more of one arm are given back. Jobs whose kind
needs no agent to read anything are left out. Intervals take jobs as independent, which those of one volunteer are not.
"""

from math import sqrt

from sqlalchemy import and_, bindparam, case, func, select
from sqlalchemy.orm import Session

from coordinator.models import CommitPosterior, ContextPack, Lease, Project, Run, table_of
from coordinator.projects import service as projects
from shared.experiments import JobKind
from shared.projects import ArmView, FindingsValue, Interval
from shared.runs import RunOutcome

NEWEST_JOBS = 4_000
Z95 = 1.96
"""Half the width of a 95 % interval, in sd of a normal distribution."""

LEAST_VALUES = 20
"""Number of values from which a mean gets an interval: with fewer, the normal distribution's is too narrow."""

_UNREAD = (JobKind.ADOPT, JobKind.ABLATE, JobKind.TUNE, JobKind.COMBINE)

_LEASES, _PACKS, _RUNS, _POSTERIORS = map(table_of, (Lease, ContextPack, Run, CommitPosterior))
_NEWEST = (
    select(
        _LEASES.c.id, _LEASES.c.refused_proposals, _LEASES.c.proposed_tree_sha, _LEASES.c.proposal,
        _PACKS.c.with_findings,
    )
    .join(_PACKS, _PACKS.c.lease_id == _LEASES.c.id)
    .where(_LEASES.c.project_id == bindparam("project_id"), _LEASES.c.kind.not_in(_UNREAD))
    .order_by(_LEASES.c.issued_at.desc())
    .limit(NEWEST_JOBS)
    .subquery()
)  # fmt: skip
_IS_ANSWERED = (_NEWEST.c.refused_proposals > 0) | _NEWEST.c.proposed_tree_sha.is_not(None)
_FAILED = (RunOutcome.CRASHED, RunOutcome.TIMEOUT, RunOutcome.INVALID)
_EFFECT = _POSTERIORS.c.effect_mean
_ARMS = (
    select(
        _NEWEST.c.with_findings,
        func.count(_NEWEST.c.id),
        func.sum(case((_IS_ANSWERED, 1), else_=0)),
        func.sum(case((_NEWEST.c.refused_proposals > 0, 1), else_=0)),
        func.count(_RUNS.c.id),
        func.sum(case((_RUNS.c.outcome.in_(_FAILED), 1), else_=0)),
        func.count(_EFFECT),
        func.sum(_EFFECT),
        func.sum(_EFFECT * _EFFECT),
    )
    .select_from(_NEWEST)
    .outerjoin(_RUNS, and_(_RUNS.c.lease_id == _NEWEST.c.id, _RUNS.c.experiment_id.is_not(None)))
    .outerjoin(
        _POSTERIORS,
        and_(_POSTERIORS.c.commit_sha == _RUNS.c.commit_sha, _POSTERIORS.c.hardware_class == _RUNS.c.hardware_class),
    )
    .group_by(_NEWEST.c.with_findings)
)


def compare_arms(session: Session, project: Project) -> FindingsValue:
    """Duplicates, failed runs and effects of a project's newest jobs, with findings and without."""
    rows = {bool(row[0]): row[1:] for row in session.execute(_ARMS, {"project_id": project.id})}
    share = projects.contract_of(project).packs.without_findings
    nothing = (0,) * 8
    arms = [_view_arm(with_findings, *rows.get(with_findings, nothing)) for with_findings in (True, False)]
    return FindingsValue(newest_jobs=NEWEST_JOBS, share_without=share, arms=arms)


def _view_arm(
    with_findings: bool, jobs: int, answered: int, duplicates: int, runs: int, failed: int, measured: int,
    total: float | None, squares: float | None,
) -> ArmView:  # fmt: skip
    return ArmView(
        with_findings=with_findings,
        jobs=jobs,
        proposed=answered or 0,
        duplicates=estimate_share(duplicates or 0, answered or 0),
        runs=runs or 0,
        failed=estimate_share(failed or 0, runs or 0),
        measured=measured or 0,
        effect=estimate_mean(measured or 0, total or 0.0, squares or 0.0),
    )


def estimate_share(hits: int, trials: int) -> Interval | None:
    """A share with its 95 % interval; None of nothing.

    Wilson's score interval (1927), which stays within 0 and 1 and is honest for few trials.
    """
    if trials == 0:
        return None
    share, z2 = hits / trials, Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 * sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return Interval(value=share, low=max(0.0, centre - half), high=min(1.0, centre + half))


def estimate_mean(count: int, total: float, squares: float) -> Interval | None:
    """A mean with its 95 % interval, from the sum of `count` values and of their squares.

    None below LEAST_VALUES.
    """
    if count < LEAST_VALUES:
        return None
    mean = total / count
    half = Z95 * sqrt(max(0.0, squares - count * mean * mean) / (count - 1) / count)
    return Interval(value=mean, low=mean - half, high=mean + half)
