"""The agent that replays a script: for tests, for demonstrations, and for repeating somebody's list of ideas.

A script is TOML (or JSON of the same form). A step gives whole files, or edits of the base's files:

    [[steps]]
    title = "Halve the depth"
    hypothesis = "Within 20 s, more steps are worth more than more layers."
    axis = "DEPTH"
    direction = "down"
    value = "2"

    [[steps.edits]]
    file = "train.py"
    search = "DEPTH = 4"
    replace = "DEPTH = 2"
"""

import json
import tomllib
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from shared.experiments import AxisDirection, Proposal, Setting
from shared.findings import FindingDraft
from shared.protocol import FilePath, LongText, Message, ShortText
from shared.runs import RunReport
from worker.agents.base import AgentError, AgentFinished, Draft, Task, plain_finding
from worker.agents.constants import ConstantsError, read_constants


class ScriptError(ValueError):
    """The script cannot be read; the message names the file and what is wrong with it."""


class Edit(Message):
    """One replacement. `search` must occur exactly once in the file."""

    file: FilePath
    search: str = Field(min_length=1)
    replace: str


class Step(Message):
    """One proposal: `files` by their whole text, or `edits`, not both."""

    title: ShortText
    hypothesis: LongText
    axis: ShortText
    direction: AxisDirection = AxisDirection.CHANGE
    value: str = ""
    predicted_effect: float | None = None
    refuted_by: LongText = ""
    files: dict[FilePath, str] = Field(default={})
    edits: list[Edit] = Field(default=[])

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.files) == bool(self.edits):
            raise ValueError("give either `files` or `edits`")
        return self


class Script(Message):
    """A whole script."""

    steps: list[Step] = Field(min_length=1)


def load_script(path: Path) -> Script:
    """Read a script. Raises ScriptError."""
    try:
        text = path.read_text(encoding="utf-8")
        return Script.model_validate(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
    except OSError as error:
        raise ScriptError(f"cannot read the script {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ScriptError(f"{path}: {where}: {first['msg']}") from error
    except ValueError as error:  # JSON, TOML and UTF-8 all raise a kind of ValueError
        raise ScriptError(f"{path}: {error}") from error


class ScriptedAgent:
    """Proposes a script's steps in their order, each once; raises AgentFinished after the last."""

    name = "scripted"
    wants_trials = False

    def __init__(self, script: Script) -> None:
        self._steps = list(script.steps)

    def propose(self, task: Task) -> Draft:
        """The next step. Raises AgentError where it does not fit the base, and AgentFinished at the end."""
        if not self._steps:
            raise AgentFinished("the script has no more steps")
        step = self._steps.pop(0)
        files = step.files or _apply(step.edits, task)
        proposal = Proposal(**step.model_dump(exclude={"files", "edits"}), settings=_settings(files))
        return Draft(proposal, files)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        """What was changed and what one single run says of it."""
        return plain_finding(task, draft, report, self.name)


def _apply(edits: list[Edit], task: Task) -> dict[str, str]:
    files: dict[str, str] = {}
    for edit in edits:
        text = files.get(edit.file, task.base.files.get(edit.file))
        if text is None:
            raise AgentError(f"the script edits {edit.file}, which is no editable file of this project")
        count = text.count(edit.search)
        if count != 1:
            raise AgentError(f"{edit.search!r} occurs {count} times in {edit.file}; the script needs it exactly once")
        files[edit.file] = text.replace(edit.search, edit.replace)
    return files


def _settings(files: dict[str, str]) -> dict[str, Setting]:
    """The constants of the changed Python files, so that other agents learn from this trial."""
    settings: dict[str, Setting] = {}
    for path, text in files.items():
        if path.endswith(".py"):
            try:
                settings |= {name: constant.value for name, constant in read_constants(text).items()}
            except ConstantsError:
                return {}  # a file that is not valid Python is a trial too, and its run will say so
    return settings
