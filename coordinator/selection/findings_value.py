"""The worth of findings: jobs whose agents read findings of others, beside jobs drawn at random to go without.

A job counts in its arm from the draw on, so that the page shows if more of one arm are given back. Jobs whose kind
needs no agent to read anything are left out. A volunteer's jobs weigh as much together as VOTE of them, so that no
broken machine or made-up result decides; intervals take jobs as independent, which those of one volunteer are not.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import sqrt

from sqlalchemy import and_, bindparam, case, func, select
from sqlalchemy.orm import Session

from coordinator.db.engine import LabelledRow
from coordinator.models import CommitPosterior, ContextPack, Lease, Project, Run, Worker, table_of
from coordinator.projects import service as projects
from shared.experiments import JobKind
from shared.projects import ArmView, FindingsValue, Interval
from shared.runs import RunOutcome

NEWEST_JOBS = 4_000
Z95 = 1.96
"""Half the width of a 95 % interval, in sd of a normal distribution."""

LEAST_VALUES = 20
"""Number of values from which a mean gets an interval: with fewer, the normal distribution's is too narrow."""

VOTE = 8.0
"""Weight of a volunteer, in jobs, however many it did."""

_UNREAD = (JobKind.ADOPT, JobKind.ABLATE, JobKind.TUNE, JobKind.COMBINE)

_LEASES, _PACKS, _RUNS, _POSTERIORS, _WORKERS = map(table_of, (Lease, ContextPack, Run, CommitPosterior, Worker))
_NEWEST = (
    select(
        *(_LEASES.c[name] for name in ("id", "result_key", "refused_proposals", "proposed_tree_sha")),
        _PACKS.c.with_findings, _WORKERS.c.volunteer_id,
    )
    .join(_WORKERS, _WORKERS.c.id == _LEASES.c.worker_id)
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
        func.count(_NEWEST.c.id).label("jobs"),
        func.coalesce(func.sum(case((_IS_ANSWERED, 1), else_=0)), 0).label("answered"),
        func.coalesce(func.sum(case((_NEWEST.c.refused_proposals > 0, 1), else_=0)), 0).label("duplicates"),
        func.count(_RUNS.c.id).label("runs"),
        func.coalesce(func.sum(case((_RUNS.c.outcome.in_(_FAILED), 1), else_=0)), 0).label("failed"),
        func.count(_EFFECT).label("measured"),
        func.coalesce(func.sum(_EFFECT), 0.0).label("effects"),
        func.coalesce(func.sum(_EFFECT * _EFFECT), 0.0).label("squares"),
    )
    .select_from(_NEWEST)
    .outerjoin(_RUNS, and_(_RUNS.c.uuid == _NEWEST.c.result_key, _RUNS.c.experiment_id.is_not(None)))
    .outerjoin(
        _POSTERIORS,
        and_(_POSTERIORS.c.commit_sha == _RUNS.c.commit_sha, _POSTERIORS.c.hardware_class == _RUNS.c.hardware_class),
    )
    .group_by(_NEWEST.c.with_findings, _NEWEST.c.volunteer_id)
)


def compare_arms(session: Session, project: Project) -> FindingsValue:
    """Duplicates, failed runs and effects of a project's newest jobs, with findings and without."""
    arms: defaultdict[bool, list[LabelledRow]] = defaultdict(list)
    for row in session.execute(_ARMS, {"project_id": project.id}):
        arms[bool(row.with_findings)].append(row)
    share = projects.contract_of(project).packs.without_findings
    views = [_view_arm(with_findings, arms[with_findings]) for with_findings in (True, False)]
    return FindingsValue(newest_jobs=NEWEST_JOBS, share_without=share, arms=views)


def _view_arm(with_findings: bool, tallies: Sequence[LabelledRow]) -> ArmView:
    """One arm, from the counts of each volunteer's jobs in it."""
    answered, duplicates, _ = weigh_votes((one.answered, one.duplicates, 0) for one in tallies)
    runs, failed, _ = weigh_votes((one.runs, one.failed, 0) for one in tallies)
    measured, effects, squares = weigh_votes((one.measured, one.effects, one.squares) for one in tallies)
    return ArmView(
        with_findings=with_findings,
        jobs=sum(one.jobs for one in tallies),
        proposed=sum(one.answered for one in tallies),
        duplicates=estimate_share(duplicates, answered),
        runs=sum(one.runs for one in tallies),
        failed=estimate_share(failed, runs),
        measured=sum(one.measured for one in tallies),
        effect=estimate_mean(measured, effects, squares),
    )


def weigh_votes(tallies: Iterable[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Sums over volunteers of a count and of two sums over what was counted, each volunteer's as if of VOTE at most.

    They are scaled to Kish's effective number of observations.
    """
    known = [tally for tally in tallies if tally[0]]
    if not known:
        return (0.0, 0.0, 0.0)
    weights = [min(1.0, VOTE / own) for own, *_ in known]
    count, total, squares = (
        sum(weight * value for weight, value in zip(weights, column, strict=True))
        for column in zip(*known, strict=True)
    )
    number = count**2 / sum(weight**2 * own for weight, (own, *_) in zip(weights, known, strict=True))
    return number, number * total / count, number * squares / count


def estimate_share(hits: float, trials: float) -> Interval | None:
    """A share with its 95 % interval; None of nothing.

    Wilson's score interval (1927), which stays within 0 and 1 and is honest for few trials.
    """
    if trials == 0:
        return None
    share, z2 = hits / trials, Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 * sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return Interval(value=share, low=max(0.0, centre - half), high=min(1.0, centre + half))


def estimate_mean(count: float, total: float, squares: float) -> Interval | None:
    """A mean with its 95 % interval, from the sum of `count` values and of their squares.

    None below LEAST_VALUES.
    """
    if count < LEAST_VALUES:
        return None
    mean = total / count
    half = Z95 * sqrt(max(0.0, squares - count * mean * mean) / (count - 1) / count)
    return Interval(value=mean, low=mean - half, high=mean + half)
