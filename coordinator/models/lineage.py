"""Git in SQL: objects, commits, branches and their moves."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, Sha


class StoredObject(Base):
    """A git object. `data` is its content, or a delta against `base_sha`, as zlib; `size` is the content's in bytes."""

    __tablename__ = "git_objects"

    sha: Mapped[str] = mapped_column(Sha, primary_key=True)
    kind: Mapped[str] = mapped_column(String(6))
    size: Mapped[int]
    data: Mapped[bytes] = mapped_column(LargeBinary)
    base_sha: Mapped[str | None] = mapped_column(ForeignKey("git_objects.sha"))


_LOST = text("NOT has_code")
IS_LOST = text("NOT commits.has_code")
"""That a commit's code is lost, as SQLite must read it to use the index."""


class Commit(Base):
    """A commit. `depth` is its distance from the root; `steps` is the number of adopted changes that it makes at once.

    Without `has_code` it stands for an imported experiment whose code is lost, and holds its parent's files.
    """

    __tablename__ = "commits"
    __table_args__ = (
        Index("ix_commits_project_tree", "project_id", "tree_sha"),
        Index("ix_commits_generation", "project_id", "depth", "sha"),
        Index("ix_commits_without_code", "project_id", sqlite_where=_LOST, postgresql_where=_LOST),
    )

    sha: Mapped[str] = mapped_column(Sha, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    parent_sha: Mapped[str | None] = mapped_column(ForeignKey("commits.sha"), index=True)
    tree_sha: Mapped[str] = mapped_column(Sha)
    depth: Mapped[int]
    has_code: Mapped[bool] = mapped_column(default=True)
    steps: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]


_PROPOSED = text("state = 'proposed'")
IS_PROPOSED = text("branches.state = 'proposed'")
"""That a branch waits for approval, as SQLite must read it to use the index."""


class Branch(Base):
    """A named research direction. It is never merged; its head moves, and each move is logged.

    `experiments` counts its own, `experiments_without_gain` those since its last gain, by `gained_experiment_id`.
    `volunteer_id` is the account that began it. `share` is the minimum share of the jobs that a maintainer gave it,
    None: the contract's. It `is_locked` where a maintainer paused it: neither volunteers nor a gain resume it.
    """

    __tablename__ = "branches"
    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        Index("ix_branches_proposed", "created_at", sqlite_where=_PROPOSED, postgresql_where=_PROPOSED),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(String(63))
    theme: Mapped[str] = mapped_column(Text)
    head_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"))
    state: Mapped[str] = mapped_column(String(20))
    experiments: Mapped[int] = mapped_column(default=0)
    experiments_without_gain: Mapped[int]
    gained_experiment_id: Mapped[int | None]
    volunteer_id: Mapped[int | None] = mapped_column(ForeignKey("volunteers.id"))
    share: Mapped[float | None]
    is_locked: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]


class BranchMove(Base):
    """An entry of a branch's log: a `BranchMoveKind`, who caused it and the reason."""

    __tablename__ = "branch_moves"

    id: Mapped[int] = mapped_column(primary_key=True)
    branch_id: Mapped[int] = mapped_column(ForeignKey("branches.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    from_sha: Mapped[str | None] = mapped_column(Sha)
    to_sha: Mapped[str] = mapped_column(Sha)
    moved_by: Mapped[str] = mapped_column(String(200))
    why: Mapped[str] = mapped_column(Text)
    moved_at: Mapped[datetime]
