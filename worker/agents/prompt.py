"""Prompts: the templates in `prompts/`, filled in, with strangers' words fenced as data.

    improve, draft, adopt, ablate   the kinds of job; each says its mission, and extends `_chat` or `_tool`
    repair, tool_repair, paper      what comes after a run
    system                          the rules, and the form of an answer

What others wrote (findings, commits' code, logs of runs) stands between two lines with a number that is drawn anew
for each fence, so that no text can close its own fence. That keeps honest models honest; what holds against a model
that obeys its data all the same is that it has no tools, that only editable files are taken from its answer
(worker/agents/replies.py), and that they run in a sandbox.
"""

import secrets
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shared.experiments import JobKind, SimilarWork
from shared.formatting import format_effect, format_measure
from worker.agents.base import Task

PROMPTS = Path(__file__).with_name("prompts")
CHAT, TOOL = "_chat.md.j2", "_tool.md.j2"
"""Layouts of a job's prompt: for a model that answers, and for a tool that works in a folder."""

_environment = Environment(  # noqa: S701 - prompts are no HTML
    loader=FileSystemLoader(PROMPTS), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def render(name: str, **values: Any) -> str:
    """The prompt `name`, filled in. Raises UndefinedError for a blank without a value."""
    return _environment.get_template(f"{name}.md.j2").render(values).strip()


def describe_task(task: Task) -> dict[str, Any]:
    """What all prompts of a job tell of it, but for the words of others."""
    objective = task.contract.objective
    return {
        "metric": objective.metric,
        "unit": objective.unit,
        "better": "lower" if objective.sign > 0 else "higher",
        "min_effect": f"{objective.min_effect:g}",
        "noise_sd": f"{task.contract.evidence.noise_sd:g}",
        "training_seconds": f"{task.contract.budget.training_seconds:g}",
        "editable": ", ".join(task.contract.files.editable),
        "parent": _describe_parent(task),
        "refused": _list_refused(task),
        "may_insist": any(reply.similar for reply in task.replies),
        "avoid_axes": fence("axes", ", ".join(task.assignment.avoid_axes)) if task.assignment.avoid_axes else "",
        "steps": "",
    }


def template_of(task: Task) -> str:
    """The prompt for a task's kind."""
    return "draft" if task.kind is JobKind.DRAFT else "improve"


def fence(label: str, text: str) -> str:
    """A text by others, marked as data. `label` is ours, and says what it is."""
    mark = secrets.token_hex(8)
    return f"<<<DATA {mark} ({label})\n{text.rstrip() or '(empty)'}\nDATA {mark}>>>"


def _describe_parent(task: Task) -> str:
    """What is known of the commit a task starts from."""
    posterior = task.base.posterior
    if posterior is None:
        return "it has not been measured yet"
    runs = f"{posterior.runs} run{'' if posterior.runs == 1 else 's'}"
    return f"{format_measure(posterior.metric_mean, posterior.metric_sd)} from {runs}"


def _list_refused(task: Task) -> str:
    """This task's drafts that were known already; empty if there are none."""
    if not task.refused:
        return ""
    lines = [f"- {draft.proposal.title}" for draft in task.refused]
    lines += [f"  much like it: {_tell(one)}" for reply in task.replies for one in reply.similar]
    return fence("known ideas", "\n".join(lines))


def _tell(one: SimilarWork) -> str:
    """Somebody else's experiment, and what came of it."""
    which = "under way" if one.experiment_id is None else f"#{one.experiment_id}"
    effect = "" if one.effect_mean is None else f", effect {format_effect(one.effect_mean, one.effect_sd or 0.0)}"
    return f"{which}: {one.title} ({one.axis} {one.value}){effect}"
