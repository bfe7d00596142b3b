"""Experiments: what is proposed, what earlier trials showed, and how the coordinator shows them."""

from enum import StrEnum

from pydantic import Field

from shared.protocol import LongText, Message, Sha, ShortText, Slug

MAX_STEPS = 16
"""Number of steps that one experiment can adopt."""

Setting = bool | int | float | str
"""The value of a module-level constant of an editable file."""


class JobKind(StrEnum):
    """Why a worker is asked to do something. `replicate` and `control` measure existing commits.

    `draft` is a structural departure; `adopt` re-applies other experiments' steps to the parent; `ablate` takes one
    of the steps that led to it out; `tune` looks for a constant's best value. These three need no language model.
    """

    IMPROVE = "improve"
    DRAFT = "draft"
    ADOPT = "adopt"
    ABLATE = "ablate"
    TUNE = "tune"
    REPLICATE = "replicate"
    CONTROL = "control"

    @property
    def makes_experiment(self) -> bool:
        return self not in (JobKind.REPLICATE, JobKind.CONTROL)

    @property
    def is_assembled(self) -> bool:
        """Whether its code is put together from steps that exist, and nobody has to write any."""
        return self in (JobKind.ADOPT, JobKind.ABLATE)


class Verdict(StrEnum):
    IMPROVED = "improved"
    NO_CHANGE = "no_change"
    WORSE = "worse"
    UNRESOLVED = "unresolved"
    INVALID = "invalid"


class Standing(StrEnum):
    """How far a posterior may be relied upon. `single_owner` is as sure as `verified`, but nobody else measured it.

    `reported` is what an imported session tells of a commit whose code it does not hold: nobody can repeat it.
    """

    PROVISIONAL = "provisional"
    VERIFIED = "verified"
    SINGLE_OWNER = "single_owner"
    SUSPECT = "suspect"
    HELD = "held"
    REPORTED = "reported"


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


class Step(Message):
    """One experiment's change: what leads from its parent's files to its own."""

    experiment_id: int
    title: str
    sha: Sha
    parent_sha: Sha


class Assignment(Message):
    """Details of a job besides its kind and its base.

    `steps` are to be re-applied to the base (`adopt`) or taken out of it (`ablate`); `predicted_effect` is what that
    should bring, child minus parent. `axis` is the constant whose best value is looked for (`tune`). `avoid_axes` were
    tried in vain of late: another one is asked for.
    """

    steps: list[Step] = Field(default=[], max_length=MAX_STEPS)
    predicted_effect: float | None = None
    axis: ShortText | None = None
    avoid_axes: list[ShortText] = Field(default=[], max_length=64)


class StepFate(StrEnum):
    """Result of a requested step: done; left out because it conflicts; without effect on these files; or left out
    because the combination with it exists already."""

    DONE = "done"
    CONFLICT = "conflict"
    IDLE = "idle"
    SKIPPED = "skipped"


class StepReport(Message):
    """A step of the assignment, and what became of it."""

    experiment_id: int
    fate: StepFate


class Proposal(Message):
    """A change, stated before it is run. `predicted_effect` is in the metric's unit, child minus parent.

    `insists` says why it is worth a run although something much like it was tried. `new_branch` names a research
    direction that begins with it. `steps` tells of what it was put together from, if it was.
    """

    title: ShortText
    hypothesis: LongText
    axis: ShortText
    direction: AxisDirection
    value: str = Field(default="", max_length=200)
    predicted_effect: float | None = None
    refuted_by: LongText = ""
    settings: dict[str, Setting] = Field(default={}, max_length=200)
    insists: LongText = ""
    new_branch: Slug | None = None
    steps: list[StepReport] = Field(default=[], max_length=MAX_STEPS)


class ProposalSubmission(Message):
    """A proposal with the files it would change, so that novelty can be judged before a GPU is used.

    `may_measure` says that the worker is ready to measure the commit that holds this code already, if one does.
    """

    token: str
    proposal: Proposal
    files: dict[str, str]
    may_measure: bool = False


class SimilarWork(Message):
    """An experiment much like a proposal; `experiment_id` is None while it is under way.

    Effects are in the metric's unit, child minus parent. `similarity` is that of the words, at most 1; None where it is
    the same step of the same constant.
    """

    experiment_id: int | None
    title: str
    axis: str
    value: str
    outcome: str
    effect_mean: float | None
    effect_sd: float | None
    similarity: float | None


class ProposalReply(Message):
    """`accepted`; or the experiment that already holds this code; or `similar` ones, against which one may insist.

    With `measure` the lease now asks for a run of that commit, which holds this code, and of nothing else.
    """

    accepted: bool
    duplicate_of: int | None = None
    reason: str = ""
    similar: list[SimilarWork] = Field(default=[], max_length=16)
    measure: Sha | None = None


class Posterior(Message):
    """A commit's metric, and its effect against the parent, given all runs; each with mean and sd.

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
