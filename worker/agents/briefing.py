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

PROMPTS = Path(__file__).with_name("prompts")


def render(name: str, **values: str) -> str:
    """The prompt `name` with its `$blanks` filled in. Raises KeyError for a blank without a value."""
    return _template(name).substitute(values)


def fence(label: str, text: str) -> str:
    """A text by others, marked as data. `label` is ours, and says what it is."""
    mark = secrets.token_hex(8)
    return f"<<<DATA {mark} ({label})\n{text.rstrip() or '(empty)'}\nDATA {mark}>>>"


@cache
def _template(name: str) -> Template:
    return Template((PROMPTS / f"{name}.md").read_text(encoding="utf-8"))
