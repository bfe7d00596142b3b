"""The agent that does each kind of job, and the substitute while the model is unreachable."""

from dataclasses import replace

import pytest

from shared.experiments import Assignment, JobKind
from shared.findings import FindingDraft
from shared.runs import RunReport
from tests.worker.agents.tasks import make_task
from worker.agents import composite
from worker.agents.base import AgentUnavailable, Draft, Task
from worker.agents.combine import CombineAgent
from worker.agents.composite import AgentByKind, FallbackAgent
from worker.agents.recombine import RecombineAgent
from worker.agents.search import SearchAgent

IDEAS = frozenset({JobKind.IMPROVE, JobKind.DRAFT})


class ModelAgent:
    """Stands for an agent with a model, which may be away."""

    name = "model"
    wants_trials = False
    kinds = IDEAS

    def __init__(self) -> None:
        self.is_away = False

    def propose(self, task: Task) -> Draft:
        if self.is_away:
            raise AgentUnavailable("the endpoint does not answer")
        draft = SearchAgent().propose(task)
        return replace(draft, made_by="model")

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:
        return None

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        return FindingDraft(claim="The model's words.", agent=self.name)


def make_versatile(model: ModelAgent) -> AgentByKind:
    search, assembly = SearchAgent(), RecombineAgent()
    first = FallbackAgent(model, search, lambda line: None)
    others = {JobKind.ADOPT: assembly, JobKind.ABLATE: assembly, JobKind.TUNE: search, JobKind.COMBINE: CombineAgent()}
    return AgentByKind(first, others)


def test_each_kind_of_job_has_its_agent() -> None:
    agent = make_versatile(ModelAgent())
    assert agent.kinds == {kind for kind in JobKind if kind.makes_experiment}
    assert agent.propose(make_task()).made_by == "model"
    assert agent.propose(replace(make_task(), kind=JobKind.TUNE)).made_by == ""


def test_while_the_model_is_away_jobs_that_need_none_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelAgent()
    agent = make_versatile(model)
    model.is_away = True
    assert agent.propose(make_task()).made_by == "search"
    assert agent.kinds == {JobKind.IMPROVE, JobKind.TUNE, JobKind.ADOPT, JobKind.ABLATE, JobKind.COMBINE}
    model.is_away = False
    assert agent.propose(make_task()).made_by == "model"
    assert JobKind.DRAFT in agent.kinds
    model.is_away = True
    monkeypatch.setattr(composite, "FALLBACK_SECONDS", 0.0)
    agent.propose(make_task())
    assert JobKind.DRAFT in agent.kinds, "after a while it is asked again"


def test_the_constant_that_is_asked_for_is_tuned_and_tired_axes_are_left() -> None:
    for seed in range(5):
        task = replace(make_task(seed=seed), kind=JobKind.TUNE, assignment=Assignment(axis="BETA"))
        assert SearchAgent().propose(task).proposal.axis == "BETA"
        tired = ["BETA", "LEARNING_RATE", "DEPTH", "HEADS"]
        left = replace(make_task(seed=seed), assignment=Assignment(avoid_axes=tired))
        assert not set(SearchAgent().propose(left).proposal.axis.split(" and ")).intersection(tired)
    gone = replace(make_task(), kind=JobKind.TUNE, assignment=Assignment(axis="NOT_HERE"))
    assert SearchAgent().propose(gone).proposal.axis
