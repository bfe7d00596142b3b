"""Runs: one measurement of one commit by one worker with one seed."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, StrictBool, StrictFloat, StrictInt, ValidationInfo, field_validator, model_validator

from shared.experiments import JobKind
from shared.protocol import CLEAN, MAX_READING, Count, Duration, Message, Number, Reading, Sha, Text, Timestamp

MAX_CURVE_POINTS = 500
MAX_REASON = 1000  # characters
MAX_SEED = 2**31 - 1
Throughput = Annotated[StrictFloat, Field(gt=0, le=MAX_READING)]  # tokens (or steps) a second
MAX_MAJOR = 10  # characters of a major version, so that no name of a class is longer than 200


class DeviceKind(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"


class Hardware(Message):
    """The device a worker trains on: a GPU, or the `cores` of a CPU that the worker may use.

    `isa` is, for example, `x86_64-avx2`; `precision` is the arithmetic of the seed's matrices on the device.
    """

    kind: DeviceKind
    model: Annotated[str, Field(min_length=1, max_length=120), CLEAN]
    memory_mib: StrictInt = Field(gt=0, le=2**30)
    cores: StrictInt = Field(gt=0, le=2**20)
    isa: Annotated[str, Field(max_length=60), CLEAN] = ""
    power_cap_watts: StrictInt | None = Field(default=None, gt=0, le=10**6)
    torch_version: Annotated[str, Field(max_length=60), CLEAN] = ""
    precision: Annotated[str, Field(max_length=20), CLEAN] = "float32"

    @property
    def hardware_class(self) -> str:
        """Name of the class; only runs of one class are ever compared (docs/glossary.md)."""
        if self.kind is DeviceKind.CPU:
            return f"cpu · {self.cores} cores · {self.isa or 'unknown isa'}"
        major = self.torch_version.split(".", 1)[0][:MAX_MAJOR] or "?"
        cap = f"{self.power_cap_watts} W" if self.power_cap_watts else "no cap"
        return f"{self.model} · {round(self.memory_mib / 1024)} GiB · {cap} · torch {major} · {self.precision}"


class HardwareView(Hardware):
    """A device as the coordinator shows it. Of one that a person described (`is_reported` is false) what is None is
    not known; of others a power cap of None is none."""

    memory_mib: StrictInt | None = Field(default=None, gt=0, le=2**30)  # type: ignore[assignment]
    is_reported: StrictBool = True

    @property
    def hardware_class(self) -> str:
        if self.is_reported:
            return super().hardware_class
        major = self.torch_version.split(".", 1)[0][:MAX_MAJOR] or "?"
        cap = "cap unknown" if self.power_cap_watts is None else f"{self.power_cap_watts} W"
        memory = "memory unknown" if self.memory_mib is None else f"{round(self.memory_mib / 1024)} GiB"
        return f"{self.model} · {memory} · {cap} · torch {major} · {self.precision}"


class RunOutcome(StrEnum):
    OK = "ok"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    STOPPED_EARLY = "stopped_early"
    INVALID = "invalid"


class RunLimit(StrEnum):
    """A limit of a run's sandboxed processes that held, whatever they tried.

    `memory_limited_by_kernel` bounds what a control group counts, `memory_watched_by_worker` what the worker adds up
    several times a second. Without `cores_held` a process may take more cores than its hardware class has. Without
    `caches_emptied` a process may tell the next one something by which files it looked at.
    """

    SYSTEM_CALLS_FILTERED = "system_calls_filtered"
    CORES_HELD = "cores_held"
    MEMORY_LIMITED_BY_KERNEL = "memory_limited_by_kernel"
    MEMORY_WATCHED_BY_WORKER = "memory_watched_by_worker"
    CACHES_EMPTIED = "caches_emptied"


class CurvePoint(Message):
    """A point of the training curve; `seconds` counts from the start of the budget."""

    step: Count
    seconds: Duration
    loss: Number


class RunSeconds(Message):
    """Where a run's wall time went. `training` ends when the supervisor holds the weights.

    By the clock of the contract's budget, which may be the CPU's: `budget` is what the training took of it, and
    `before_start` what the edited file took before the budget started, compiling included. None if not known.
    """

    starting: Duration
    training: Duration
    scoring: Duration
    total: Duration
    budget: Duration | None = None
    before_start: Duration | None = None

    @property
    def on_budget(self) -> float:
        """The training on the budget's clock, which is wall time if the worker does not say."""
        return self.training if self.budget is None else self.budget

    def to_wall(self, budget_seconds: float) -> float:
        """Wall seconds that so much of the budget took this run."""
        return budget_seconds * self.training / self.budget if self.budget else budget_seconds


class ModelUsage(Message):
    """Use of a language model. `cost` is in the volunteer's own currency, None where they stated no prices."""

    requests: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0
    cost: StrictFloat | None = Field(default=None, ge=0, le=MAX_READING)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def plus(self, other: "ModelUsage") -> "ModelUsage":
        """The sum of both. One unknown cost counts as zero."""
        costs = [usage.cost for usage in (self, other) if usage.cost is not None]
        return ModelUsage(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=sum(costs) if costs else None,
        )

    def describe(self) -> str:
        """`3 requests, 5120 + 800 tokens`."""
        plural = "" if self.requests == 1 else "s"
        return f"{self.requests} request{plural}, {self.input_tokens} + {self.output_tokens} tokens"


class RunReport(Message):
    """A run as its worker reports it. `id` is the worker's own, so that a late report is stored once.

    `metric` is in the contract's unit; `reason` says in a sentence why the outcome is not `ok`; `frame` is the deepest
    frame of the edited file. `hopeless_at` is the share of the budget, 0 to 1, after which the run could not become as
    good as its parent: with `stopped_early` it ended there. `usage` is that of the experiment's agent. `holdout_metric`
    is the metric of the sealed windows, which only a run whose lease has a `holdout_key` scores; nobody is shown it.
    """

    id: UUID
    commit_sha: Sha
    seed: StrictInt = Field(ge=0, le=MAX_SEED)
    outcome: RunOutcome
    metric: Reading | None = None
    holdout_metric: Reading | None = None
    reason: Annotated[str, Field(max_length=MAX_REASON), CLEAN] = ""
    frame: Annotated[str, Field(max_length=MAX_REASON), CLEAN] = ""
    started_at: Timestamp
    finished_at: Timestamp
    seconds: RunSeconds
    steps: Count = 0
    tokens: Count = 0
    parameters: Count = 0
    scored_bytes: Count = 0
    peak_memory_mib: Count = 0
    curve: list[CurvePoint] = Field(default=[], max_length=MAX_CURVE_POINTS)
    log_tail: Annotated[str, Field(max_length=20_000), CLEAN] = ""
    hopeless_at: StrictFloat | None = Field(default=None, ge=0, le=1)
    usage: ModelUsage | None = None
    hardware: Hardware
    sandbox: Annotated[str, Field(max_length=40), CLEAN]
    limits: list[RunLimit] = Field(default=[], max_length=len(RunLimit))

    @field_validator("finished_at")
    @classmethod
    def _ends_after_it_starts(cls, finished_at: datetime, info: ValidationInfo) -> datetime:
        if finished_at < info.data.get("started_at", finished_at):
            raise ValueError("a run ends after it starts")
        return finished_at

    @model_validator(mode="after")
    def _metric_means_ok(self) -> Self:
        if (self.outcome is RunOutcome.OK) != (self.metric is not None):
            raise ValueError("a run has a metric exactly if its outcome is `ok`")
        if self.metric is None and self.holdout_metric is not None:
            raise ValueError("only a run with a metric has a `holdout_metric`")
        if self.outcome is RunOutcome.STOPPED_EARLY and self.hopeless_at is None:
            raise ValueError("a run that was stopped early says where: `hopeless_at`")
        return self


class RunView(Message):
    """A run as the coordinator shows it. `kind` is the job's: a `replicate` or `control` measured what existed.

    Its training budget was `pace` times the contract's, by the `seed_throughput` that its worker had measured before;
    that of a `promote` run was its `rung`'s. What an imported session does not say is empty; `metrics` are its further
    ones.
    """

    id: Count
    uuid: UUID
    project: Text
    commit_sha: Sha
    experiment_id: Count | None
    kind: JobKind
    worker: Text
    seed: Count | None
    outcome: RunOutcome
    metric: Number | None
    reason: Text
    frame: Text
    hardware_class: Text
    hardware: HardwareView
    sandbox: Text
    limits: list[RunLimit] | None
    seconds: RunSeconds | None
    steps: Count | None
    tokens: Count | None
    parameters: Count | None
    peak_memory_mib: Count | None
    curve: list[CurvePoint]
    log_tail: Text
    hopeless_at: Number | None
    usage: ModelUsage | None
    pace: Number = 1.0
    seed_throughput: Number | None = None
    rung: Text | None = None
    metrics: dict[Text, Number] | None = None
    started_at: Timestamp | None
    finished_at: Timestamp | None
    created_at: Timestamp


class RunCurve(Message):
    """The training curve of a run, column by column; empty where it has none. `loss` is the mean of the points that one
    stands for."""

    run_id: Count
    experiment_id: Count | None
    commit_sha: Sha
    hardware_class: Text
    seed: Count | None
    outcome: RunOutcome
    metric: Number | None
    step: list[Count]
    seconds: list[Duration]
    loss: list[Number]


class EarlyStops(Message):
    """Device time that early stopping saves, and how often it is wrong, from a project's newest runs.

    A sample of the hopeless runs goes on to the end: `sampled` of them came to a metric, and `wrong` of these have a
    better posterior than their parent.
    """

    runs: Count
    stopped: Count
    spent_seconds: Number
    saved_seconds: Number
    sampled: Count
    wrong: Count

    @property
    def saved_share(self) -> float:
        """Share of the time that all these runs would have taken, 0 to 1."""
        return self.saved_seconds / (self.spent_seconds + self.saved_seconds) if self.saved_seconds else 0.0
