"""Computes each kind of experiment's share of a project's jobs: the contract's at first, then by confirmed gains.

A kind's rate is the effects of its experiments that verified commits are built on, per GPU-second, shrunk towards the
rate of all kinds as if by PRIOR_RUNS more runs. A share is the contract's times the rate, with a floor.
"""

from collections.abc import Mapping
from functools import lru_cache

from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.db.engine import Conn
from coordinator.db.locks import AdvisoryLock, try_lock_until_commit
from coordinator.events import service as events
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.projects.lookup import list_projects
from coordinator.selection import queries
from coordinator.selection.queries import KindTally
from shared.contract import JobMix
from shared.events import EventKind
from shared.experiments import JobKind
from shared.projects import KindShareView
from shared.protocol import now

FLOOR = 0.05  # smallest share of a kind that the contract uses
PRIOR_RUNS = 24.0  # weight of the common rate in each kind's rate, in typical runs
MOST_RATE = 10.0  # largest ratio of a kind's rate to the common rate; its inverse is the smallest


def start_shares(mix: JobMix) -> dict[JobKind, float]:
    """The contract's shares of the kinds that make experiments, without kinds that are off; their sum is one."""
    given: dict[JobKind, float] = {kind: getattr(mix, kind) for kind in JobKind if kind.makes_experiment}
    total = sum(given.values())
    return {kind: share / total for kind, share in given.items() if share > 0}


@lru_cache(maxsize=256)
def share_by_contract(mix: JobMix) -> dict[JobKind, float]:
    """The shares while nothing is known of the gains."""
    return raise_to_floor(start_shares(mix))


def adapt_shares(mix: JobMix, tallies: Mapping[JobKind, KindTally]) -> dict[JobKind, float]:
    """The kinds' shares after their gains; their sum is one."""
    start = start_shares(mix)
    seconds = sum(tally.gpu_seconds for tally in tallies.values())
    gain = sum(tally.gain for tally in tallies.values())
    experiments = sum(tally.experiments for tally in tallies.values())
    if seconds <= 0 or gain <= 0:
        return raise_to_floor(start)
    prior = PRIOR_RUNS * seconds / experiments
    rates = {}
    for kind in start:
        tally = tallies.get(kind, KindTally())
        relative = (tally.gain / gain + prior / seconds) / (tally.gpu_seconds / seconds + prior / seconds)
        rates[kind] = min(max(relative, 1 / MOST_RATE), MOST_RATE)
    total = sum(start[kind] * rate for kind, rate in rates.items())
    return raise_to_floor({kind: start[kind] * rate / total for kind, rate in rates.items()})


def raise_to_floor(shares: Mapping[JobKind, float]) -> dict[JobKind, float]:
    """Raise shares to the floor; the others shrink in proportion."""
    low: set[JobKind] = set()
    while True:
        rest = sum(share for kind, share in shares.items() if kind not in low)
        scale = (1 - FLOOR * len(low)) / rest if rest else 0.0
        below = {kind for kind, share in shares.items() if kind not in low and share * scale < FLOOR}
        if not below:
            return {kind: FLOOR if kind in low else share * scale for kind, share in shares.items()}
        low |= below


FIRST, GROWTH = 16, 1.25  # shares are adapted at GROWTH times as many experiments as last time, plus FIRST


def adapt_if_due(database: Database) -> None:
    """Adapt the shares of all projects where that is due. Every process may do so: one does, the others go on."""
    with database.read() as session:
        if not _list_due(session):
            return
    with database.write() as session:
        if try_lock_until_commit(session, AdvisoryLock.JOB_MIX):
            for project in _list_due(session):
                adapt_project(session, project)


def _list_due(session: Session) -> list[Project]:
    """Projects with enough new experiments."""
    due = []
    for project in list_projects(session):
        before = sum(row.experiments for row in queries.list_shares(session, project.id))
        if queries.count_experiments(session, project.id) >= GROWTH * before + FIRST:
            due.append(project)
    return due


def adapt_project(session: Conn, project: Project) -> None:
    """Compute a project's shares anew, from its job mix and its gains."""
    mix, tallies = projects.contract_of(project).jobs, _map_tallies(session, project)
    shares = adapt_shares(mix, tallies)
    queries.replace_shares(session, project.id, shares, tallies, now())
    rounded = {kind.value: round(share, 4) for kind, share in shares.items()}
    events.record(session, EventKind.SHARES_ADAPTED, project.id, shares=rounded)


def compute_shares(session: Conn, project: Project, mix: JobMix) -> dict[JobKind, float]:
    """The shares that a project would have with another job mix."""
    return adapt_shares(mix, _map_tallies(session, project))


def _map_tallies(session: Conn, project: Project) -> dict[JobKind, KindTally]:
    sign = projects.contract_of(project).objective.sign
    gains: dict[JobKind, float] = {}
    for kind, effect in queries.list_confirmed(session, project.id):
        gains[kind] = gains.get(kind, 0.0) + max(0.0, -sign * effect)
    costs = queries.map_costs(session, project.id)
    return {kind: KindTally(count, seconds, gains.get(kind, 0.0)) for kind, (count, seconds) in costs.items()}


def view_shares(session: Session, project: Project) -> list[KindShareView]:
    """The shares of the kinds of experiment, with what they follow from; the contract's while nothing is known."""
    rows = queries.list_shares(session, project.id)
    if rows:
        return [KindShareView.model_validate(row, from_attributes=True) for row in rows]
    start = share_by_contract(projects.contract_of(project).jobs)
    return [
        KindShareView(kind=kind, share=share, gain=0, gpu_seconds=0, experiments=0) for kind, share in start.items()
    ]
