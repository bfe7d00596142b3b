"""worker/agents/prompt.py: every prompt is whole, and strangers' words stand inside their fences."""

from dataclasses import replace

import pytest

from shared.experiments import Assignment, JobKind, ProposalReply, SimilarWork
from tests.worker.agents.tasks import make_task
from worker.agents.base import Draft
from worker.agents.prompt import CHAT, PROMPTS, TOOL, describe_task, fence, render, template_of
from worker.agents.replies import Statement

KINDS = ("improve", "draft")


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_job_says_its_mission_to_a_model_and_to_a_tool(kind: str) -> None:
    task = make_task()
    texts = {"program": fence("a", "PROGRAM"), "context": fence("b", "CONTEXT"), "files": fence("c", "FILES")}
    axes = {"avoid_axes": fence("d", "AXES")}
    chat = render(kind, layout=CHAT, **texts, **describe_task(task) | axes)
    tool = render(kind, layout=TOOL, work="/w", brief="/b", answer="/a", **describe_task(task) | axes)
    for prompt in (chat, tool):
        assert "val_bpb" in prompt and "3.3000 ± 0.0050 from 1 run" in prompt and "20 seconds" in prompt
        assert ("AXES" in prompt) == (kind == "improve")
        assert "{" not in prompt and "{#" not in prompt
    assert all(word in chat for word in ("PROGRAM", "CONTEXT", "FILES", "must occur once"))
    assert "/a/proposal.json" in tool and "train.py" in tool


TOOL_PROMPTS = ("tool_question", "tool_repair", "tool_again", "tool_paper", "tool_toy")


def test_the_prompts_are_those_that_are_asked_for() -> None:
    names = {path.name.removesuffix(".md.j2") for path in PROMPTS.iterdir()}
    assert names == {*KINDS, "system", "repair", "paper", *TOOL_PROMPTS, "_chat", "_tool", "_changes"}


def test_what_was_refused_is_named_as_data() -> None:
    draft = Draft(Statement.undescribed("An undescribed change").to_proposal({}), {}, "test")
    task = replace(make_task(), refused=(draft,))
    prompt = render("improve", layout=TOOL, work="/w", brief="/b", answer="/a", **describe_task(task))
    assert (
        "tried these already" in prompt
        and "<<<DATA" in prompt.split("tried these already")[1].split("An undescribed change")[0]
    )


def test_what_is_much_like_it_is_told_and_may_be_insisted_upon() -> None:
    alike = SimilarWork(
        experiment_id=7, title="A learnable gain", axis="norm", value="", outcome="ok", effect_mean=-0.0123,
        effect_sd=0.004, similarity=0.9,
    )  # fmt: skip
    draft = Draft(Statement.undescribed("An undescribed change").to_proposal({}), {}, "test")
    task = replace(make_task(), refused=(draft,), replies=(ProposalReply(accepted=False, similar=[alike]),))
    values = {"program": "", "context": "", "files": ""}
    chat = render("improve", layout=CHAT, **values, **describe_task(task))
    tool = render("improve", layout=TOOL, work="/w", brief="/b", answer="/a", **describe_task(task))
    for prompt in (chat, tool):
        assert "similar: #7: A learnable gain (norm )" in prompt and "−0.0123 ± 0.0040" in prompt
        assert "`insists` " in prompt
    alone = replace(task, replies=(ProposalReply(accepted=False),))
    assert "`insists` says" not in render("improve", layout=CHAT, **values, **describe_task(alone))


def test_the_kind_of_job_and_its_tired_axes_are_told() -> None:
    assert template_of(make_task()) == "improve"
    assert template_of(replace(make_task(), kind=JobKind.DRAFT)) == "draft"
    tired = replace(make_task(), assignment=Assignment(avoid_axes=["the schedule"]))
    prompt = render("improve", layout=TOOL, work="/w", brief="/b", answer="/a", **describe_task(tired))
    assert "<<<DATA" in prompt.split("choose another axis")[1].split("the schedule")[0]


def test_a_text_of_others_is_not_rendered_again() -> None:
    evil = fence("a finding", "{{ 7 * 7 }} {% include 'system.md.j2' %}")
    assert "{{ 7 * 7 }} {% include" in render("repair", title="t", crash=evil, files="")


def test_the_volunteers_notes_go_with_each_prompt() -> None:
    task = replace(make_task(), notes="Try optimizers.")
    for kind in KINDS:
        assert "Try optimizers." in render(kind, layout=TOOL, work="/w", brief="/b", answer="/a", **describe_task(task))
    assert "Try optimizers." in render("system", editable="train.py", schema="{}", notes=task.notes)
    assert "asks of you" not in render("system", editable="train.py", schema="{}", notes="")
