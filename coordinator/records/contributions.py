"""Contributions of volunteers: counts that follow their classes' progress, verified gains, and the leaderboard."""

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.orm import Session

from coordinator.db.cache import TimedCache
from coordinator.db.engine import LabelledRow
from coordinator.models import (
    ClassProgress,
    CommitPosterior,
    Contribution,
    Experiment,
    Project,
    Run,
    TrustRecord,
    Volunteer,
    Worker,
    table_of,
    view_of,
)
from coordinator.models.accounts import IS_STOPPED
from coordinator.models.base import is_of_class
from coordinator.models.evidence import IS_VERIFIED
from coordinator.projects.service import contract_of
from shared.experiments import JobKind
from shared.protocol import now
from shared.workers import Leaderboard, LeaderboardOrder, LeaderboardPeriod, LeaderboardRow

ALL_TIME = ""
CPU_CLASSES = "cpu · %"
"""Pattern of the names of hardware classes that train on CPUs (`shared.runs.Hardware.hardware_class`)."""

MAX_ROWS = 100
"""Rows of a leaderboard."""

KEPT_SECONDS = 60.0
"""Longest age of a leaderboard."""

_RUNS, _WORKERS, _CLASSES = table_of(Run), table_of(Worker), table_of(ClassProgress)
_KEPT = table_of(Contribution)
_MAKERS = {kind for kind in JobKind if kind.makes_experiment}
_boards = TimedCache[tuple[LeaderboardPeriod, int | None], tuple[list[LeaderboardRow], datetime]](100)


class ContributionCounts(NamedTuple):
    """Counts of runs, as `Contribution` stores them."""

    runs: int = 0
    experiments: int = 0
    checks: int = 0
    seconds: float = 0.0

    def add(self, kind: str, seconds: float, *, is_check: bool) -> "ContributionCounts":
        made = kind in _MAKERS
        return ContributionCounts(
            self.runs + 1, self.experiments + made, self.checks + is_check, self.seconds + seconds
        )


class Gained(NamedTuple):
    """A volunteer's verified commits: their number, and the sum of their gains in percent with its sd."""

    commits: int = 0
    percent: float = 0.0
    sd: float = 0.0


class Contributed(NamedTuple):
    """Sums over a volunteer's runs that count."""

    runs: int
    experiments: int
    checks: int
    gpu_hours: float
    cpu_hours: float


NOTHING = Contributed(0, 0, 0, 0.0, 0.0)


def name_month(moment: datetime) -> str:
    return moment.strftime("%Y-%m")


def count_new(session: Session, project_id: int, hardware_class: str, after_run_id: int, last_run_id: int) -> None:
    """Add a class's runs above an id up to another; above 0 its counts are made anew."""
    of_class = _KEPT.c.project_id == project_id, _KEPT.c.hardware_class == hardware_class
    if after_run_id == 0:
        session.execute(delete(_KEPT).where(*of_class))
    counted: dict[tuple[int, str], ContributionCounts] = {}
    columns = _WORKERS.c.volunteer_id, _RUNS.c.finished_at, _RUNS.c.kind, _RUNS.c.total_seconds, _RUNS.c.is_check
    query = select(*columns).join(_WORKERS, _WORKERS.c.id == _RUNS.c.worker_id).where(
        is_of_class(_RUNS.c, project_id, hardware_class),
        _RUNS.c.id > after_run_id, _RUNS.c.id <= last_run_id, _RUNS.c.counts,
    )  # fmt: skip
    for volunteer_id, ended_at, kind, seconds, is_check in session.execute(query):
        for month in (*([name_month(ended_at)] if ended_at else []), ALL_TIME):
            known = counted.get((volunteer_id, month), ContributionCounts())
            counted[volunteer_id, month] = known.add(kind, seconds or 0.0, is_check=is_check)
    for (volunteer_id, month), counts in counted.items():
        its = and_(*of_class, _KEPT.c.volunteer_id == volunteer_id, _KEPT.c.month == month)
        more = {name: _KEPT.c[name] + value for name, value in counts._asdict().items()}
        if session.scalar(select(_KEPT.c.runs).where(its)) is not None:
            session.execute(update(_KEPT).where(its).values(**more))
        else:
            key = {"project_id": project_id, "hardware_class": hardware_class}
            session.execute(insert(_KEPT), key | {"volunteer_id": volunteer_id, "month": month} | counts._asdict())


def find_differences(session: Session) -> Iterator[str]:
    """Classes whose counts of contributions are not what their runs give, each in a line."""
    classes = session.execute(
        select(_CLASSES.c.project_id, _CLASSES.c.hardware_class, _CLASSES.c.through_run_id).where(~_CLASSES.c.is_stale)
    )
    for project_id, hardware_class, through in classes.all():
        of_class = _KEPT.c.project_id == project_id, _KEPT.c.hardware_class == hardware_class
        kept = session.scalar(select(func.coalesce(func.sum(_KEPT.c.runs), 0)).where(*of_class, _KEPT.c.month == ""))
        there = session.scalar(
            select(func.count()).where(
                is_of_class(_RUNS.c, project_id, hardware_class), _RUNS.c.id <= through,
                _RUNS.c.counts
            )
        )  # fmt: skip
        if kept != there:
            yield f"contributions on {hardware_class}: {kept} runs are counted, there are {there}"


def map_contributed(
    session: Session, month: str, project_id: int | None = None, volunteer_id: int | None = None
) -> dict[int, Contributed]:
    """Contributions in a month (empty: in all time), by volunteer."""
    is_cpu = _KEPT.c.hardware_class.like(CPU_CLASSES)
    hours = [func.coalesce(func.sum(_KEPT.c.seconds).filter(one), 0.0) / 3600 for one in (~is_cpu, is_cpu)]
    sums = (func.sum(_KEPT.c[name]) for name in ("runs", "experiments", "checks"))
    query = select(_KEPT.c.volunteer_id, *sums, *hours).where(_KEPT.c.month == month).group_by(_KEPT.c.volunteer_id)
    if project_id is not None:
        query = query.where(_KEPT.c.project_id == project_id)
    if volunteer_id is not None:
        query = query.where(_KEPT.c.volunteer_id == volunteer_id)
    return {row[0]: Contributed(*row[1:]) for row in session.execute(query)}


def map_gained(
    session: Session, since: datetime | None, project_id: int | None = None, volunteer_id: int | None = None
) -> dict[int, Gained]:
    """Verified gains of volunteers, by volunteer. A commit's is its milestone in percent of the metric that it started
    from, the largest of those in its hardware classes. The sd of a sum takes its gains to be independent."""
    signs = {one.id: contract_of(one).objective.sign for one in session.scalars(select(Project))}
    columns: list[Any] = [Experiment.id, Experiment.project_id, Worker.volunteer_id]
    columns += [CommitPosterior.milestone_mean, CommitPosterior.milestone_sd, CommitPosterior.metric_mean]
    query = (
        select(*columns)
        .join(Experiment, Experiment.commit_sha == CommitPosterior.commit_sha)
        .join(Worker, Worker.id == Experiment.worker_id)
        .where(IS_VERIFIED, CommitPosterior.milestone_mean.is_not(None))
    )
    for column, value in ((Experiment.project_id, project_id), (Worker.volunteer_id, volunteer_id)):
        query = query if value is None else query.where(column == value)
    if since is not None:
        query = query.where(Experiment.done_at >= since)
    best: dict[tuple[int, int], tuple[float, float]] = {}
    for experiment_id, of_project, owner, milestone, sd, metric in session.execute(query):
        start = abs(metric - milestone)
        gain = (-signs[of_project] * milestone / start * 100, (sd or 0.0) / start * 100) if start else (0.0, 0.0)
        best[owner, experiment_id] = max(best.get((owner, experiment_id), (0.0, 0.0)), gain)
    found: dict[int, Gained] = {}
    for (owner, _), (percent, sd) in best.items():
        known = found.get(owner, Gained())
        found[owner] = Gained(known.commits + 1, known.percent + percent, math.hypot(known.sd, sd))
    return found


def view_leaderboard(
    session: Session, period: LeaderboardPeriod, order: LeaderboardOrder, project: Project | None
) -> Leaderboard:
    """Volunteers who contributed most, at most KEPT_SECONDS old. Those who stand in no list, or are stopped, are left
    out."""
    key = period, project.id if project else None
    rows, counted_at = _boards.read(session, key, KEPT_SECONDS, lambda: (_list_rows(session, *key), now()))
    ranked = sorted(
        (row for row in rows if _measure(row, order) > 0), key=lambda row: (-_measure(row, order), row.name)
    )
    return Leaderboard(
        period=period, order=order, project=project.name if project else None, counted_at=counted_at,
        items=[row.model_copy(update={"rank": rank}) for rank, row in enumerate(ranked[:MAX_ROWS], 1)],
    )  # fmt: skip


def _measure(row: LeaderboardRow, order: LeaderboardOrder) -> float:
    return {
        LeaderboardOrder.GAIN: row.gain_percent,
        LeaderboardOrder.REPLICATIONS: float(row.replications),
        LeaderboardOrder.HOURS: row.gpu_hours + row.cpu_hours,
    }[order]


def _list_rows(session: Session, period: LeaderboardPeriod, project_id: int | None) -> list[LeaderboardRow]:
    """A row for each volunteer who did something and may be named, without a rank."""
    start = now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    is_month = period == LeaderboardPeriod.MONTH
    done = map_contributed(session, name_month(start) if is_month else ALL_TIME, project_id)
    gained = map_gained(session, start if is_month else None, project_id)
    listed = session.execute(select(Volunteer.id, Volunteer.name).where(~IS_STOPPED, ~Volunteer.is_unlisted))
    return [
        view_row(name, done.get(volunteer_id, NOTHING), gained.get(volunteer_id, Gained()))
        for volunteer_id, name in listed
        if volunteer_id in done or volunteer_id in gained
    ]


def view_row(name: str, done: Contributed, gained: Gained) -> LeaderboardRow:
    """A volunteer's contribution, without a rank."""
    return view_of(
        LeaderboardRow, done, rank=0, name=name, gain_percent=gained.percent, gain_sd_percent=gained.sd,
        verified=gained.commits, replications=done.checks,
    )  # fmt: skip


def view_volunteer(session: Session, name: str, volunteer_id: int) -> LeaderboardRow:
    """A volunteer's contribution in all time."""
    done = map_contributed(session, ALL_TIME, volunteer_id=volunteer_id).get(volunteer_id, NOTHING)
    gained = map_gained(session, None, volunteer_id=volunteer_id).get(volunteer_id, Gained())
    return view_row(name, done, gained)


def count_trust(session: Session, volunteer_id: int) -> LabelledRow:
    """Replications of a volunteer's measurements in all projects: `agreements` since the last contradiction, and
    `contradictions`."""
    columns: list[Any] = [TrustRecord.agreements, TrustRecord.contradictions]
    its = and_(TrustRecord.project_id == Project.id, TrustRecord.volunteer_id == volunteer_id)
    query = (
        select(*(func.coalesce(func.sum(one), 0).label(one.key) for one in columns))
        .select_from(Project)
        .join(TrustRecord, its)
    )
    return session.execute(query).one()
