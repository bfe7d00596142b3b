"""Several changes at once, by an assignment, and what is said of them."""

from dataclasses import replace

import pytest

from shared.experiments import Assignment, JobKind, Setting, StepFate
from tests.support.messages import make_run
from tests.worker.agents.tasks import TRAIN, make_task, sha_of
from tests.worker.agents.test_recombine import BIAS, DEEPER, DEEPER_STILL, change, make_step
from worker.agents.base import AgentError, StepFiles, Task
from worker.agents.recombine import CombineAgent
from worker.agents.search_space import read_values


def make_combination(*steps: StepFiles, new_values: int = 0, **settings: Setting) -> Task:
    asked = Assignment(
        steps=[step.step for step in steps], settings=settings, new_values=new_values, predicted_effect=-0.02
    )
    return replace(make_task(), kind=JobKind.COMBINE, assignment=asked, steps=steps)


def read(task: Task) -> dict[str, Setting]:
    text = CombineAgent().propose(task).files["train.py"]
    return read_values(text)


def find_moved(task: Task) -> dict[str, Setting]:
    before = read_values(TRAIN)
    return {name: value for name, value in read(task).items() if value != before[name]}


def test_steps_settings_and_new_values_are_changed_together() -> None:
    steps = [make_step(1, TRAIN, change(TRAIN, BIAS)), make_step(2, change(TRAIN, DEEPER), change(TRAIN, DEEPER_STILL))]
    task = make_combination(*steps, new_values=2, HEADS=8, LEARNING_RATE=0.01)
    moved = find_moved(task)
    assert moved.pop("HEADS") == 8 and moved.pop("LEARNING_RATE") == 0.01 and moved.pop("USE_BIAS") is True
    assert len(moved) == 2 and moved.keys() <= {"DEPTH", "BETA", "WEIGHT_DECAY"}
    draft = CombineAgent().propose(task)
    assert [step.fate for step in draft.proposal.steps] == [StepFate.DONE, StepFate.CONFLICT]
    assert draft.proposal.predicted_effect is None and draft.proposal.settings["HEADS"] == 8
    assert "HEADS 4 -> 8" in draft.proposal.title and "#2 (conflict)" in draft.proposal.hypothesis
    finding = CombineAgent().write_finding(task, draft, make_run(sha_of("x"), 3.2))
    assert "add up to" not in finding.mechanism and finding.claim.endswith("{result}")
    whole = make_combination(steps[0], new_values=2, HEADS=8)
    draft = CombineAgent().propose(whole)
    finding = CombineAgent().write_finding(whole, draft, make_run(sha_of("x"), 3.2))
    assert draft.proposal.predicted_effect == -0.02 and "add up to \N{MINUS SIGN}0.02" in finding.mechanism


def test_values_that_do_not_fit_this_code_are_left_out() -> None:
    """Others' settings are data: unknown names, other types and what is marked as fixed change nothing."""
    task = make_combination(
        HEADS=8, DEPTH="6; import os", NAME=3, SEQUENCE_LENGTH=256, OTHER=1, USE_BIAS=1, BETA=1, LEARNING_RATE=True
    )
    assert find_moved(task) == {"HEADS": 8, "BETA": 1.0}
    quoted = make_combination(NAME='"\nimport os\n"')
    assert read(quoted)["NAME"] == '"\nimport os\n"'
    with pytest.raises(AgentError, match="nothing is left"):
        CombineAgent().propose(make_combination(HEADS=4))


def test_a_refused_combination_is_drawn_anew() -> None:
    task = make_combination(new_values=2, HEADS=8)
    first = CombineAgent().propose(task)
    second = CombineAgent().propose(replace(task, refused=(first,)))
    assert second.files != first.files and second.proposal.settings["HEADS"] == 8


def test_the_first_jobs_change_at_most_half_of_the_constants() -> None:
    assert 0 < len(find_moved(make_combination(new_values=16))) <= 3
