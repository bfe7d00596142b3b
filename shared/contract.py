"""`swarm.toml`: what a project measures, within which limits, and which files an experiment may change."""

import tomllib
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StringConstraints, ValidationError, model_validator

from shared.mistakes import describe_mistake, name_place
from shared.protocol import MAX_COUNT, MAX_READING, FilePath, LongText, Message, Number, Reading, ShortText, Slug

CONTRACT_FILE = "swarm.toml"
SMALLEST_SPREAD = 1e-12
Seconds = Annotated[StrictFloat, Field(gt=0, le=86_400)]
Mebibytes = Annotated[StrictInt, Field(ge=1, le=2**30)]
Share = Annotated[StrictFloat, Field(ge=0, le=1e6)]  # of jobs, relative to the others
Spread = Annotated[StrictFloat, Field(ge=SMALLEST_SPREAD, le=MAX_READING)]
"""A standard deviation or a difference, in the metric's unit."""

SettingName = Annotated[str, Field(max_length=200)]
DataSetting = Annotated[StrictInt, Field(ge=-MAX_COUNT, le=MAX_COUNT)] | Number | Annotated[str, Field(max_length=4000)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ContractError(ValueError):
    """`swarm.toml` cannot be read; the message names the field and what is wrong, one line each."""


MIN_PACE, MAX_PACE = 0.5, 2.0
"""Bounds of a worker's budget, in units of the contract's."""


class Direction(StrEnum):
    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class BudgetClock(StrEnum):
    WALL = "wall"
    CPU = "cpu"  # of all of the trainer's processes together; on a GPU wall time counts all the same


class ResultSource(StrEnum):
    SCORER = "scorer"
    SUMMARY = "summary"  # printed by the edited files: it could say anything, and the project is marked so


class ProjectSection(Message):
    name: Slug
    title: ShortText
    question: LongText = ""
    version: StrictInt = Field(ge=1, le=1_000_000)


class Objective(Message):
    """The metric. `min_effect` is the smallest change that matters; beyond `plausible_floor` a result is held.

    With `result = "summary"` the edited files state it themselves: nothing checks it, and it is marked so.
    """

    metric: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    unit: ShortText
    direction: Direction = Direction.MINIMIZE
    min_effect: Spread
    plausible_floor: Reading
    result: ResultSource = ResultSource.SCORER

    @property
    def is_self_scored(self) -> bool:
        return self.result is ResultSource.SUMMARY

    @property
    def named_unit(self) -> str:
        """The unit, unless the metric's name says it already."""
        return "" if self.unit.replace(" ", "_") == self.metric else self.unit

    @property
    def sign(self) -> float:
        """+1 or −1: multiply a metric by it, and lower is always better."""
        return 1.0 if self.direction is Direction.MINIMIZE else -1.0


SHORTEST_DRAFTING_SECONDS = 300.0


class Budget(Message):
    """Seconds a run may take, by part. Only `training_seconds` is the experiment's own time.

    It is counted by `clock` and ends when the supervisor holds the result. One that is late by at most
    `handover_seconds` still counts, because a busy machine may delay it: keep that short, so that lateness gains
    little. A training by the CPU clock also ends after `wall_seconds`, by default three times `training_seconds`.
    By the same clock, what the edited file takes before the budget starts is free up to `warm_up_seconds` and beyond
    them taken from its training; a model host has as much until it gets the result. It may then take `answer_seconds`
    for each answer and once more for loading the result, all together. None: no limit.
    Unless a run `may_end_early`, as a compressor that is done does, one that used less than a quarter of its training
    is no `ok` run. Contracts from before this field allow it: what theirs measure is not known.
    """

    clock: BudgetClock = BudgetClock.WALL
    training_seconds: Seconds
    may_end_early: StrictBool = True
    handover_seconds: Seconds = 1.0
    wall_seconds: Seconds | None = None
    starting_seconds: Seconds = 120.0
    scoring_seconds: Seconds = 120.0
    warm_up_seconds: Seconds | None = None
    answer_seconds: Seconds | None = None

    @model_validator(mode="after")
    def _wall_seconds_are_for_the_cpu_clock(self) -> Self:
        if self.wall_seconds is not None and self.clock is BudgetClock.WALL:
            raise ValueError('`wall_seconds` limits a training whose `clock` is "cpu"; remove it, or set that clock')
        return self

    def charge(self, before_start: float | None) -> float:
        """Seconds that a run loses of its training, for what it took before the budget's start."""
        if self.warm_up_seconds is None or before_start is None:
            return 0.0
        return max(0.0, before_start - self.warm_up_seconds)

    def at_pace(self, pace: float) -> "Budget":
        """The budget of a worker that gets `pace` times the training."""
        wall_seconds = None if self.wall_seconds is None else pace * self.wall_seconds
        return self.model_copy(update={"training_seconds": pace * self.training_seconds, "wall_seconds": wall_seconds})

    @property
    def longest_training_seconds(self) -> float:
        """The most wall seconds of a training, without `handover_seconds`."""
        if self.clock is BudgetClock.WALL:
            return self.training_seconds
        return self.wall_seconds or 3 * self.training_seconds

    @property
    def longest_run_seconds(self) -> float:
        """The most wall seconds of a run."""
        training = self.longest_training_seconds + self.handover_seconds
        return self.starting_seconds + training + self.scoring_seconds

    @property
    def drafting_seconds(self) -> float:
        """The most wall seconds that an agent may draft: as long as the run before it may last on its device."""
        return max(SHORTEST_DRAFTING_SECONDS, self.longest_run_seconds)


class Limits(Message):
    """Limits of each sandboxed process. A project with `device_memory_mib` needs a GPU of at least that memory.

    `compiled_mib` is room for the compiled code of the untouched project, which a machine keeps for later runs.
    """

    memory_mib: StrictInt = Field(default=8192, ge=64, le=2**30)
    device_memory_mib: Mebibytes | None = None
    processes: StrictInt = Field(default=256, ge=8, le=2**22)
    disk_mib: Mebibytes = 1024
    weights_mib: Mebibytes = 1024
    compiled_mib: StrictInt = Field(default=0, ge=0, le=4096)


class Files(Message):
    """The editable files with their size cap. `harness` is the folder copied in when the project is created.

    `max_text_bytes` bounds their compressed size together: a text learnt by heart would have to be in there.
    """

    editable: list[FilePath] = Field(min_length=1, max_length=16)
    max_bytes: StrictInt = Field(default=65_536, ge=1, le=1_048_576)
    max_text_bytes: StrictInt | None = Field(default=None, ge=1, le=MAX_COUNT)
    harness: str | None = Field(default=None, max_length=1000)


class Commands(Message):
    """Modules of the protected harness. Two may be missing: `holdout`, a scorer of sealed data that no other run sees,
    and `substitute`, which gives a run data in symbols of its own."""

    prepare: ShortText = "harness.prepare"
    trainer: ShortText = "harness.trainer"
    host: ShortText = "harness.host"
    scorer: ShortText = "harness.scorer"
    holdout: ShortText | None = None
    substitute: ShortText | None = None


class DataSource(Message):
    """A file the worker downloads for `prepare`, checked against its hash.

    It comes from `url`, from a release on `pypi` (`name==version`), or else from the data section's `base_url`. Without
    a hash the first download over HTTPS is trusted, and must stay the same on that machine.
    """

    file: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    sha256: Sha256 | None = None
    url: Annotated[str, StringConstraints(pattern=r"^https?://", max_length=2000)] | None = None
    pypi: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9._!+-]+$", max_length=200)] | None = (
        None
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.url is not None and self.pypi is not None:
            raise ValueError("give one of `url` and `pypi`, not both")
        if self.sha256 is None and (self.url or "").startswith("http:"):
            raise ValueError("a file that comes over plain http needs its `sha256`")
        return self


class Data(Message):
    """Needs and time limit of `prepare`, and the settings that it, the trainer and the scorer read."""

    sources: list[DataSource] = Field(default_factory=list)
    base_url: Annotated[str, StringConstraints(pattern=r"^https://.+/$", max_length=2000)] | None = None
    prepare_seconds: Seconds = 600.0
    settings: dict[SettingName, DataSetting] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _every_source_has_a_place(self) -> Self:
        for source in self.sources:
            if source.url is None and source.pypi is None and self.base_url is None:
                raise ValueError(f"{source.file} has no `url` and no `pypi`, and there is no `base_url`")
        return self


class Evidence(Message):
    """Prior sd of one run's noise, of a typical experiment's effect, and of workers' offsets, in the metric's unit.

    Without `offset_sd` it is ten times the noise. `noise_is_assumed`: nobody measured it, so that verdicts need 3 sd
    until runs tell what it is. `vouched_verify`: a vouched volunteer among those who agree is enough to verify, without
    an anchor. Who was honest for a day may lie then.
    """

    noise_sd: Spread
    effect_sd: Spread
    offset_sd: Spread | None = None
    vouched_verify: StrictBool = False
    noise_is_assumed: StrictBool = False

    @property
    def typical_offset_sd(self) -> float:
        """By default ten times the noise: machines of one class differ by more than a run repeats itself."""
        return 10 * self.noise_sd if self.offset_sd is None else self.offset_sd


class JobMix(Message):
    """Initial shares of the kinds of job, which need not sum to one and adapt to each kind's gain. Zero is off.

    `promote` is a share of time, in units of runs with the contract's budget.
    """

    improve: Share = 2.0
    draft: Share = 0.5
    adopt: Share = 0.5
    ablate: Share = 0.25
    tune: Share = 0.25
    combine: Share = 3.5
    replicate: Share = 0.5
    control: Share = 0.5
    promote: Share = 0.5

    @property
    def promoting(self) -> float:
        """The share of a class's job time that runs on rungs may take, 0 to 1."""
        every = self.experiments + self.replicate + self.control + self.promote
        return self.promote / every if every else 0.0

    @property
    def experiments(self) -> float:
        return self.improve + self.draft + self.adopt + self.ablate + self.tune + self.combine


class Diversity(Message):
    """Limits of each branch's share of the experiments under way, and of a volunteer's share of all jobs.

    Each active branch keeps `min_branch`, and none takes more than `max_branch`. No volunteer holds more than
    `max_volunteer` of all jobs once several are at work. A branch is stalled after `stall_after` experiments without a
    gain; `max_branches` may be active at a time.
    """

    min_branch: StrictFloat = Field(default=0.05, ge=0, le=0.5)
    max_branch: StrictFloat = Field(default=0.8, gt=0, le=1)
    max_volunteer: StrictFloat = Field(default=0.5, gt=0, le=1)
    max_branches: StrictInt = Field(default=8, ge=1, le=100)
    stall_after: StrictInt = Field(default=24, ge=2, le=1_000_000)


class Packs(Message):
    """`without_findings` is the share of jobs, drawn at random, whose agent reads no findings of others: the difference
    between these jobs and the rest is what findings are worth. Zero is off."""

    without_findings: StrictFloat = Field(default=0.1, ge=0, le=0.5)


class Rung(Message):
    """A larger budget with which records are measured again, to see whether their gains hold there.

    Seconds are as in the budget, whose own hold for those that are missing, as the objective's `plausible_floor` does.
    `settings` replace values of
    `[data.settings]` in the run's processes: another size, where the project's harness hands it to the edited file. The
    prepared data is the same.
    """

    name: Slug
    training_seconds: Seconds
    wall_seconds: Seconds | None = None
    starting_seconds: Seconds | None = None
    scoring_seconds: Seconds | None = None
    plausible_floor: Reading | None = None
    settings: dict[SettingName, DataSetting] = Field(default_factory=dict)

    def enlarge(self, budget: Budget) -> Budget:
        """The budget of a run on this rung. A limit in wall time that it does not state grows with the training."""
        names = ("training_seconds", "starting_seconds", "scoring_seconds")
        stated = {name: value for name in names if (value := getattr(self, name)) is not None}
        wall_seconds = self.wall_seconds
        if wall_seconds is None and budget.wall_seconds is not None:
            wall_seconds = budget.wall_seconds * self.training_seconds / budget.training_seconds
        return budget.model_copy(update=stated | {"wall_seconds": wall_seconds})


class Contract(Message):
    project: ProjectSection
    objective: Objective
    budget: Budget
    files: Files
    limits: Limits = Limits()
    commands: Commands = Commands()
    data: Data = Data()
    evidence: Evidence
    jobs: JobMix = JobMix()
    diversity: Diversity = Diversity()
    packs: Packs = Packs()
    rungs: list[Rung] = Field(default_factory=list, max_length=8)

    @model_validator(mode="after")
    def _rungs_rise(self) -> Self:
        below, names = self.budget.training_seconds, set[str]()
        for rung in self.rungs:
            if rung.name in names:
                raise ValueError(f"two of `rungs` have the name {rung.name!r}")
            if rung.training_seconds <= below:
                raise ValueError(
                    f"the rung {rung.name!r} has a `training_seconds` of {rung.training_seconds:g}; it must be more "
                    f"than the {below:g} of {'the rung before it' if names else '[budget]'}"
                )
            if rung.wall_seconds is not None and self.budget.clock is BudgetClock.WALL:
                raise ValueError(f"the rung {rung.name!r} has `wall_seconds`, which are for a budget by the CPU clock")
            unknown = sorted(rung.settings.keys() - self.data.settings.keys())
            if unknown:
                raise ValueError(
                    f"the rung {rung.name!r} sets {', '.join(unknown)}, which [data.settings] does not have"
                )
            names.add(rung.name)
            below = rung.training_seconds
        return self

    @property
    def has_holdout(self) -> bool:
        """Whether a run with a `holdout_key` also scores sealed data, which no other run sees."""
        return self.commands.holdout is not None

    def find_rung(self, name: str) -> Rung | None:
        return next((rung for rung in self.rungs if rung.name == name), None)

    def on_rung(self, name: str | None) -> "Contract":
        """The contract of a run on a rung; of an ordinary run without one. Raises ContractError for an unknown name."""
        if name is None:
            return self
        rung = self.find_rung(name)
        if rung is None:
            raise ContractError(f"{CONTRACT_FILE} of {self.project.name} has no rung {name!r}")
        data = self.data.model_copy(update={"settings": self.data.settings | rung.settings})
        objective = self.objective
        if rung.plausible_floor is not None:
            objective = objective.model_copy(update={"plausible_floor": rung.plausible_floor})
        return self.model_copy(update={"budget": rung.enlarge(self.budget), "data": data, "objective": objective})

    @property
    def longest_budget(self) -> Budget:
        """The budget of the longest run that a worker may be given."""
        return self.rungs[-1].enlarge(self.budget) if self.rungs else self.budget


def parse_contract(text: str) -> Contract:
    """Read a `swarm.toml`. Raises ContractError, whose message has a line for each mistake.

    Its numbers may be written as in any earlier release (`8192.0`): a project's contract can never be changed.
    """
    try:
        return Contract.model_validate(tomllib.loads(text), strict=False)
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"{CONTRACT_FILE} is not valid TOML: {error}") from error
    except ValidationError as error:
        lines = (f"{name_place(e['loc'])}: {describe_mistake(e)}" for e in error.errors())
        raise ContractError(f"{CONTRACT_FILE}: " + "; ".join(lines)) from error
