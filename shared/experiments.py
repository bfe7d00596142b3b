"""Experiments: what is proposed, what earlier trials showed, and how the coordinator shows them."""

from enum import StrEnum

from pydantic import Field

from shared.findings import Finding
from shared.protocol import LongText, Message, Sha, ShortText, Timestamp
from shared.runs import Run

Setting = bool | int | float | str
"""The value of a module-level constant of an editable file."""


class JobKind(StrEnum):
    """Why a worker is asked to do something. `replicate` and `control` measure existing commits."""

    IMPROVE = "improve"
    REPLICATE = "replicate"
    CONTROL = "control"

    @property
    def makes_experiment(self) -> bool:
        return self is JobKind.IMPROVE


class Verdict(StrEnum):
    IMPROVED = "improved"
    NO_CHANGE = "no_change"
    WORSE = "worse"
    UNRESOLVED = "unresolved"
    INVALID = "invalid"


class Standing(StrEnum):
    """How far a posterior may be relied upon. `single_owner` is as sure as `verified`, but nobody else measured it."""

    PROVISIONAL = "provisional"
    VERIFIED = "verified"
    SINGLE_OWNER = "single_owner"
    SUSPECT = "suspect"
    HELD = "held"


class Dispute(StrEnum):
    """Whether runs of a commit contradict each other beyond 3 sd. `refuted`: those who checked it agree, against its
    author."""

    NONE = "none"
    CONTESTED = "contested"
    REFUTED = "refuted"


class AxisDirection(StrEnum):
    UP = "up"
    DOWN = "down"
    CHANGE = "change"


class Proposal(Message):
    """What is to be tried, stated before it is run. `predicted_effect` is in the metric's unit, child minus parent."""

    title: ShortText
    hypothesis: LongText
    axis: ShortText
    direction: AxisDirection
    value: str = Field(default="", max_length=200)
    predicted_effect: float | None = None
    refuted_by: LongText = ""
    settings: dict[str, Setting] = Field(default={}, max_length=200)


class ProposalSubmission(Message):
    """A proposal with the files it would change, so that novelty can be judged before a GPU is used."""

    token: str
    proposal: Proposal
    files: dict[str, str]


class ProposalReply(Message):
    """`accepted`, or the experiment that already holds this code."""

    accepted: bool
    duplicate_of: int | None = None
    reason: str = ""


class Posterior(Message):
    """What all runs together say of a commit: metric and effect against the parent, each mean and sd.

    The milestone is the difference to the nearest ancestor that was verified, else to the root. `checkers` counts the
    volunteers besides the author who measured the commit. While its runs are in dispute it is not verified.
    """

    metric_mean: float
    metric_sd: float
    effect_mean: float | None = None
    effect_sd: float | None = None
    milestone_mean: float | None = None
    milestone_sd: float | None = None
    runs: int
    checkers: int = 0
    verdict: Verdict | None = None
    standing: Standing = Standing.PROVISIONAL
    dispute: Dispute = Dispute.NONE


class Trial(Message):
    """An earlier experiment as an agent reads it. `metric_mean` is None while it runs or if it failed.

    `outcome` is that of its first run, or `running`. While it runs, `sha` names its tree: there is no commit yet.
    """

    sha: Sha
    parent_sha: Sha | None
    title: str
    axis: str
    settings: dict[str, Setting]
    metric_mean: float | None
    metric_sd: float | None
    outcome: str


class ExperimentSummary(Message):
    """A row of the list of experiments."""

    id: int
    project: str
    kind: JobKind
    sha: Sha
    parent_sha: Sha
    parent_id: int | None
    branch: str
    title: str
    axis: str
    direction: AxisDirection
    value: str
    outcome: str
    hardware_class: str
    worker: str
    posterior: Posterior | None
    created_at: Timestamp


class ExperimentDetail(ExperimentSummary):
    """One experiment, whole."""

    hypothesis: str
    predicted_effect: float | None
    refuted_by: str
    why: str
    diff: str
    runs: list[Run]
    finding: Finding | None
