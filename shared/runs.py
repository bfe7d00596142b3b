"""Runs: one measurement of one commit by one worker with one seed."""

from enum import StrEnum
from typing import Self
from uuid import UUID

from pydantic import Field, model_validator

from shared.hardware import Hardware
from shared.protocol import Message, Sha, Timestamp

MAX_CURVE_POINTS = 500
MAX_LOG_LINES = 50
MAX_SEED = 2**31 - 1


class RunOutcome(StrEnum):
    OK = "ok"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    STOPPED_EARLY = "stopped_early"
    INVALID = "invalid"


class CurvePoint(Message):
    """A point of the training curve; `seconds` counts from the start of the budget."""

    step: int = Field(ge=0)
    seconds: float = Field(ge=0)
    loss: float


class RunSeconds(Message):
    """Where a run's wall time went. `training` ends when the supervisor holds the weights."""

    starting: float = Field(ge=0)
    training: float = Field(ge=0)
    scoring: float = Field(ge=0)
    total: float = Field(ge=0)


class RunReport(Message):
    """A run as its worker reports it. `id` is the worker's own, so that a late report is stored once.

    `metric` is in the contract's unit and given only with outcome `ok`; `reason` says in a sentence why an
    outcome is not `ok`; `frame` is the deepest frame of the edited file; `log_tail` its last lines of output.
    """

    id: UUID
    commit_sha: Sha
    seed: int = Field(ge=0, le=MAX_SEED)
    outcome: RunOutcome
    metric: float | None = None
    reason: str = Field(default="", max_length=1000)
    frame: str = Field(default="", max_length=1000)
    started_at: Timestamp
    finished_at: Timestamp
    seconds: RunSeconds
    steps: int = Field(default=0, ge=0)
    tokens: int = Field(default=0, ge=0)
    parameters: int = Field(default=0, ge=0)
    scored_bytes: int = Field(default=0, ge=0)
    peak_memory_mib: int = Field(default=0, ge=0)
    curve: list[CurvePoint] = Field(default=[], max_length=MAX_CURVE_POINTS)
    log_tail: str = Field(default="", max_length=20_000)
    hardware: Hardware
    sandbox: str = Field(max_length=40)

    @model_validator(mode="after")
    def _metric_means_ok(self) -> Self:
        if (self.outcome is RunOutcome.OK) != (self.metric is not None):
            raise ValueError("a run has a metric exactly if its outcome is `ok`")
        return self


class Run(Message):
    """A run as the coordinator shows it."""

    id: int
    uuid: UUID
    project: str
    commit_sha: Sha
    experiment_id: int | None
    worker: str
    seed: int
    outcome: RunOutcome
    metric: float | None
    reason: str
    frame: str
    hardware_class: str
    hardware: Hardware
    sandbox: str
    seconds: RunSeconds
    steps: int
    tokens: int
    parameters: int
    peak_memory_mib: int
    curve: list[CurvePoint]
    log_tail: str
    started_at: Timestamp
    finished_at: Timestamp
    created_at: Timestamp
