"""Renders the prompts in `prompts/`, with texts by others fenced as data.

Such texts (findings, code, logs) stand between two lines with a random number, new for each fence, so that no text can
close its own. Against a model that obeys them all the same: it has no tools, and only editable files are taken.
"""

import secrets
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shared.contract import BudgetClock
from shared.experiments import JobKind, SimilarWork
from shared.formatting import format_effect, format_measure
from worker.agents.base import Task

PROMPTS = Path(__file__).with_name("prompts")
CHAT, TOOL = "_chat.md.j2", "_tool.md.j2"
"""Layouts of a job's prompt: for a language model, and for a tool that works in a folder."""

_environment = Environment(  # noqa: S701 - prompts are no HTML
    loader=FileSystemLoader(PROMPTS), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def render(name: str, **values: Any) -> str:
    """The prompt `name`. Raises UndefinedError for a missing value."""
    return _environment.get_template(f"{name}.md.j2").render(values).strip()


def describe_task(task: Task) -> dict[str, Any]:
    """Template values that all prompts of a job share."""
    objective, budget = task.contract.objective, task.contract.budget
    return {
        "metric": objective.metric, "unit": objective.unit, "better": "lower" if objective.sign > 0 else "higher",
        "min_effect": f"{objective.min_effect:g}", "noise_sd": f"{task.contract.evidence.noise_sd:g}",
        "training_seconds": f"{budget.training_seconds:g}{' CPU' if budget.clock is BudgetClock.CPU else ''}",
        "editable": ", ".join(task.contract.files.editable), "parent": _describe_parent(task),
        "refused": _list_refused(task), "notes": task.notes, "may_insist": any(reply.similar for reply in task.replies),
        "avoid_axes": fence("axes", ", ".join(task.assignment.avoid_axes)) if task.assignment.avoid_axes else "",
    }  # fmt: skip


def template_of(task: Task) -> str:
    """The prompt for a task's kind."""
    return "draft" if task.kind is JobKind.DRAFT else "improve"


def fence(label: str, text: str) -> str:
    """A text by others, marked as data; `label` names it."""
    mark = secrets.token_hex(8)
    return f"<<<DATA {mark} ({label})\n{text.rstrip() or '(empty)'}\nDATA {mark}>>>"


def _describe_parent(task: Task) -> str:
    posterior = task.base.posterior
    if posterior is None:
        return "it has not been measured yet"
    runs = f"{posterior.runs} run{'' if posterior.runs == 1 else 's'}"
    return f"{format_measure(posterior.metric_mean, posterior.metric_sd)} from {runs}"


def _list_refused(task: Task) -> str:
    """This task's refused drafts and similar work of others; empty if there are none."""
    if not task.refused:
        return ""
    lines = [f"- {draft.proposal.title}" for draft in task.refused]
    lines += [f"  similar: {_describe_similar(one)}" for reply in task.replies for one in reply.similar]
    return fence("known ideas", "\n".join(lines))


def _describe_similar(one: SimilarWork) -> str:
    which = "under way" if one.experiment_id is None else f"#{one.experiment_id}"
    effect = "" if one.effect_mean is None else f", effect {format_effect(one.effect_mean, one.effect_sd or 0.0)}"
    return f"{which}: {one.title} ({one.axis} {one.value}){effect}"
