"""Projects as they cross the wire."""

from enum import StrEnum

from shared.experiments import JobKind
from shared.protocol import LongText, Message, Sha, Slug, Timestamp


class ProjectView(Message):
    """One research question. `contract` is its `swarm.toml`. `self_scored`: nothing checks the stated metric."""

    name: Slug
    title: str
    question: str
    contract: str
    contract_version: int
    root_sha: Sha
    self_scored: bool = False
    created_at: Timestamp


class CommitFiles(Message):
    sha: Sha
    parent_sha: Sha | None
    files: dict[str, str]


class KindShareView(Message):
    """A kind's share of a project's experiments, and what it follows from.

    `gain` is what they added to verified commits, in the metric's unit, positive where it is better; `gpu_seconds` is
    the device time that they took.
    """

    kind: JobKind
    share: float
    gain: float
    gpu_seconds: float
    experiments: int


class BranchState(StrEnum):
    """A paused branch gets no jobs until a volunteer chooses it, or a late result of it is a gain."""

    ACTIVE = "active"
    PAUSED = "paused"


class BranchMoveKind(StrEnum):
    BORN = "born"
    MOVED = "moved"
    PAUSED = "paused"
    RESUMED = "resumed"


class BranchView(Message):
    """A research direction with a name. `experiments_without_gain` counts since its last gain."""

    id: int
    project: Slug
    name: str
    theme: str
    head_sha: Sha
    state: BranchState
    experiments_without_gain: int
    experiments: int
    created_at: Timestamp


class BranchRequest(Message):
    """A new branch, from `from_sha` or the project's root."""

    name: Slug
    theme: LongText
    from_sha: Sha | None = None


class BranchMoveView(Message):
    """An entry of a branch's log, with its reason. `from_sha` is None where the branch was born."""

    kind: BranchMoveKind
    from_sha: Sha | None
    to_sha: Sha
    by: str
    why: str
    at: Timestamp
