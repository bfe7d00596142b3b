"""Code that is put together from steps, and what is said of it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from shared.experiments import Assignment, JobKind, Step, StepFate
from tests.support.messages import make_run
from tests.worker.agents.tasks import TRAIN, make_task, sha_of
from worker.agents.base import AgentError, StepFiles, Task
from worker.agents.recombine import RecombineAgent

Change = tuple[str, str]


def change(text: str, *changes: Change) -> str:
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


DEEPER: Change = ("DEPTH: int = 4", "DEPTH: int = 6")
DEEPER_STILL: Change = ("DEPTH: int = 4", "DEPTH: int = 8")
HEADS: Change = ("HEADS = 4", "HEADS = 8")
BIAS: Change = ("USE_BIAS = False", "USE_BIAS = True")


def make_step(number: int, before: str, after: str) -> StepFiles:
    step = Step(experiment_id=number, title=f"idea {number}", sha=sha_of(after), parent_sha=sha_of(before))
    return StepFiles(step, {"train.py": before}, {"train.py": after})


def assemble(kind: JobKind, source: str, *steps: StepFiles, **changes: object) -> Task:
    asked = Assignment(steps=[step.step for step in steps], predicted_effect=-0.03)
    return replace(make_task(source=source), kind=kind, assignment=asked, steps=steps, **changes)  # type: ignore[arg-type]


def fates(task: Task) -> tuple[Mapping[int, StepFate], str]:
    draft = RecombineAgent().propose(task)
    return {step.experiment_id: step.fate for step in draft.proposal.steps}, draft.files["train.py"]


def test_steps_of_several_lines_are_adopted_and_what_conflicts_is_left_out() -> None:
    """The parent has more heads; one step deepens it, one deepens it otherwise, one adds biases, one is there."""
    parent = change(TRAIN, HEADS)
    steps = [make_step(n, TRAIN, change(TRAIN, c)) for n, c in enumerate((DEEPER, DEEPER_STILL, BIAS, HEADS), start=7)]
    task = assemble(JobKind.ADOPT, parent, *steps)
    became, text = fates(task)
    assert text == change(TRAIN, HEADS, DEEPER, BIAS)
    assert became == {7: StepFate.DONE, 8: StepFate.CONFLICT, 9: StepFate.DONE, 10: StepFate.IDLE}
    draft = RecombineAgent().propose(task)
    assert draft.proposal.title == "Adopt #7, #9" and draft.proposal.predicted_effect is None
    whole = RecombineAgent().propose(assemble(JobKind.ADOPT, parent, steps[0], steps[2]))
    assert whole.proposal.predicted_effect == -0.03, "the sum is that of all steps"
    assert "#8 (idea 8): conflicts with the code here" in draft.proposal.hypothesis
    assert draft.proposal.settings["DEPTH"] == 6 and draft.proposal.settings["USE_BIAS"] is True
    finding = RecombineAgent().write_finding(task, draft, make_run(sha_of("x"), 3.2))
    assert finding.claim.endswith(": val_bpb {result}") and "#8 conflicts" in finding.caveats
    crash = RecombineAgent().write_finding(task, draft, make_run(sha_of("x"), None, reason="out of memory"))
    assert "out of memory" in crash.mechanism


def test_a_merge_that_is_no_program_is_a_conflict() -> None:
    """Each change alone compiles; together a name is indented under nothing."""
    base = "if True:\n    A = 1\n    B = 2\nC = 3\n"
    ours, theirs = base.replace("    B = 2\n", ""), base.replace("    A = 1\n", "")
    good = make_step(2, base, base.replace("C = 3", "C = 4"))
    became, text = fates(assemble(JobKind.ADOPT, ours, make_step(1, base, theirs), good))
    assert became == {1: StepFate.CONFLICT, 2: StepFate.DONE} and text == ours.replace("C = 3", "C = 4")


def test_a_combination_that_exists_is_tried_without_its_last_step() -> None:
    steps = [make_step(1, TRAIN, change(TRAIN, DEEPER)), make_step(2, TRAIN, change(TRAIN, BIAS))]
    task = assemble(JobKind.ADOPT, TRAIN, *steps)
    again = replace(task, refused=(RecombineAgent().propose(task),))
    became, text = fates(again)
    assert became == {1: StepFate.DONE, 2: StepFate.SKIPPED} and text == change(TRAIN, DEEPER)
    with pytest.raises(AgentError, match="#1, #2"):
        RecombineAgent().propose(replace(again, refused=again.refused * 2))


def test_one_step_is_taken_out_and_the_others_stay() -> None:
    before, after = change(TRAIN, HEADS), change(TRAIN, HEADS, DEEPER)
    stack = change(TRAIN, HEADS, DEEPER, BIAS)
    task = assemble(JobKind.ABLATE, stack, make_step(5, before, after))
    became, text = fates(task)
    assert (became, text) == ({5: StepFate.DONE}, change(TRAIN, HEADS, BIAS))
    draft = RecombineAgent().propose(task)
    assert draft.proposal.title == "Without #5 (idea 5)"
    overwritten = assemble(JobKind.ABLATE, change(TRAIN, HEADS, DEEPER_STILL), make_step(5, before, after))
    with pytest.raises(AgentError, match="#5 cannot be combined"):
        RecombineAgent().propose(overwritten)
