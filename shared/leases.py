"""Leases: claim, heartbeat, release. A lease is a time-limited assignment of one job to one worker."""

from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, StrictBool, StrictFloat, StrictInt, model_validator

from shared.contract import MAX_PACE, MIN_PACE
from shared.experiments import MAX_EDITED_FILES, Assignment, JobKind, Posterior, Proposal, Trial
from shared.findings import FindingDraft
from shared.protocol import (
    CLEAN,
    CLEAN_ALREADY,
    LATEST,
    Count,
    FilePath,
    HoldoutKey,
    Message,
    Name,
    Number,
    Secret,
    Sha,
    ShortText,
    Slug,
    SourceText,
    Text,
    Timestamp,
)
from shared.runs import MAX_SEED, CurvePoint, Hardware, RunReport, Throughput
from shared.workers import WorkerMessage, WorkerState


class LeaseState(StrEnum):
    """States of a lease (docs/architecture.md). EXPIRED and RELEASED still accept a first late result."""

    DRAFTING = "drafting"
    READY = "ready"
    RUNNING = "running"
    REPORTING = "reporting"
    DONE = "done"
    EXPIRED = "expired"
    RELEASED = "released"


class Phase(StrEnum):
    """The worker's current activity, from which the coordinator derives the lease's state."""

    DRAFTING = "drafting"
    READY = "ready"
    STARTING = "starting"
    TRAINING = "training"
    SCORING = "scoring"
    REPORTING = "reporting"


class ClaimRequest(Message):
    """A worker asks for a job, of one project if it names one.

    Any live lease of this worker that is not in `holding` is given up. `wants_trials` is for agents that learn from
    numbers; others read the context. `kinds` are the experiments that it can do now (it can always measure);
    `branch` is the research direction that its volunteer chose. `seed_throughput` is how many tokens (or steps)
    the project's seed sees here in a second of the budget's clock; `probed_seed` is the root commit of that project.
    One that was probed and has no throughput cannot be. `trouble` is what has been wrong with the agent for a while, in
    words; its worker still works.
    """

    protocol: Count
    worker: ShortText
    agent: Name
    hardware: Hardware
    project: Slug | None = None
    holding: list[UUID] = Field(default=[], max_length=16)
    wants_trials: StrictBool = False
    kinds: list[JobKind] = Field(default=[JobKind.IMPROVE], max_length=16)
    branch: Slug | None = None
    seed_throughput: Throughput | None = None
    probed_seed: Sha | None = None
    trouble: Annotated[str, Field(max_length=300), CLEAN] = ""


class BaseCommit(Message):
    """The parent of a new experiment, or the commit to be measured.

    `curve` is its thinned training curve in the worker's hardware class, empty where there is none; its seconds are
    those of a run with the contract's budget.
    """

    sha: Sha
    files: dict[FilePath, SourceText]
    posterior: Posterior | None
    curve: list[CurvePoint] = Field(default=[])


class GrantedLease(Message):
    """One job. `files` of `base` are the editable ones; the project's protected files come by `root_sha`.

    `run_to_end`: the run belongs to the sample that shows how often stopping early is wrong. `holdout_key`, 64
    hexadecimal digits, is what the run draws its sealed windows from; only a `confirm` job has one. `pace` times the
    contract's `training_seconds` is the budget: in it this worker's seed sees as many tokens as on others of its class.
    A `promote` job has the budget and settings of a `rung` of the contract instead.
    """

    id: UUID
    token: Secret
    project: Slug
    root_sha: Sha
    kind: JobKind
    base: BaseCommit
    assignment: Assignment = Assignment()
    branch: Text
    seed: Count
    run_to_end: StrictBool = False
    holdout_key: HoldoutKey | None = None
    pace: StrictFloat = Field(default=1.0, ge=MIN_PACE, le=MAX_PACE)
    rung: Slug | None = None
    why: Text
    context: Text
    trials: list[Trial]
    issued_at: Timestamp
    expires_at: Timestamp
    deadline_at: Timestamp
    heartbeat_seconds: Number

    @property
    def first_phase(self) -> Phase:
        """The phase in which its job begins: a measurement of an existing commit needs no draft."""
        return Phase.DRAFTING if self.kind.makes_experiment else Phase.READY


class OfflineLease(Message):
    """An experiment that a worker gave itself while its coordinator was away, with an id and a token of its own.

    The coordinator knows its base by then: results of parents come first.
    """

    token: str = Field(min_length=16, max_length=100)
    worker: ShortText
    agent: Name
    hardware: Hardware
    project: Slug
    base_sha: Sha
    seed: StrictInt = Field(ge=0, le=MAX_SEED)
    issued_at: Timestamp


class SeedProbe(Message):
    """A project whose seed is to be tried for some seconds before the worker gets jobs of it: how fast does it run?"""

    project: Slug
    root_sha: Sha


class ClaimReply(Message):
    """A lease, or a reason that a person understands and when to ask again. With a `probe` that is at once after it."""

    lease: GrantedLease | None
    probe: SeedProbe | None = None
    reason: Text = ""
    retry_after_seconds: Number | None = None


class Heartbeat(Message):
    """Renews a lease and reports progress; `share` is the used share of the budget, 0 to 1."""

    token: Secret
    phase: Phase
    step: Count = 0
    loss: Number | None = None
    share: StrictFloat = Field(default=0.0, ge=0, le=1)


class HeartbeatReply(Message):
    state: LeaseState
    expires_at: Timestamp
    message: WorkerMessage | None = None


class LeaseView(Message):
    id: UUID
    project: Slug
    worker: Text
    worker_state: WorkerState
    agent: Text
    kind: JobKind
    state: LeaseState
    phase: Phase
    title: Text
    why: Text
    base_sha: Sha
    branch: Text
    step: Count
    loss: Number | None
    share: Number
    issued_at: Timestamp
    heartbeat_at: Timestamp
    expires_at: Timestamp


class LeaseContext(Message):
    """The context pack of a lease (empty if it measures) and the findings in it, which its experiment cites."""

    lease_id: UUID
    project: Slug
    kind: JobKind
    experiment_id: Count | None
    text: Text
    findings: list[Count]


class ReleaseRequest(Message):
    """A worker gives a job back; `reason` is shown to people."""

    token: Secret
    reason: ShortText


class CommitUpload(Message):
    """A commit that the coordinator rebuilds to compare `sha`. `authored_at` is in seconds since the epoch, in UTC."""

    sha: Sha
    parent_sha: Sha
    files: dict[FilePath, SourceText] = Field(min_length=1, max_length=MAX_EDITED_FILES)
    author: Annotated[str, Field(min_length=3, max_length=200), CLEAN_ALREADY]
    authored_at: StrictInt = Field(ge=0, lt=int(LATEST.timestamp()))
    message: Annotated[str, Field(min_length=1, max_length=8000), CLEAN_ALREADY]


class ResultUpload(Message):
    """The result of a lease: a new experiment brings commit, proposal and finding, a measurement only `run`."""

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
    run_id: Count
    run_uuid: UUID
    experiment_id: Count | None
    posterior: Posterior | None
    url: Text
