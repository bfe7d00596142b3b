"""Questions about the tree of a project's commits. Each reads a bounded number of rows, whatever the project's age."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import CTE, func, select, true
from sqlalchemy.orm import Session

from coordinator.db.engine import LabelledRow
from coordinator.models import Commit, CommitPosterior, Experiment, table_of
from shared.experiments import Standing

_COMMITS, _POSTERIORS, _EXPERIMENTS = table_of(Commit), table_of(CommitPosterior), table_of(Experiment)
_LINK = _COMMITS.c.sha, _COMMITS.c.parent_sha, _COMMITS.c.depth


class TreeLink(NamedTuple):
    """A commit's place in the tree."""

    sha: str
    parent_sha: str | None
    depth: int


def list_best(session: Session, project_id: int, hardware_class: str, sign: float, limit: int) -> list[str]:
    """The commits with the best metrics in a class, the best first, without those that a maintainer must decide on or
    rejected. `sign` is 1 where lower is better, else -1."""
    value = _POSTERIORS.c.metric_mean
    of_class = _POSTERIORS.c.project_id == project_id, _POSTERIORS.c.hardware_class == hardware_class
    order = (value, _POSTERIORS.c.commit_sha) if sign > 0 else (value.desc(), _POSTERIORS.c.commit_sha.desc())
    is_usable = _POSTERIORS.c.standing.not_in((Standing.HELD, Standing.REJECTED))
    query = select(_POSTERIORS.c.commit_sha).where(*of_class, is_usable)
    return list(session.scalars(query.order_by(*order).limit(limit)))


def list_newest(session: Session, project_id: int, limit: int) -> list[str]:
    """The commits of a project's newest experiments."""
    query = select(_EXPERIMENTS.c.commit_sha).where(_EXPERIMENTS.c.project_id == project_id)
    return list(session.scalars(query.order_by(_EXPERIMENTS.c.id.desc()).limit(limit)))


def climb(session: Session, shas: Collection[str], least: int, most: int) -> list[TreeLink]:
    """Commits with their ancestors, at least `least` in all and at most about `most`, if there are so many: as far as
    their lines meet, so that all but the root stand on one of them."""
    links: dict[str, TreeLink] = {}
    size = least
    while shas and most > 0:
        rows = session.execute(select(_up(session, shas)).limit(min(max(size, len(shas)), most))).all()
        links |= {row.sha: TreeLink._make(row) for row in rows}
        ends = [link for link in links.values() if link.depth == 1 or (link.depth and link.parent_sha not in links)]
        above = {link.parent_sha for link in ends if link.parent_sha} - links.keys()
        shas, most, size = above if len(ends) > 1 else (), most - len(rows), 2 * size
    return list(links.values())


def list_path(session: Session, sha: str, among: Collection[str], least_depth: int) -> list[str]:
    """Those of some commits, none of which has a lesser depth, that are a commit or its ancestors."""
    up = _up(session, [sha], least_depth)
    return list(session.scalars(select(up.c.sha).where(up.c.sha.in_(among))))


def _up(session: Session, shas: Collection[str], least_depth: int = 0) -> CTE:
    """Commits with their ancestors, the given ones first."""
    up = select(*_LINK).where(_COMMITS.c.sha.in_(sorted(shas))).cte("up", recursive=True)
    if session.get_bind().dialect.name == "postgresql":  # else it reads all commits again for each generation
        one = select(*_LINK).where(_COMMITS.c.sha == up.c.parent_sha).limit(1).lateral()
        return up.union(select(one).select_from(up.join(one, true())).where(up.c.depth > least_depth))
    return up.union(select(*_LINK).join(up, _COMMITS.c.sha == up.c.parent_sha).where(up.c.depth > least_depth))


def descend(session: Session, sha: str, limit: int) -> list[TreeLink]:
    """A commit with its descendants, the nearest first, at most `limit` in all."""
    down = select(*_LINK).where(_COMMITS.c.sha == sha).cte("down", recursive=True)
    down = down.union_all(select(*_LINK).join(down, _COMMITS.c.parent_sha == down.c.sha))
    return [TreeLink(*row) for row in session.execute(select(down).limit(limit))]


def list_nodes(session: Session, shas: Sequence[str], hardware_class: str) -> Sequence[LabelledRow]:
    """Commits as the tree shows them: `sha`, `experiment_id` and `title` (none of the root), and columns of their
    posterior in the class, if there is one."""
    in_class = (_POSTERIORS.c.commit_sha == _COMMITS.c.sha) & (_POSTERIORS.c.hardware_class == hardware_class)
    made = _COMMITS.outerjoin(_EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _COMMITS.c.sha)
    shown = (_POSTERIORS.c[name] for name in ("metric_mean", "effect_mean", "effect_sd", "verdict", "standing"))
    query = select(_COMMITS.c.sha, _EXPERIMENTS.c.id.label("experiment_id"), _EXPERIMENTS.c.title, *shown)
    query = query.select_from(made.outerjoin(_POSTERIORS, in_class)).where(_COMMITS.c.sha.in_(shas))
    return session.execute(query).all()


def count_children(session: Session, shas: Sequence[str], most: int) -> Mapping[str, int]:
    """The numbers of some commits' children, each counted up to `most`."""
    child = _COMMITS.alias("child")
    some = select(child.c.sha).where(child.c.parent_sha == _COMMITS.c.sha).correlate(_COMMITS).limit(most).subquery()
    counted = select(func.count()).select_from(some).correlate(_COMMITS).scalar_subquery()
    rows = session.execute(select(_COMMITS.c.sha, counted).where(_COMMITS.c.sha.in_(shas)))
    return {sha: int(count) for sha, count in rows}
