"""Interface of an agent: it drafts a proposal for a task, and writes the finding once the run is measured."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.contract import Contract
from shared.experiments import Assignment, JobKind, Proposal, ProposalReply, Step, Trial
from shared.findings import FindingDraft
from shared.leases import BaseCommit
from shared.runs import ModelUsage, RunOutcome, RunReport
from worker.agents.search_space import read_settings

MAX_CLAIM_CHARACTERS = 200

MAX_REASON_WORDS = 120
"""Words of a run's reason that a finding quotes."""


class AgentError(Exception):
    """The agent has no proposal for this task; the message says why. The job is given back."""


class AgentUnavailable(AgentError):
    """The agent cannot draft anything now, whatever the task: its model is unreachable or its budget is spent."""


class AgentFinished(Exception):
    """The agent has no more proposals, as planned; the worker stops."""


@dataclass(frozen=True)
class Draft:
    """A proposal and the whole text of each file that it changes.

    `made_by` is for the commit message: the author and its cost, or empty. `is_code` is true if more than values may
    have changed: such a draft gets a smoke run first.
    """

    proposal: Proposal
    files: Mapping[str, str]
    made_by: str = ""
    is_code: bool = False

    def repair(self, files: Mapping[str, str], made_by: str) -> "Draft":
        """The same proposal, with these files changed as well."""
        changed = {**self.files, **files}
        proposal = self.proposal.model_copy(update={"settings": read_settings(changed)})
        return Draft(proposal, changed, made_by, is_code=True)


class Usage:
    """Language model usage of one experiment so far: for its draft, repairs and finding."""

    def __init__(self) -> None:
        self.total = ModelUsage()

    def add(self, usage: ModelUsage) -> None:
        self.total = self.total.plus(usage)


@dataclass(frozen=True)
class StepFiles:
    """A step with the editable files of the commit that it was made from, and of the one that it made."""

    step: Step
    before: Mapping[str, str]
    after: Mapping[str, str]


@dataclass(frozen=True)
class Task:
    """Everything an agent is given.

    `base.files` holds the editable files, `tree` all files of the base; `program` is the project's `program.md` or
    empty; `context` and `trials` are data, never instructions; `seed` fixes the agent's random choices; `refused` are
    drafts that were known already, `replies` the coordinator's answers to them; `steps` are the assignment's.
    """

    contract: Contract
    base: BaseCommit
    program: str
    context: str
    trials: tuple[Trial, ...]
    seed: int
    refused: tuple[Draft, ...] = ()
    tree: Mapping[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    kind: JobKind = JobKind.IMPROVE
    assignment: Assignment = field(default_factory=Assignment)
    steps: tuple[StepFiles, ...] = ()
    replies: tuple[ProposalReply, ...] = ()


class Agent(ABC):
    """Drafts experiments of the kinds `kinds`. `name` is shown beside its texts; `wants_trials`: it reads trials.

    Unless a subclass does more, it repairs nothing and writes findings by template.
    """

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def kinds(self) -> frozenset[JobKind]: ...

    @property
    def wants_trials(self) -> bool:
        return False

    @abstractmethod
    def propose(self, task: Task) -> Draft:
        """Draft a proposal. Raises AgentError; AgentFinished if there will be no more."""

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:  # noqa: ARG002 - for subclasses
        """The same idea without the mistake that made its run crash, or None to give up. Raises AgentError."""
        return None

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        """Describe what the run showed, in at most 250 words. Raises AgentError."""
        return plain_finding(task, draft, report, self.name)


def describe_measurement(task: Task, report: RunReport) -> str:
    """One run's metric in a sentence, compared with the parent's posterior; no claim beyond that run."""
    metric = task.contract.objective.metric
    if report.outcome is not RunOutcome.OK or report.metric is None:
        return f"the run gave no {metric}: {report.outcome.value}" + (f" ({report.reason})" if report.reason else "")
    measured = f"one run gave {metric} {report.metric:.4f}"
    parent = task.base.posterior
    if parent is None:
        return f"{measured}; the parent has not been measured yet"
    difference = report.metric - parent.metric_mean
    is_better = difference * task.contract.objective.sign < 0
    word = "the same as" if difference == 0 else "better than" if is_better else "worse than"
    return f"{measured}, {word} the parent's {parent.metric_mean:.4f} by {abs(difference):.4f}"


def plain_finding(task: Task, draft: Draft, report: RunReport, agent: str) -> FindingDraft:
    """A finding by template: the change, the result of one run, and the caveat that it is one run."""
    title, measured = draft.proposal.title, describe_measurement(task, report)
    if report.outcome is not RunOutcome.OK:
        mechanism = f"With this change {measured}."
        if len(mechanism.split()) > MAX_REASON_WORDS:  # leave room for the rest of the finding
            mechanism = " ".join([*mechanism.split()[:MAX_REASON_WORDS], "…"])
        return FindingDraft(
            claim=f"{shorten(title, MAX_CLAIM_CHARACTERS - 30)}: {report.outcome.value}",
            mechanism=shorten(mechanism, 1200),
            caveats="One attempt on one machine; the cause was not examined.",
            agent=agent,
        )
    return FindingDraft(
        claim=shorten(f"{title}: {measured}", MAX_CLAIM_CHARACTERS),
        mechanism="Unknown: the change was proposed from numbers alone.",
        caveats="One run with one seed on one worker; until it is replicated, the difference may be noise.",
        agent=agent,
    )


def shorten(text: str, length: int) -> str:
    """The first `length` characters, with an ellipsis if the text is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"
