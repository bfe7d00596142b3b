"""The agent that does each kind of job, and the substitute for whatever the model fails of."""

from dataclasses import replace

import pytest

from shared.experiments import Assignment, JobKind
from shared.findings import FindingDraft
from shared.runs import RunReport
from tests.support.messages import make_run
from tests.worker.agents.tasks import make_task, sha_of
from worker.agents.base import (
    Agent,
    AgentError,
    AgentFinished,
    AgentInterrupted,
    AgentMisconfigured,
    AgentUnavailable,
    AssignmentImpossible,
    Draft,
    Task,
)
from worker.agents.composite import AgentByKind, FallbackAgent
from worker.agents.recombine import CombineAgent, RecombineAgent
from worker.agents.search import SearchAgent
from worker.api.retry import Backoff

IDEAS = frozenset({JobKind.IMPROVE, JobKind.DRAFT})


class ModelAgent(Agent):
    """Stands for an agent with a model; `fails` is raised instead of a draft."""

    name = "model"
    kinds = IDEAS

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.asked = 0

    def begin(self) -> None:
        if self.fails is not None:
            raise self.fails

    def propose(self, task: Task) -> Draft:
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return replace(SearchAgent().propose(task), agent="model")

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        return FindingDraft(claim="The model's words.", agent=self.name)


class ShortRest(Backoff):
    """Lets an agent rest for `seconds`, or as long as it asks for."""

    seconds = 0.0

    def next_wait(self, at_least_seconds: float | None = None) -> float:
        return at_least_seconds or self.seconds


def make_versatile(model: ModelAgent, said: list[str] | None = None, rest_seconds: float = 0.0) -> AgentByKind:
    search, assembly = SearchAgent(), RecombineAgent()
    rest = ShortRest()
    rest.seconds = rest_seconds
    first = FallbackAgent(model, search, [].append if said is None else said.append, rest)
    others = {JobKind.ADOPT: assembly, JobKind.ABLATE: assembly, JobKind.TUNE: search, JobKind.COMBINE: CombineAgent()}
    return AgentByKind(first, others)


def test_each_kind_of_job_has_its_agent() -> None:
    agent = make_versatile(ModelAgent())
    assert agent.kinds == {kind for kind in JobKind if kind.makes_experiment}
    assert agent.propose(make_task()).made_by == "model"
    assert agent.propose(replace(make_task(), kind=JobKind.TUNE)).made_by == "search"


FAILURES = [
    AgentError("no answer that can be used"),
    AgentUnavailable("the endpoint does not answer"),
    AgentMisconfigured("the key is not accepted"),
    TypeError("'<' not supported between instances of 'str' and 'int'"),
    OSError(28, "No space left on device"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_whatever_the_model_fails_of_search_drafts_the_job_under_its_own_name(failure: Exception) -> None:
    model, said = ModelAgent(), list[str]()
    agent, task = make_versatile(model, said), make_task()
    model.fails = failure
    draft = agent.propose(task)
    assert draft.made_by == draft.agent == "search"
    assert agent.write_finding(task, draft, make_run(sha_of("x"))).agent == "search"
    assert str(failure) in said[0]
    model.fails = None
    draft = agent.propose(task)
    assert (draft.agent, agent.write_finding(task, draft, make_run(sha_of("x"))).agent) == ("model", "model")


def test_a_job_that_was_left_to_search_stays_with_it() -> None:
    """Its first draft was known already: the model is not asked again, and fails of one job, not of two."""
    model = ModelAgent()
    agent, task = make_versatile(model), make_task()
    model.fails = AgentError("it refuses")
    known = agent.propose(task)
    assert agent.propose(replace(task, refused=(known,))).agent == "search"
    assert model.asked == 1


def test_after_three_failures_in_a_row_the_state_lasts_until_the_model_works_again() -> None:
    model = ModelAgent()
    agent = make_versatile(model)
    model.fails = AgentError("it refuses")
    for trouble in ("", "", "the model gives nothing usable: it refuses"):
        agent.propose(make_task())
        assert agent.trouble.startswith(trouble) and bool(agent.trouble) == bool(trouble)
    model.fails = None
    agent.propose(make_task())
    assert agent.trouble == ""
    model.fails = AgentError("it refuses")
    agent.propose(make_task())
    assert agent.trouble == "", "one failure is no state"


def test_a_model_that_rests_is_not_asked_and_the_device_works_on() -> None:
    model = ModelAgent()
    agent = make_versatile(model, rest_seconds=3600.0)
    model.fails = AgentUnavailable("the endpoint does not answer")
    assert [agent.propose(make_task(seed=seed)).agent for seed in range(4)] == ["search"] * 4
    assert model.asked == 1
    assert agent.kinds == {JobKind.IMPROVE, JobKind.TUNE, JobKind.ADOPT, JobKind.ABLATE, JobKind.COMBINE}
    assert "the endpoint does not answer" in agent.trouble


def test_before_the_first_job_the_substitute_is_announced_only_where_there_will_be_jobs() -> None:
    model, said = ModelAgent(), list[str]()
    agent = make_versatile(model, said)
    model.fails = AgentMisconfigured("the key is not accepted")
    with pytest.raises(AgentMisconfigured):
        agent.begin()
    assert said == [] and agent.trouble == "", "the worker ends"
    model.fails = AgentUnavailable("the endpoint is busy")
    with pytest.raises(AgentUnavailable):
        agent.begin()
    assert said == ["the endpoint is busy; the search agent proposes instead"] and "is busy" in agent.trouble


def test_an_agent_that_knows_when_it_may_be_asked_again_rests_as_long() -> None:
    model = ModelAgent()
    agent = make_versatile(model)
    model.fails = AgentUnavailable("the usage limit is reached", retry_after_seconds=3600.0)
    agent.propose(make_task())
    model.fails = None
    assert agent.propose(make_task()).agent == "search"


def test_a_model_without_a_new_idea_leaves_the_job_to_search() -> None:
    model = ModelAgent()
    agent = make_versatile(model)
    known = Draft(SearchAgent().propose(make_task()).proposal, {}, "model")
    assert agent.propose(make_task(refused=(known,) * 2)).agent == "model"
    assert agent.propose(make_task(refused=(known,) * 3)).agent == "search"


def test_an_interruption_and_the_planned_end_are_no_failures() -> None:
    model = ModelAgent()
    agent = make_versatile(model)
    for error in (AgentInterrupted("the worker is stopping"), AgentFinished("no more")):
        model.fails = error
        with pytest.raises(type(error)):
            agent.propose(make_task())
    assert agent.trouble == ""


def test_an_assignment_that_changes_nothing_counts_against_nobody_and_is_not_asked_for_again_soon() -> None:
    model = ModelAgent()
    agent = make_versatile(model)
    with pytest.raises(AssignmentImpossible):
        agent.propose(replace(make_task(), kind=JobKind.ADOPT))
    assert agent.trouble == "" and model.asked == 0
    assert JobKind.ADOPT not in agent.kinds and {JobKind.ABLATE, JobKind.IMPROVE} <= agent.kinds


def test_the_constant_that_is_asked_for_is_tuned_and_tired_axes_are_left() -> None:
    for seed in range(5):
        task = replace(make_task(seed=seed), kind=JobKind.TUNE, assignment=Assignment(axis="BETA"))
        assert SearchAgent().propose(task).proposal.axis == "BETA"
        tired = ["BETA", "LEARNING_RATE", "DEPTH", "HEADS"]
        left = replace(make_task(seed=seed), assignment=Assignment(avoid_axes=tired))
        assert not set(SearchAgent().propose(left).proposal.axis.split(" and ")).intersection(tired)
    gone = replace(make_task(), kind=JobKind.TUNE, assignment=Assignment(axis="NOT_HERE"))
    assert SearchAgent().propose(gone).proposal.axis
