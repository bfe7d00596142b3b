"""Projects as they cross the wire."""

from shared.protocol import Message, Sha, Slug, Timestamp


class Project(Message):
    """One research question. `contract` is the text of its `swarm.toml`."""

    name: Slug
    title: str
    question: str
    contract: str
    contract_version: int
    root_sha: Sha
    created_at: Timestamp


class CommitFiles(Message):
    """All files of a commit, as text."""

    sha: Sha
    parent_sha: Sha | None
    files: dict[str, str]


class Branch(Message):
    """A named research direction: its theme and its head."""

    id: int
    project: Slug
    name: str
    theme: str
    head_sha: Sha
    experiments: int
    created_at: Timestamp
