"""Questions about a whole database: what refers to nothing, and everything page by page."""

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, ForeignKey, Row, Table, and_, exists, func, or_, select, text, tuple_
from sqlalchemy.orm import Session, aliased

from coordinator.db.engine import engine_of
from coordinator.models import (
    Base,
    Branch,
    BranchMove,
    Commit,
    CommitPosterior,
    Experiment,
    Finding,
    Lease,
    Project,
    Run,
)
from shared.leases import LeaseState
from shared.runs import RunOutcome

ROWS_AT_ONCE = 1_000


class CommitWithTrees(NamedTuple):
    """A commit and its parent, by their trees."""

    sha: str
    tree_sha: str
    parent_tree_sha: str
    depth: int


class Dangling(NamedTuple):
    """A row that refers to one that is not there."""

    table: str
    key: str
    column: str
    value: str


def list_file_damage(session: Session) -> list[str]:
    """The damage that SQLite finds in its file; always empty on PostgreSQL."""
    if engine_of(session).dialect.name != "sqlite":
        return []
    return [line for line in session.scalars(text("pragma quick_check")) if line != "ok"]


def analyze(session: Session) -> None:
    """Have PostgreSQL look how large its tables are, however long it takes: it plans by that, and no dump says it."""
    session.execute(text("SET LOCAL statement_timeout = 0"))
    session.execute(text("ANALYZE"))


def list_dangling(session: Session) -> Iterator[Dangling]:
    """Rows whose foreign keys lead nowhere: keys hold only while they are enforced, and files can be edited."""
    for table in Base.metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda key: key.parent.name):
            yield from _list_dangling_of(session, table, key)


def _list_dangling_of(session: Session, table: Table, key: ForeignKey) -> Iterator[Dangling]:
    referred = key.column.table.alias("referred")
    is_there = exists().where(referred.c[key.column.name] == key.parent)
    query = select(*table.primary_key.columns, key.parent.label("value")).where(key.parent.is_not(None), ~is_there)
    for row in session.execute(query):
        yield Dangling(table.name, "/".join(str(part) for part in row[:-1]), key.parent.name, str(row.value))


def list_roots(session: Session) -> list[tuple[Project, list[str]]]:
    """Each project with those of its commits that have no parent."""
    return [
        (project, list(session.scalars(select(Commit.sha).where(_is_root_of(project)).order_by(Commit.sha).limit(10))))
        for project in session.scalars(select(Project).order_by(Project.id))
    ]


def _is_root_of(project: Project) -> ColumnElement[bool]:
    return and_(Commit.project_id == project.id, Commit.parent_sha.is_(None))


def list_misplaced_commits(session: Session) -> Iterator[str]:
    """Commits that are not one deeper than their parent, or in another project."""
    parent = aliased(Commit)
    query = select(Commit.sha).join(parent, parent.sha == Commit.parent_sha)
    yield from session.scalars(
        query.where(or_(Commit.depth != parent.depth + 1, Commit.project_id != parent.project_id)).order_by(Commit.sha)
    )


def list_leases_without_result(session: Session) -> Iterator[str]:
    """Leases that are done, without the run that they were done with."""
    has_run = exists().where(Run.lease_id == Lease.id, Run.uuid == Lease.result_key)
    query = select(Lease.id).where(Lease.state == LeaseState.DONE, ~has_run).order_by(Lease.id)
    return (str(lease_id) for lease_id in session.scalars(query))


def list_runs_without_lease(session: Session) -> Sequence[int]:
    """Runs that are not the result of the lease that they name."""
    query = select(Run.id).join(Lease, Lease.id == Run.lease_id)
    different = or_(Lease.state != LeaseState.DONE, Lease.result_key.is_(None), Lease.result_key != Run.uuid)
    return session.scalars(query.where(different).order_by(Run.id)).all()


def list_bare_experiments(session: Session) -> Sequence[int]:
    """Experiments without a run or without a finding: they were delivered with both."""
    has_run = exists().where(Run.experiment_id == Experiment.id)
    has_finding = exists().where(Finding.experiment_id == Experiment.id)
    return session.scalars(select(Experiment.id).where(~has_run | ~has_finding).order_by(Experiment.id)).all()


def list_lost_moves(session: Session) -> Sequence[int]:
    """Moves of branches from or to commits that do not exist."""
    starts_nowhere = and_(BranchMove.from_sha.is_not(None), ~exists().where(Commit.sha == BranchMove.from_sha))
    ends_nowhere = ~exists().where(Commit.sha == BranchMove.to_sha)
    return session.scalars(select(BranchMove.id).where(or_(starts_nowhere, ends_nowhere)).order_by(BranchMove.id)).all()


def list_unmoved_branches(session: Session) -> Sequence[str]:
    """Branches whose head is not where their last move led."""
    last = select(func.max(BranchMove.id)).group_by(BranchMove.branch_id)
    led_there = exists().where(
        BranchMove.id.in_(last), BranchMove.branch_id == Branch.id, BranchMove.to_sha == Branch.head_sha
    )
    return session.scalars(select(Branch.name).where(~led_there).order_by(Branch.id)).all()


def list_strays(session: Session) -> Iterator[tuple[str, str]]:
    """Table and commit of rows that count in another project than their commit's."""
    for model in (Experiment, Run, CommitPosterior):
        query = select(model.commit_sha).join(Commit, Commit.sha == model.commit_sha)
        for sha in session.scalars(query.where(Commit.project_id != model.project_id).order_by(model.commit_sha)):
            yield model.__tablename__, sha


def list_strange_experiments(session: Session) -> Sequence[int]:
    """Experiments whose commit has another parent than they say."""
    query = select(Experiment.id).join(Commit, Commit.sha == Experiment.commit_sha)
    different = or_(Commit.parent_sha.is_(None), Commit.parent_sha != Experiment.parent_sha)
    return session.scalars(query.where(different).order_by(Experiment.id)).all()


def list_strange_runs(session: Session) -> Sequence[int]:
    """Runs that measured another commit than their experiment's."""
    query = select(Run.id).join(Experiment, Experiment.id == Run.experiment_id)
    return session.scalars(query.where(Experiment.commit_sha != Run.commit_sha).order_by(Run.id)).all()


def list_unjudged(session: Session) -> Sequence[Row[str, str]]:
    """Commits, with a hardware class, that were measured and have no posterior there."""
    has_posterior = exists().where(
        CommitPosterior.commit_sha == Run.commit_sha, CommitPosterior.hardware_class == Run.hardware_class
    )
    measured = select(Run.commit_sha, Run.hardware_class).where(
        Run.outcome == RunOutcome.OK, Run.metric.is_not(None), Run.counts
    )
    return session.execute(measured.where(~has_posterior).distinct().order_by(Run.commit_sha)).all()


def count_commits(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Commit)) or 0


def count_runs(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Run)) or 0


def count_posteriors(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(CommitPosterior)) or 0


def page_commits(session: Session) -> Iterator[Sequence[Commit]]:
    """All commits, page by page; each page is forgotten before the next is read."""
    last = ""
    while page := session.scalars(
        select(Commit).where(Commit.sha > last).order_by(Commit.sha).limit(ROWS_AT_ONCE)
    ).all():
        last = page[-1].sha
        yield page
        session.expunge_all()


def page_posteriors(session: Session) -> Iterator[Sequence[CommitPosterior]]:
    """All posteriors, page by page; each page is forgotten before the next is read."""
    name = (CommitPosterior.commit_sha, CommitPosterior.hardware_class)
    last = ("", "")
    while page := session.scalars(
        select(CommitPosterior).where(tuple_(*name) > last).order_by(*name).limit(ROWS_AT_ONCE)
    ).all():
        last = (page[-1].commit_sha, page[-1].hardware_class)
        yield page
        session.expunge_all()


def load_around(session: Session, page: Sequence[CommitPosterior]) -> list[Commit | CommitPosterior]:
    """The commits of posteriors, their parents and the parents' posteriors, so that the session has them at hand.

    The session forgets what nobody holds: keep the answer as long as they are asked for.
    """
    commits = session.scalars(select(Commit).where(Commit.sha.in_([row.commit_sha for row in page]))).all()
    above = [commit.parent_sha for commit in commits if commit.parent_sha]
    parents = session.scalars(select(Commit).where(Commit.sha.in_(above))).all()
    posteriors = session.scalars(select(CommitPosterior).where(CommitPosterior.commit_sha.in_(above))).all()
    return [*commits, *parents, *posteriors]


def stream_steps(session: Session) -> Generator[CommitWithTrees, None, None]:
    """All commits that have a parent, parents first. Close it: it holds a cursor."""
    parent = aliased(Commit)
    query = select(Commit.sha, Commit.tree_sha, parent.tree_sha, Commit.depth)
    query = query.join(parent, parent.sha == Commit.parent_sha).order_by(Commit.depth, Commit.sha)
    with session.execute(query.execution_options(yield_per=ROWS_AT_ONCE)) as rows:
        for row in rows:
            yield CommitWithTrees(*row)
