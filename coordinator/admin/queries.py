"""Questions about a whole database: what refers to nothing, and everything page by page."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select, and_, exists, func, inspect, or_, select, text, tuple_
from sqlalchemy.orm import Session, aliased

from coordinator.db.engine import LabelledRow, engine_of
from coordinator.models import (
    Base,
    Branch,
    BranchMove,
    ClassProgress,
    Commit,
    CommitPosterior,
    Experiment,
    Finding,
    LeaderChange,
    Lease,
    Project,
    Run,
    table_of,
)
from coordinator.models.base import is_of_same_class
from coordinator.models.experiments import IS_MEASUREMENT, IS_POSTERIOR_OF_RUN
from shared.leases import LeaseState

ROWS_AT_ONCE = 1_000


def list_file_damage(session: Session) -> list[str]:
    """The damage that SQLite finds in its file; always empty on PostgreSQL."""
    if engine_of(session).dialect.name != "sqlite":
        return []
    return [line for line in session.scalars(text("pragma quick_check")) if line != "ok"]


def analyze(session: Session) -> None:
    """Have PostgreSQL look how large its tables are, however long it takes: it plans by that, and no dump says it."""
    session.execute(text("SET LOCAL statement_timeout = 0"))
    session.execute(text("ANALYZE"))


def list_dangling(session: Session) -> Iterator[str]:
    """Rows whose foreign keys lead nowhere: keys hold only while they are enforced, and files can be edited."""
    for table in Base.metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda key: key.parent.name):
            referred = key.column.table.alias("referred")
            is_there = exists().where(referred.c[key.column.name] == key.parent)
            query = select(*table.primary_key.columns, key.parent).where(key.parent.is_not(None), ~is_there)
            for *own, value in session.execute(query):
                yield f"{table} {'/'.join(map(str, own))}: {key.parent.name} names {value}, which does not exist"


def list_wrong_roots(session: Session) -> Iterator[tuple[Project, Sequence[str]]]:
    """Projects whose root is not their only commit without parent, each with (at most ten of) those commits."""
    for project in session.scalars(select(Project).order_by(Project.id)):
        is_root = and_(Commit.project_id == project.id, Commit.parent_sha.is_(None))
        roots = session.scalars(select(Commit.sha).where(is_root).order_by(Commit.sha).limit(10)).all()
        if roots != [project.root_sha]:
            yield project, roots


_PARENT = aliased(Commit)
_RESULT_OF_LEASE = exists().where(Run.uuid == Lease.result_key, Run.lease_id == Lease.id)
_EXPERIMENTS_OF_BRANCH = select(func.count()).where(Experiment.branch_id == Branch.id).scalar_subquery()
_LAST_MOVES = select(func.max(BranchMove.id)).group_by(BranchMove.branch_id)
_MOVE_TO_HEAD = exists().where(
    BranchMove.id.in_(_LAST_MOVES), BranchMove.branch_id == Branch.id, BranchMove.to_sha == Branch.head_sha
)

_CONTRADICTIONS: Sequence[tuple[str, Select[*tuple[Any, ...]]]] = (
    (
        "commit {}: it is not one deeper than its parent, or in another project",
        select(Commit.sha)
        .join(_PARENT, _PARENT.sha == Commit.parent_sha)
        .where(or_(Commit.depth != _PARENT.depth + 1, Commit.project_id != _PARENT.project_id)),
    ),
    (
        "branch {}: {} experiments are counted, there are {}",
        select(Branch.name, Branch.experiments, _EXPERIMENTS_OF_BRANCH).where(
            Branch.experiments != _EXPERIMENTS_OF_BRANCH
        ),
    ),
    (
        "leader change {}: {} is no commit of its project",
        select(LeaderChange.id, LeaderChange.commit_sha).where(
            ~exists().where(Commit.sha == LeaderChange.commit_sha, Commit.project_id == LeaderChange.project_id)
        ),
    ),
    (
        "leader change {}: it is of run {} of a class of which {} are counted",
        select(LeaderChange.id, LeaderChange.run_number, ClassProgress.runs)
        .join(ClassProgress, is_of_same_class(ClassProgress, LeaderChange))
        .where(LeaderChange.run_number > ClassProgress.runs, ~ClassProgress.is_stale),
    ),
    (
        "branch move {}: it leads from or to a commit that does not exist",
        select(BranchMove.id).where(
            or_(
                and_(BranchMove.from_sha.is_not(None), ~exists().where(Commit.sha == BranchMove.from_sha)),
                ~exists().where(Commit.sha == BranchMove.to_sha),
            )
        ),
    ),
    ("branch {}: its head is not where its last move led", select(Branch.name).where(~_MOVE_TO_HEAD)),
    (
        "lease {}: it is done, and its run is missing",
        select(Lease.id).where(Lease.state == LeaseState.DONE, ~_RESULT_OF_LEASE),
    ),
    (
        "run {}: it is not the result of its lease",
        select(Run.id)
        .join(Lease, Lease.id == Run.lease_id)
        .where(or_(Lease.state != LeaseState.DONE, Lease.result_key.is_(None), Lease.result_key != Run.uuid)),
    ),
    (
        "experiment {}: its run or its finding is missing",
        select(Experiment.id).where(
            ~exists().where(Run.experiment_id == Experiment.id)
            | ~exists().where(Finding.experiment_id == Experiment.id)
        ),
    ),
    *(
        (
            f"{model.__tablename__} of commit {{}}: the commit is in another project",
            select(model.commit_sha)
            .join(Commit, Commit.sha == model.commit_sha)
            .where(Commit.project_id != model.project_id),
        )
        for model in (Experiment, Run, CommitPosterior)
    ),
    (
        "experiment {}: its commit has another parent",
        select(Experiment.id)
        .join(Commit, Commit.sha == Experiment.commit_sha)
        .where(or_(Commit.parent_sha.is_(None), Commit.parent_sha != Experiment.parent_sha)),
    ),
    (
        "run {}: it measured another commit than its experiment's",
        select(Run.id)
        .join(Experiment, Experiment.id == Run.experiment_id)
        .where(Experiment.commit_sha != Run.commit_sha),
    ),
    (
        "commit {}: it was measured on {} and has no posterior there",
        select(Run.commit_sha, Run.hardware_class)
        .where(IS_MEASUREMENT, ~exists().where(IS_POSTERIOR_OF_RUN))
        .distinct(),
    ),
)
"""Queries for rows that contradict each other, each with a sentence that takes the row's columns."""


def list_contradictions(session: Session) -> Iterator[str]:
    """Rows that contradict each other, or lack one that belongs to them, each in a sentence."""
    for sentence, query in _CONTRADICTIONS:
        for row in session.execute(query.order_by(*query.selected_columns)):
            yield sentence.format(*row)


Model = TypeVar("Model", bound=Base)


def count_rows(session: Session, model: type[Base]) -> int:
    return session.scalar(select(func.count()).select_from(model)) or 0


def page_rows(session: Session, model: type[Model]) -> Iterator[Sequence[Model]]:
    """All rows of a table by primary key, page by page; each page is forgotten before the next is read."""
    key = table_of(model).primary_key
    query = select(model).order_by(*key).limit(ROWS_AT_ONCE)
    page = session.scalars(query).all()
    while page:
        last = inspect(page[-1]).identity
        yield page
        session.expunge_all()
        page = session.scalars(query.where(tuple_(*key) > last)).all()


def load_around(session: Session, page: Sequence[CommitPosterior]) -> list[Commit | CommitPosterior]:
    """Load the commits of posteriors, their parents and the parents' posteriors into the session. The session forgets
    rows that nobody references, so keep the returned list while they are needed."""
    commits = session.scalars(select(Commit).where(Commit.sha.in_([row.commit_sha for row in page]))).all()
    above = [commit.parent_sha for commit in commits if commit.parent_sha]
    parents = session.scalars(select(Commit).where(Commit.sha.in_(above))).all()
    posteriors = session.scalars(select(CommitPosterior).where(CommitPosterior.commit_sha.in_(above))).all()
    return [*commits, *parents, *posteriors]


def stream_steps(session: Session) -> Generator[LabelledRow, None, None]:
    """All commits that have a parent, parents first: `sha`, `tree_sha`, `parent_tree_sha`, `depth`. Close it: it holds
    a cursor."""
    parent = aliased(Commit)
    query = select(Commit.sha, Commit.tree_sha, parent.tree_sha.label("parent_tree_sha"), Commit.depth)
    query = query.join(parent, parent.sha == Commit.parent_sha).order_by(Commit.depth, Commit.sha)
    with session.execute(query.execution_options(yield_per=ROWS_AT_ONCE)) as rows:
        yield from rows
