"""Interface of an agent: it drafts a proposal for a task, and writes the finding once the run is measured."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from shared.claims import REPLICATION, RESULT
from shared.contract import Contract
from shared.experiments import Assignment, JobKind, Proposal, ProposalReply, Step, Trial
from shared.findings import FindingDraft
from shared.formatting import format_run
from shared.leases import BaseCommit
from shared.runs import ModelUsage, RunOutcome, RunReport
from worker.agents.search_space import read_settings

MAX_CLAIM_CHARACTERS = 200

MAX_REASON_WORDS = 120
"""Words of a run's reason or of a hypothesis that a finding quotes."""


class AgentError(Exception):
    """The agent has no proposal for this task; the message says why. Its substitute drafts, if there is one."""


class AgentUnavailable(AgentError):
    """The agent cannot draft anything now, whatever the task: its model is unreachable or its budget is spent.

    With `retry_after_seconds` it is not asked before: a usage limit ends then, for example.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class AgentMisconfigured(AgentUnavailable):
    """The agent's settings are wrong (key, model, command), so that waiting does not help."""


class AgentInterrupted(AgentError):
    """The worker stops or pauses, which ended the agent's work; no fault of the agent's."""


class AssignmentImpossible(AgentError):
    """The assignment changes nothing on this parent, or cannot be done there, which is no agent's fault."""


class AgentFinished(Exception):
    """The agent has no more proposals, as planned; the worker stops."""


@dataclass(frozen=True)
class Draft:
    """A proposal and the whole text of each file that it changes.

    `agent` is the name of the agent that had the idea, `cost` what its model used for it, in words. `is_code` is true
    if more than values may have changed: such a draft gets a smoke run first.
    """

    proposal: Proposal
    files: Mapping[str, str]
    agent: str
    cost: str = ""
    is_code: bool = False

    @property
    def made_by(self) -> str:
        """The author and the cost, for the commit message."""
        return f"{self.agent} ({self.cost})" if self.cost else self.agent

    def repair(self, files: Mapping[str, str], cost: str = "") -> "Draft":
        """The same proposal, with these files changed as well."""
        changed = {**self.files, **files}
        proposal = self.proposal.model_copy(update={"settings": read_settings(changed)})
        return replace(self, proposal=proposal, files=changed, cost=cost, is_code=True)


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
    drafts that were known already, `replies` the coordinator's answers to them; `steps` are the assignment's; `notes`
    are the volunteer's own words for the agent, which never leave this machine. `show_activity` takes a growing number,
    which shows the coordinator that the draft makes progress.
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
    notes: str = ""
    show_activity: Callable[[int], None] = lambda _: None


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

    @property
    def trouble(self) -> str:
        """A sentence about the agent's failures of several jobs; empty if it works."""
        return ""

    @property
    def substitute(self) -> "Agent | None":
        """An agent that drafts at once, in another thread, where this one takes longer than the device can wait."""
        return None

    def check(self) -> str:
        """Try the agent on something small; return what that showed. Raises AgentError."""
        return self.name

    def begin(self) -> None:
        """Find wrong settings before the first job, at little cost. Raises AgentError."""
        return

    @abstractmethod
    def propose(self, task: Task) -> Draft:
        """Draft a proposal. Raises AgentError; AgentFinished if there will be no more."""

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:  # noqa: ARG002 - for subclasses
        """The same idea without the mistake that made its run crash, or None to give up. Raises AgentError."""
        return None

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        """Describe what the run showed, in at most 250 words. Raises AgentError."""
        return plain_finding(task, draft, report)


def describe_measurement(task: Task, report: RunReport) -> str:
    """One run's metric in a sentence, compared with the parent's posterior; no claim beyond that run."""
    metric = task.contract.objective.metric
    if report.outcome is not RunOutcome.OK or report.metric is None:
        return f"the run gave no {metric}: {report.outcome.value}" + (f" ({report.reason})" if report.reason else "")
    measured = f"one run gave {metric} {format_run(report.metric)}"
    parent = task.base.posterior
    if parent is None:
        return f"{measured}; the parent has not been measured yet"
    difference = report.metric - parent.metric_mean
    is_better = difference * task.contract.objective.sign < 0
    word = "the same as" if difference == 0 else "better than" if is_better else "worse than"
    return f"{measured}, {word} the parent's {format_run(parent.metric_mean)} by {format_run(abs(difference))}"


def state_claim(task: Task, draft: Draft) -> str:
    """The change, and a placeholder for its result: readers see the evidence as of then."""
    tail = f": {task.contract.objective.metric} {RESULT}"
    return shorten(draft.proposal.title, MAX_CLAIM_CHARACTERS - len(tail)) + tail


def plain_finding(task: Task, draft: Draft, report: RunReport) -> FindingDraft:
    """A finding by template: the change, its result, and the caveat of how often it was measured."""
    agent, title, measured = draft.agent, draft.proposal.title, describe_measurement(task, report)
    if report.outcome is not RunOutcome.OK:
        return FindingDraft(
            claim=f"{shorten(title, MAX_CLAIM_CHARACTERS - 30)}: {report.outcome.value}",
            mechanism=_cut_words(f"With this change {measured}."),
            caveats="One attempt on one machine; the cause was not examined.",
            agent=agent,
        )
    return FindingDraft(claim=state_claim(task, draft), caveats=REPLICATION, agent=agent)


def _cut_words(text: str) -> str:
    """The text, short enough to leave room for the rest of a finding."""
    words = text.split()
    return shorten(text if len(words) <= MAX_REASON_WORDS else " ".join([*words[:MAX_REASON_WORDS], "…"]), 1200)


def shorten(text: str, length: int) -> str:
    """The first `length` characters, with an ellipsis if the text is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"
