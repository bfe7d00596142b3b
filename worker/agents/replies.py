"""Forms of a model's answers (JSON schemas), and their conversion to proposals, findings and changed files.

An answer may leave out what has a default, though the schemas that are sent require every field.
"""

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from shared.commits import CommitError, check_path
from shared.contract import Files
from shared.experiments import AxisDirection, Proposal, Setting
from shared.findings import MAX_FINDING_WORDS, MAX_TAGS, FindingDraft
from shared.protocol import FilePath, Message
from worker.agents.base import shorten
from worker.runs.validate import find_excess

MAX_SHORT, MAX_LONG, MAX_TAG = 200, 4000, 63


class EditError(ValueError):
    """The changes cannot be applied; the message says which and why, so that their author can correct them."""


class Edit(Message):
    """One replacement. `search` must occur exactly once in the file, as it is after the edits before this one."""

    file: FilePath
    search: str = Field(min_length=1)
    replace: str


class WholeFile(Message):
    """A file with its whole text."""

    file: str
    text: str


class Changes(Message):
    """Changes to files: replacements, or whole files. An answer may leave out one of the two."""

    edits: list[Edit] = Field(default=[])
    files: list[WholeFile] = Field(default=[])

    @model_validator(mode="before")
    @classmethod
    def _need_one(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.keys() & {"edits", "files"}:
            raise ValueError("neither `edits` nor `files` is there")
        return given


class Statement(Message):
    """A proposal in the model's words."""

    title: str
    hypothesis: str = ""
    axis: str = ""
    direction: AxisDirection = AxisDirection.CHANGE
    value: str = ""
    predicted_effect: float | None = None
    refuted_by: str = ""
    insists: str = ""

    def to_proposal(self, settings: dict[str, Setting]) -> Proposal:
        """The proposal as the coordinator accepts it."""
        effect = self.predicted_effect
        return Proposal(
            title=_line(self.title) or "An untitled change",
            hypothesis=self.hypothesis[:MAX_LONG],
            axis=_line(self.axis) or "code",
            direction=self.direction,
            value=_line(self.value),
            predicted_effect=effect if effect is not None and math.isfinite(effect) else None,
            refuted_by=self.refuted_by[:MAX_LONG],
            settings=settings,
            insists=self.insists[:MAX_LONG],
        )

    @classmethod
    def undescribed(cls, title: str) -> Self:
        """The statement of a tool that changed files without describing the change."""
        return cls.model_validate({"title": title, "axis": "code"})


class ExperimentReply(Changes, Statement):
    """A proposal and its changes."""


class RepairReply(Changes):
    """A repair; without changes the model gives up."""

    explanation: str = ""


class ShortReply(Message):
    """The answer to a small question that shows whether a model works."""

    answer: str


class PaperReply(Message):
    """A finding in the model's words."""

    claim: str
    mechanism: str = ""
    caveats: str = ""
    refuted_by: str = ""
    follow_ups: str = ""
    tags: list[str] = Field(default=[])

    def to_finding(self, agent: str) -> FindingDraft:
        """The finding as the coordinator accepts it; too long a text loses its end, the last part first."""
        left = MAX_FINDING_WORDS
        texts = self.model_dump(exclude={"tags"}) | {"claim": _line(self.claim) or "No claim."}
        for name, text in texts.items():
            words = text.split()
            texts[name] = (text if len(words) <= left else " ".join(words[:left]))[:MAX_LONG]
            left = max(0, left - len(words))
        return FindingDraft(**texts, tags=_list_tags(self.tags), agent=agent)


def _list_tags(words: list[str]) -> list[str]:
    """Normalised tags: `Weight decay` becomes `weight-decay`."""
    tags = (re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")[:MAX_TAG].rstrip("-") for word in words)
    return list(dict.fromkeys(tag for tag in tags if tag))[:MAX_TAGS]


def _line(text: str) -> str:
    """One line, short enough for a title."""
    return shorten(" ".join(text.split()), MAX_SHORT)


def apply_edits(edits: Iterable[Edit], base: Mapping[str, str]) -> dict[str, str]:
    """The whole text of each file that the edits change. Raises EditError."""
    files: dict[str, str] = {}
    for edit in edits:
        text = files.get(edit.file, base.get(edit.file))
        if text is None:
            raise EditError(f"{edit.file} is not an editable file of this project; editable are: {', '.join(base)}")
        count = text.count(edit.search)
        if count != 1:
            raise EditError(f"{edit.search!r} occurs {count} times in {edit.file}; it must occur exactly once")
        files[edit.file] = text.replace(edit.search, edit.replace)
    return files


def check_files(files: Mapping[str, str], base: Mapping[str, str], limits: Files) -> dict[str, str]:
    """The files that differ from the base. Raises EditError if none does, or one is forbidden, too large or broken."""
    for path, text in files.items():
        if path not in limits.editable:
            raise EditError(f"{path} is not editable; only these files are: {', '.join(limits.editable)}")
        try:
            check_path(path)
        except CommitError as error:
            raise EditError(str(error)) from error
        _check_text(path, text)
    changed = {path: text for path, text in files.items() if base.get(path) != text}
    if not changed:
        raise EditError("nothing is changed: the files are those of the parent")
    if excess := find_excess(changed, limits):
        raise EditError(excess)
    return changed


def _check_text(path: str, text: str) -> None:
    try:
        text.encode()
        if path.endswith(".py"):
            with warnings.catch_warnings(action="ignore"):  # a warning is no reason to refuse
                compile(text, path, "exec", dont_inherit=True)  # compiles, and runs nothing
    except SyntaxError as error:
        raise EditError(f"{path} is not valid Python: line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # lone surrogates, a null byte, or nested too deeply
        raise EditError(f"{path} cannot be read as a program: {error}") from error
