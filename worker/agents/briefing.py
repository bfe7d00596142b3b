"""Prompts: the files in `prompts/` with their blanks filled in, and strangers' words fenced as data.

What others wrote (findings, commits' code, logs of runs) stands between two lines with a number that is drawn anew
for each fence, so that no text can close its own fence. That keeps honest models honest; what holds against a model
that obeys its data all the same is that it has no tools, that only editable files are taken from its answer
(worker/agents/edits.py), and that they run in a sandbox.
"""

import secrets
from functools import cache
from pathlib import Path
from string import Template

from worker.agents.base import Task

PROMPTS = Path(__file__).with_name("prompts")


def render(name: str, **values: str) -> str:
    """The prompt `name` with its `$blanks` filled in. Raises KeyError for a blank without a value."""
    return _template(name).substitute(values)


def fence(label: str, text: str) -> str:
    """A text by others, marked as data. `label` is ours, and says what it is."""
    mark = secrets.token_hex(8)
    return f"<<<DATA {mark} ({label})\n{text.rstrip() or '(empty)'}\nDATA {mark}>>>"


def describe_parent(task: Task) -> str:
    """What is known of the commit a task starts from."""
    posterior = task.base.posterior
    if posterior is None:
        return "it has not been measured yet"
    return f"{posterior.metric_mean:.4f} ± {posterior.metric_sd:.4f} from {posterior.runs} runs"


def describe_refused(task: Task) -> str:
    """This task's drafts that were known already; empty if there are none."""
    if not task.refused:
        return ""
    titles = "\n".join(f"- {draft.proposal.title}" for draft in task.refused)
    return "These have been tried already, by others; propose something else:\n\n" + fence("known ideas", titles)


@cache
def _template(name: str) -> Template:
    return Template((PROMPTS / f"{name}.md").read_text(encoding="utf-8"))
