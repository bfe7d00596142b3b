"""Commits made here: who their author is, and what their message says."""

from shared.commits import CommitWords
from shared.leases import CommitUpload
from shared.protocol import now
from worker.agents.base import Draft
from worker.git.repository import Repository


def commit_draft(repository: Repository, parent_sha: str, draft: Draft, author: str) -> CommitUpload:
    """Commit a draft's files on its parent, in the worker's own repository. Raises OSError, CommitError."""
    words = CommitWords(author, int(now().timestamp()), _describe(draft))
    return CommitUpload(
        sha=repository.commit(parent_sha, draft.files, words),
        parent_sha=parent_sha,
        files=dict(draft.files),
        author=words.author,
        authored_at=words.authored_at,
        message=words.message,
    )


def author_of(worker_name: str) -> str:
    """The author of a worker's commits. The address is one that cannot exist (RFC 2606)."""
    name = "".join(c for c in worker_name if c.isprintable() and c not in "<>").strip() or "worker"
    address = "".join(c if c.isascii() and c.isalnum() else "-" for c in name).lower()
    return f"{name} <{address}@worker.invalid>"


def _describe(draft: Draft) -> str:
    proposal = draft.proposal
    lines = [
        proposal.title,
        "",
        proposal.hypothesis,
        "",
        f"Axis: {proposal.axis}",
        f"Direction: {proposal.direction.value}",
        *([f"Agent: {' '.join(draft.made_by.split())}"] if draft.made_by else []),
    ]
    return "\n".join(lines) + "\n"
