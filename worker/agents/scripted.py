"""The agent that replays a script (TOML, or JSON of the same form), for tests, demonstrations and prepared ideas.

[[steps]]
title = "Halve the depth"
hypothesis = "Within the budget, more steps are worth more than more layers."
axis = "DEPTH"
direction = "down"
value = "2"

[[steps.edits]]  # or [steps.files]: whole texts by path
file = "train.py"
search = "DEPTH = 4"
replace = "DEPTH = 2"
"""

import json
import tomllib
from pathlib import Path
from threading import Event
from typing import Self

from pydantic import Field, ValidationError, model_validator

from shared.experiments import AxisDirection, JobKind, Proposal
from shared.mistakes import describe_first
from shared.protocol import FilePath, Message
from worker.agents.base import Agent, AgentError, AgentFinished, AgentInterrupted, Draft, Task
from worker.agents.edits import Edit, EditError, apply_edits
from worker.agents.search_space import read_settings
from worker.settings import SettingsError


class ScriptError(SettingsError):
    """The script cannot be read; the message names the file and what is wrong with it."""


class ScriptStep(Proposal):
    """One proposal: `files` by their whole text, or `edits`, not both. `insists` justifies a near-duplicate.

    `thinking_seconds` delays it, to imitate an agent that reasons.
    """

    direction: AxisDirection = AxisDirection.CHANGE
    files: dict[FilePath, str] = Field(default={})
    edits: list[Edit] = Field(default=[])
    thinking_seconds: float = Field(default=0.0, ge=0, le=3600)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if ours := self.model_fields_set & {"settings", "steps", "new_branch"}:
            raise ValueError(f"a script cannot give {', '.join(sorted(ours))}")
        if bool(self.files) == bool(self.edits):
            raise ValueError("give either `files` or `edits`")
        return self


class Script(Message):
    """A whole script."""

    steps: list[ScriptStep] = Field(min_length=1)


def load_script(path: Path) -> Script:
    """Read a script. Raises ScriptError."""
    try:
        text = path.read_text(encoding="utf-8")
        return Script.model_validate(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
    except OSError as error:
        raise ScriptError(f"cannot read the script {path}: {error.strerror}") from error
    except ValidationError as error:
        raise ScriptError(f"{path}: {describe_first(error)}") from error
    except ValueError as error:  # JSON, TOML and UTF-8 all raise a kind of ValueError
        raise ScriptError(f"{path}: {error}") from error


class ScriptedAgent(Agent):
    """Proposes a script's steps in their order, each once, then raises AgentFinished. `stop` ends thinking."""

    name = "scripted"
    kinds = frozenset({JobKind.IMPROVE})

    def __init__(self, script: Script, stop: Event | None = None) -> None:
        self._steps = list(script.steps)
        self._stop = stop or Event()

    def propose(self, task: Task) -> Draft:
        """The next step. Raises AgentError if it does not fit the base, AgentFinished at the end."""
        if not self._steps:
            raise AgentFinished("the script has no more steps")
        step = self._steps.pop(0)
        if step.thinking_seconds and self._stop.wait(step.thinking_seconds):
            raise AgentInterrupted("the worker is stopping")
        try:
            files = step.files or apply_edits(step.edits, task.base.files)
        except EditError as error:
            raise AgentError(f"the script does not fit: {error}") from error
        fields = step.model_dump(include=set(Proposal.model_fields))
        return Draft(Proposal.model_validate(fields | {"settings": read_settings(files)}), files, self.name)
