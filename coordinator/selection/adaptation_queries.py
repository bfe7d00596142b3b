"""What the kinds of experiment took and brought, and the shares that follow."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from coordinator.models import Commit, CommitPosterior, Experiment, KindShare, Run, table_of
from coordinator.selection import step_queries
from coordinator.selection.job_mix import NOTHING, KindTally
from shared.experiments import JobKind, Standing

CONFIRMED = (Standing.VERIFIED, Standing.SINGLE_OWNER)

_COMMITS, _POSTERIORS, _RUNS = table_of(Commit), table_of(CommitPosterior), table_of(Run)
_EXPERIMENTS, _SHARES = table_of(Experiment), table_of(KindShare)


def count_experiments(session: Session, project_id: int) -> int:
    return session.scalar(select(func.count()).where(_EXPERIMENTS.c.project_id == project_id)) or 0


def list_shares(session: Session, project_id: int) -> Sequence[KindShare]:
    query = select(KindShare).where(KindShare.project_id == project_id).order_by(KindShare.share.desc())
    return session.scalars(query.execution_options(populate_existing=True)).all()


def map_costs(session: Session, project_id: int) -> dict[JobKind, tuple[int, float]]:
    """Of each kind, how many runs made experiments, and the seconds that they took in all."""
    query = (
        select(_RUNS.c.kind, func.count(), func.sum(_RUNS.c.total_seconds))
        .where(_RUNS.c.project_id == project_id)
        .group_by(_RUNS.c.kind)
    )
    rows = [(JobKind(kind), count, seconds) for kind, count, seconds in session.execute(query)]
    return {kind: (count, seconds) for kind, count, seconds in rows if kind.makes_experiment}


def list_confirmed(session: Session, project_id: int) -> list[tuple[JobKind, float]]:
    """The experiments that verified commits are built upon, each with its kind and the effect that is known best."""
    line = (
        select(_POSTERIORS.c.commit_sha.label("sha"))
        .where(_POSTERIORS.c.project_id == project_id, _POSTERIORS.c.standing.in_(CONFIRMED))
        .cte("line", recursive=True)
    )
    line = line.union(select(_COMMITS.c.parent_sha).join(line, _COMMITS.c.sha == line.c.sha))
    ids = set(session.scalars(select(_EXPERIMENTS.c.id).join(line, line.c.sha == _EXPERIMENTS.c.commit_sha)))
    while new := step_queries.find_adopted_by(session, sorted(ids)) - ids:
        ids |= new
    return step_queries.list_surest_effects(session, sorted(ids))


def replace_shares(
    session: Session, project_id: int, shares: Mapping[JobKind, float], tallies: Mapping[JobKind, KindTally],
    moment: datetime,
) -> None:  # fmt: skip
    through = session.scalar(select(func.max(_RUNS.c.id)).where(_RUNS.c.project_id == project_id)) or 0
    session.execute(delete(_SHARES).where(_SHARES.c.project_id == project_id))
    session.execute(
        insert(_SHARES),
        [
            {"project_id": project_id, "kind": kind, "share": share, "through_run_id": through, "updated_at": moment}
            | tallies.get(kind, NOTHING)._asdict()
            for kind, share in shares.items()
        ],
    )
