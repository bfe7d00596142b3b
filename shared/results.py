"""A job's result: the commit, its measurement and its finding, delivered in one request, stored in one transaction."""

from typing import Self
from uuid import UUID

from pydantic import Field, model_validator

from shared.experiments import Posterior, Proposal
from shared.findings import FindingDraft
from shared.protocol import Message, Sha
from shared.runs import RunReport


class CommitUpload(Message):
    """The changed files and the commit's own words; the coordinator rebuilds the commit and compares `sha`.

    `authored_at` is in whole seconds since the epoch; the time zone is always +0000.
    """

    sha: Sha
    parent_sha: Sha
    files: dict[str, str] = Field(min_length=1, max_length=16)
    author: str = Field(min_length=3, max_length=200)
    authored_at: int = Field(ge=0, le=2**40)
    message: str = Field(min_length=1, max_length=8000)


class ResultUpload(Message):
    """What a worker delivers for a lease.

    A new experiment brings commit, proposal and finding; a measurement only `run`.
    """

    run: RunReport
    commit: CommitUpload | None = None
    proposal: Proposal | None = None
    finding: FindingDraft | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        parts = (self.commit, self.proposal, self.finding)
        if any(p is None for p in parts) and any(p is not None for p in parts):
            raise ValueError("commit, proposal and finding come together or not at all")
        if self.commit is not None and self.commit.sha != self.run.commit_sha:
            raise ValueError("the run measures another commit than the one uploaded")
        return self


class ResultReply(Message):
    """Where a stored result is to be seen, and what it changed."""

    run_id: int
    run_uuid: UUID
    experiment_id: int | None
    posterior: Posterior | None
    url: str
