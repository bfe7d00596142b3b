"""Jobs that run now."""

from typing import Any, NamedTuple

from sqlalchemy import select

from coordinator.db.cache import TimedCache
from coordinator.db.engine import Conn
from coordinator.models import Lease, Volunteer, Worker, table_of
from coordinator.models.accounts import IS_WORKER_STOPPED
from coordinator.models.base import is_one_of
from coordinator.models.leases import IS_LIVE
from coordinator.selection.step_queries import PROJECT
from shared.experiments import JobKind
from shared.protocol import now

MAX_RUNNING = 100
KEPT_SECONDS = 1.0
"""All live leases are read for these, so they are looked up once a second, however many jobs are claimed."""


class RunningJob(NamedTuple):
    """A live lease whose proposal was accepted. `proposal` is a `shared.experiments.Proposal` as JSON."""

    base_sha: str
    proposal: dict[str, Any]
    tree_sha: str


_LEASES, _WORKERS, _VOLUNTEERS = table_of(Lease), table_of(Worker), table_of(Volunteer)
_RUNNING = (
    select(_LEASES.c.base_sha, _LEASES.c.proposal, _LEASES.c.proposed_tree_sha)
    .select_from(
        _LEASES.join(_WORKERS, _WORKERS.c.id == _LEASES.c.worker_id).join(
            _VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id
        )
    )
    .where(_LEASES.c.project_id == PROJECT, _LEASES.c.proposed_tree_sha.is_not(None), IS_LIVE, ~IS_WORKER_STOPPED)
    # A proposal may become a measurement.
    .where(is_one_of(_LEASES.c.kind, [kind for kind in JobKind if kind.makes_experiment]))
    # By `issued_at` SQLite would go through all leases ever given, in that index's order.
    .order_by(_LEASES.c.expires_at)
    .limit(MAX_RUNNING)
)


_running = TimedCache[int, list[RunningJob]](1_000)


def list_running_jobs(session: Conn, project_id: int) -> list[RunningJob]:
    """The jobs that run now, those heard of longest ago first, at most MAX_RUNNING; none of a stopped account. May be
    KEPT_SECONDS old."""
    given = {"project_id": project_id, "moment": now()}
    return _running.read(
        session, project_id, KEPT_SECONDS, lambda: list(map(RunningJob._make, session.execute(_RUNNING, given).all()))
    )
