"""Shares of kinds follow what they gained: a task looks now and then whether enough experiments came since.

What a kind's experiments gained is confirmed where verified commits were built upon them: it is the sum of their
effects, each from the class where it is known best. Adopted steps count as well as the experiments that adopted them:
both were needed. A pass reads the lines of verified commits; passes become rarer as the project grows.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy.orm import Session

from coordinator.background import BackgroundTasks
from coordinator.db.database import Database
from coordinator.events import service as activity
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.selection import adaptation_queries as queries
from coordinator.selection.job_mix import KindTally, adapt_shares, raise_to_floor, start_shares
from shared.events import EventKind
from shared.experiments import JobKind
from shared.projects import KindShareView
from shared.protocol import now

FIRST = 16
GROWTH = 1.25
"""Shares are adapted when there are so many times the experiments of the last time, and FIRST more."""


@asynccontextmanager
async def run_adaptation(app: FastAPI) -> AsyncIterator[None]:
    """Adapt shares while the application lives. Replicas may all do so: the first one finds work."""
    database: Database = app.state.database
    tasks: BackgroundTasks = app.state.background
    async with tasks.repeat("job mix", app.state.settings.epoch_check_seconds, lambda: _adapt_if_due(database)):
        yield


def _adapt_if_due(database: Database) -> None:
    with database.read() as session:
        is_due = any(_is_due(session, project) for project in projects.list_projects(session))
    if is_due:
        with database.write() as session:
            adapt(session)


def adapt(session: Session) -> int:
    """Adapt the shares of all projects where that is due; returns of how many."""
    due = [project for project in projects.list_projects(session) if _is_due(session, project)]
    for project in due:
        _adapt_project(session, project)
    return len(due)


def _is_due(session: Session, project: Project) -> bool:
    before = sum(row.experiments for row in queries.list_shares(session, project.id))
    return queries.count_experiments(session, project.id) >= GROWTH * before + FIRST


def _adapt_project(session: Session, project: Project) -> None:
    contract = projects.contract_of(project)
    sign = contract.objective.sign
    gains: dict[JobKind, float] = {}
    for kind, effect in queries.list_confirmed(session, project.id):
        gains[kind] = gains.get(kind, 0.0) + max(0.0, -sign * effect)
    costs = queries.map_costs(session, project.id)
    tallies = {kind: KindTally(count, seconds, gains.get(kind, 0.0)) for kind, (count, seconds) in costs.items()}
    shares = adapt_shares(contract.jobs, tallies)
    queries.replace_shares(session, project.id, shares, tallies, now())
    told = {kind.value: round(share, 4) for kind, share in shares.items()}
    activity.record(session, EventKind.SHARES_ADAPTED, project.id, shares=told)


def view_shares(session: Session, project: Project) -> list[KindShareView]:
    """The shares of the kinds of experiment, with what they follow from; the contract's while nothing is known."""
    rows = queries.list_shares(session, project.id)
    if rows:
        return [
            KindShareView(
                kind=JobKind(row.kind), share=row.share, gain=row.gain, gpu_seconds=row.gpu_seconds,
                experiments=row.experiments,
            )
            for row in rows
        ]  # fmt: skip
    start = raise_to_floor(start_shares(projects.contract_of(project).jobs))
    return [
        KindShareView(kind=kind, share=share, gain=0, gpu_seconds=0, experiments=0) for kind, share in start.items()
    ]
