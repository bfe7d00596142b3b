"""Experiments: what is proposed, what earlier trials showed, and how the coordinator shows them."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from shared.protocol import (
    CLEAN,
    MAX_NUMBER,
    Count,
    FilePath,
    LongText,
    Message,
    Number,
    Reading,
    Secret,
    Sha,
    ShortText,
    Slug,
    SourceText,
    Text,
)

MAX_STEPS = 16  # that one experiment can adopt
MAX_EDITED_FILES = 16
MAX_SETTINGS = 200
MAX_SETTING_NUMBER = 2**64
MAX_SETTING_CHARACTERS = 2000
MAX_SETTING_NAME = 200
SettingName = Annotated[str, Field(max_length=MAX_SETTING_NAME), CLEAN]
Setting = (
    StrictBool
    | Annotated[StrictInt, Field(ge=-MAX_SETTING_NUMBER, le=MAX_SETTING_NUMBER)]
    | Annotated[StrictFloat, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
    | Annotated[str, Field(max_length=MAX_SETTING_CHARACTERS), CLEAN]
)
"""The value of a module-level constant of an editable file."""


class JobKind(StrEnum):
    """Purpose of a job. `replicate`, `control`, `confirm` and `promote` measure existing commits.

    `draft` is a structural departure; `adopt` re-applies other experiments' steps to the parent; `ablate` takes out one
    of the steps that led to it; `tune` looks for a constant's best value; `combine` makes several changes at once that
    a model of all runs draws as gains. The last four need no language model.
    `confirm` gives a record its published number, `promote` measures it on a rung, a larger budget.
    """

    IMPROVE = "improve"
    DRAFT = "draft"
    ADOPT = "adopt"
    ABLATE = "ablate"
    TUNE = "tune"
    COMBINE = "combine"
    REPLICATE = "replicate"
    CONTROL = "control"
    CONFIRM = "confirm"
    PROMOTE = "promote"

    @property
    def makes_experiment(self) -> bool:
        return self not in (JobKind.REPLICATE, JobKind.CONTROL, JobKind.CONFIRM, JobKind.PROMOTE)

    @property
    def is_evidence(self) -> bool:
        """Whether its runs count in a commit's posterior. Those that confirm a choice take no part in choosing."""
        return self not in (JobKind.CONFIRM, JobKind.PROMOTE)

    @property
    def is_measurement(self) -> bool:
        """Whether its runs measure an existing commit to know more of it."""
        return self.is_evidence and not self.makes_experiment

    @property
    def is_assembled(self) -> bool:
        """Whether its code is put together from existing steps."""
        return self in (JobKind.ADOPT, JobKind.ABLATE, JobKind.COMBINE)


class Verdict(StrEnum):
    IMPROVED = "improved"
    NO_CHANGE = "no_change"
    WORSE = "worse"
    UNRESOLVED = "unresolved"
    INVALID = "invalid"


class Standing(StrEnum):
    """How far a posterior may be relied upon.

    `corroborated` is as sure as `verified`, and others agree, but no anchor is among them, or anchors' runs alone do
    not find it. Nobody but its author measured what is `single_owner`.
    `reported` comes from an imported session without the commit's code: nobody can repeat it. A maintainer decides on
    what is `held`; what is `rejected` counts for nothing.
    """

    PROVISIONAL = "provisional"
    CORROBORATED = "corroborated"
    VERIFIED = "verified"
    SINGLE_OWNER = "single_owner"
    SUSPECT = "suspect"
    HELD = "held"
    REPORTED = "reported"
    REJECTED = "rejected"


class HeldDecisionKind(StrEnum):
    """A maintainer's decision on a held result. `check`: it stays held until two anchors have measured it."""

    ACCEPT = "accept"
    CHECK = "check"
    REJECT = "reject"


class Dispute(StrEnum):
    """Whether runs of a commit contradict each other beyond 3 sd. `refuted`: its checkers agree, against its author."""

    NONE = "none"
    CONTESTED = "contested"
    REFUTED = "refuted"


class AxisDirection(StrEnum):
    UP = "up"
    DOWN = "down"
    CHANGE = "change"


class Step(Message):
    """One experiment's change: what leads from its parent's files to its own."""

    experiment_id: Count
    title: Text
    sha: Sha
    parent_sha: Sha


class Assignment(Message):
    """Details of a job besides its kind and its base.

    `steps` are to be re-applied to the base (`adopt`, `combine`) or taken out of it (`ablate`), with
    `predicted_effect`, child minus parent. `axis` is the constant to `tune`. `avoid_axes` were tried in vain of late.
    A job to `combine` also sets the base's constants to `settings`, as far as they are there, and moves `new_values`
    others to values of the agent's choice, which `predicted_effect` leaves out.
    """

    steps: list[Step] = Field(default=[], max_length=MAX_STEPS)
    predicted_effect: Number | None = None
    axis: ShortText | None = None
    avoid_axes: list[ShortText] = Field(default=[], max_length=64)
    settings: dict[SettingName, Setting] = Field(default={}, max_length=MAX_SETTINGS)
    new_values: StrictInt = Field(default=0, ge=0, le=MAX_STEPS)


class StepFate(StrEnum):
    """Outcome of a step: done as asked, left out because it conflicts, without effect on these files, or left out
    because the combination with it exists already."""

    DONE = "done"
    CONFLICT = "conflict"
    IDLE = "idle"
    SKIPPED = "skipped"


class StepReport(Message):
    experiment_id: Count
    fate: StepFate


class Proposal(Message):
    """A change, stated before it is run. `predicted_effect` is in the metric's unit, child minus parent.

    `insists` says why it is worth a run although something similar was tried. `new_branch` names a research direction
    that begins with it. `steps` are those of the assignment, for a change that is put together from them.
    """

    title: ShortText
    hypothesis: LongText
    axis: ShortText
    direction: AxisDirection
    value: Annotated[str, Field(max_length=200), CLEAN] = ""
    predicted_effect: Reading | None = None
    refuted_by: LongText = ""
    settings: dict[SettingName, Setting] = Field(default={}, max_length=MAX_SETTINGS)
    insists: LongText = ""
    new_branch: Slug | None = None
    steps: list[StepReport] = Field(default=[], max_length=MAX_STEPS)


class ProposalSubmission(Message):
    """A proposal with its changed files. `may_measure`: if a commit holds this code already, measure that instead."""

    token: Secret
    proposal: Proposal
    files: dict[FilePath, SourceText] = Field(max_length=MAX_EDITED_FILES)
    may_measure: StrictBool = False


class SimilarWork(Message):
    """An experiment similar to a proposal; `experiment_id` is None while it is under way.

    Effects are child minus parent. `similarity` of the words is at most 1, None for the same step of a constant.
    """

    experiment_id: Count | None
    title: Text
    axis: Text
    value: Text
    outcome: Text
    effect_mean: Number | None
    effect_sd: Number | None
    similarity: Number | None


class ProposalReply(Message):
    """`accepted`; or the experiment that already holds this code; or `similar` ones, against which one may insist.

    With `measure` the lease now asks for a run of that commit and nothing else.
    """

    accepted: StrictBool
    duplicate_of: Count | None = None
    reason: Text = ""
    similar: list[SimilarWork] = Field(default=[], max_length=16)
    measure: Sha | None = None


class Posterior(Message):
    """A commit's metric, and its effect against the parent, or the nearest ancestor measured in the class, by all runs.

    The milestone is the difference to the nearest verified ancestor, else to the root. `checkers` counts the volunteers
    besides the author who measured the commit. While its runs are in dispute it is not verified. Of a verified one,
    `caches_emptied` says that anchors found it where no process of a run can tell the next what it saw.
    """

    metric_mean: Number
    metric_sd: Number
    effect_mean: Number | None = None
    effect_sd: Number | None = None
    milestone_mean: Number | None = None
    milestone_sd: Number | None = None
    runs: Count
    checkers: Count = 0
    verdict: Verdict | None = None
    standing: Standing = Standing.PROVISIONAL
    dispute: Dispute = Dispute.NONE
    caches_emptied: StrictBool = False

    @property
    def standing_words(self) -> str:
        """`single owner`: the standing in words, with what a verified one lacks."""
        has_gap = self.standing is Standing.VERIFIED and not self.caches_emptied
        return self.standing.replace("_", " ") + (", caches not emptied" if has_gap else "")

    @property
    def conclusion(self) -> str:
        """`improved, provisional`: the verdict, if there is one, and the standing, in words."""
        return ", ".join(filter(None, (self.verdict and self.verdict.replace("_", " "), self.standing_words)))


class Trial(Message):
    """An earlier experiment as an agent reads it.

    `outcome` is that of its first run, or `running`: `sha` then names its tree, because there is no commit yet.
    `metric_mean` is None while it runs or if it failed.
    """

    sha: Sha
    parent_sha: Sha | None
    title: Text
    axis: Text
    settings: dict[SettingName, Setting]
    metric_mean: Number | None
    metric_sd: Number | None
    outcome: Text
