"""Ends epochs and derives posteriors beside requests, in transactions so short that no result waits long for one.

What is due stands in the epoch's row, so that it outlasts a restart. Estimates are made from what one transaction
reads, and stored by another if nothing that they rest on was decided meanwhile; runs that came meanwhile belong to the
new epoch. Then posteriors are derived from the root downwards, some at a time. A result that is stored meanwhile
derives its own; what is below it and not derived yet follows.
"""

from collections import deque
from time import monotonic, sleep

from coordinator.db.database import Database
from coordinator.db.locks import AdvisoryLock, try_lock_until_commit
from coordinator.evidence import calibration_queries as queries
from coordinator.evidence import epochs, posteriors, promotions
from coordinator.evidence.calibration_queries import EpochRow
from coordinator.lineage.commits import get_commit
from coordinator.models import Project
from coordinator.projects import service as projects
from shared.protocol import now

AT_ONCE = 200
"""Number of posteriors that are derived in one transaction."""

MOST_SECONDS = 2.0
"""Seconds after which the task is done for now, so that a coordinator that stops need not wait for it."""


def end_due_epochs(database: Database, *, always: bool = False) -> int:
    """Note that the epoch of each class is over where enough runs came; returns in how many."""
    with database.read() as session:
        over = epochs.list_over(session, always=always)
    for epoch in over:
        with database.write() as session:
            if queries.lock_epoch(session, epoch.project_id, epoch.hardware_class) == epoch:
                queries.change_epoch(session, epoch, ended_at=now())
    return len(over)


def follow_decisions(database: Database, most_seconds: float = MOST_SECONDS) -> None:
    """Begin the epochs that are due, and derive posteriors by them, for some seconds.

    A class whose estimates fail holds up no other; the first such error is raised at the end.
    """
    until, failed = monotonic() + most_seconds, list[Exception]()
    with database.read() as session:
        due = queries.list_unsettled(session)
    for epoch in due:
        try:
            if epoch.ended_at is not None:
                _begin_next(database, epoch)
        except (ArithmeticError, ValueError) as error:  # of numbers that strangers reported
            failed.append(error)
    waiting = deque(due)
    while waiting and monotonic() < until:
        began, epoch = monotonic(), waiting.popleft()
        if _derive_some(database, epoch):
            waiting.append(epoch)  # classes take turns, so that a large one does not hold up the others
            sleep(min(1.0, monotonic() - began))  # the turn of others: results, and requests that compute
    if failed:
        raise failed[0]


def _begin_next(database: Database, ended: EpochRow) -> None:
    """Begin the epoch after one, unless another replica is about to, or a decision changed what it is made from."""
    with database.read() as session:
        if not try_lock_until_commit(session, AdvisoryLock.EPOCHS):
            return
        contract = projects.contract_of(session.get_one(Project, ended.project_id))
        found = epochs.estimate(session, contract, ended)
    with database.write() as session:
        epoch = queries.lock_epoch(session, ended.project_id, ended.hardware_class)
        if epoch is not None and epoch.is_as(ended):
            epochs.begin_next(session, contract, ended, found)


def _derive_some(database: Database, of: EpochRow) -> bool:
    """Derive the next posteriors of a class that are due; returns whether there were any."""
    with database.write() as session:
        epoch = queries.lock_epoch(session, of.project_id, of.hardware_class)
        if epoch is None or epoch.underived_sha is None:
            return False
        project = session.get_one(Project, epoch.project_id)
        contract, name = projects.contract_of(project), epoch.hardware_class
        model = posteriors.find_model(session, contract, project.id, name)
        first = get_commit(session, epoch.underived_sha)
        generations = queries.list_generations(session, project.id, name, first, AT_ONCE + 1)
        count = sum(map(len, generations))
        following = generations[-1].pop() if count > AT_ONCE else None
        nearest: posteriors.NearestMeasured = {}
        for generation in filter(None, generations):
            posteriors.derive_and_store(session, contract, model, generation, name, nearest)
        if following is None:
            promotions.refresh(session, project, name)
            queries.change_epoch(session, epoch, underived_sha=epoch.again_sha, again_sha=None)
        else:
            queries.change_epoch(session, epoch, underived_sha=following.sha)
        return True
