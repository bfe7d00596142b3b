"""The forms in which a model answers, as the schema that it is given, and what the worker makes of them.

The schema requires every field and bounds no text, which is what endpoints that enforce one understand; lengths are
brought into bounds here.
"""

import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import Field

from shared.commits import CommitError, check_path
from shared.contract import Files
from shared.experiments import AxisDirection, Proposal, Setting
from shared.findings import MAX_FINDING_WORDS, MAX_TAGS, FindingDraft
from shared.protocol import FilePath, Message
from worker.runs.validate import find_excess

MAX_SHORT, MAX_LONG, MAX_TAG = 200, 4000, 63


class EditError(ValueError):
    """The changes cannot be applied; the message says which and why, so that their author can mend them."""


class Edit(Message):
    """One replacement. `search` must occur exactly once in the file, as it is after the edits before this one."""

    file: FilePath
    search: str = Field(min_length=1)
    replace: str


class WholeFile(Message):
    """A file by its whole text."""

    file: str
    text: str


class Changes(Message):
    """Changes to files: replacements, or whole files."""

    edits: list[Edit]
    files: list[WholeFile]


class Statement(Message):
    """What is to be tried, and why."""

    title: str
    hypothesis: str
    axis: str
    direction: AxisDirection
    value: str
    predicted_effect: float | None
    refuted_by: str
    insists: str = ""

    def to_proposal(self, settings: dict[str, Setting]) -> Proposal:
        """As the coordinator takes it."""
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
    def unsaid(cls) -> Self:
        """Of somebody who changed something and did not say what."""
        words = {"title": "A change without a word on it", "hypothesis": "", "axis": "code", "value": ""}
        return cls.model_validate({**words, "direction": "change", "predicted_effect": None, "refuted_by": ""})


class ExperimentReply(Statement, Changes):
    """A proposal and its changes."""


class RepairReply(Changes):
    """What the mistake was, and its cure; no changes: it is given up."""

    explanation: str


class PaperReply(Message):
    """A finding in the model's words."""

    claim: str
    mechanism: str
    caveats: str
    refuted_by: str = ""
    follow_ups: str
    tags: list[str] = Field(default=[])

    def to_finding(self, agent: str) -> FindingDraft:
        """As the coordinator takes it: what is too long loses its end, the last part first."""
        left = MAX_FINDING_WORDS
        parts = []
        said = (_line(self.claim) or "No claim.", self.mechanism, self.caveats, self.refuted_by, self.follow_ups)
        for text in said:
            words = text.split()
            parts.append(text[:MAX_LONG] if len(words) <= left else " ".join(words[:left])[:MAX_LONG])
            left = max(0, left - len(words))
        claim, mechanism, caveats, refuted_by, follow_ups = parts
        return FindingDraft(
            claim=claim,
            mechanism=mechanism,
            caveats=caveats,
            refuted_by=refuted_by,
            follow_ups=follow_ups,
            tags=_list_tags(self.tags),
            agent=agent,
        )


def describe(form: type[Message]) -> str:
    """A form's JSON schema, for the prompt: not every endpoint enforces one."""
    return json.dumps(form.model_json_schema(mode="serialization"))


def _list_tags(words: list[str]) -> list[str]:
    """Tags in the one form that there is: `Weight decay` is `weight-decay`."""
    tags = (re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")[:MAX_TAG].rstrip("-") for word in words)
    return list(dict.fromkeys(tag for tag in tags if tag))[:MAX_TAGS]


def _line(text: str) -> str:
    """On one line, and short enough for a title."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHORT else line[: MAX_SHORT - 1] + "…"


def apply_edits(edits: Iterable[Edit], base: Mapping[str, str]) -> dict[str, str]:
    """The whole text of each file that the edits change. Raises EditError."""
    files: dict[str, str] = {}
    for edit in edits:
        text = files.get(edit.file, base.get(edit.file))
        if text is None:
            raise EditError(f"{edit.file} is no editable file of this project; those are: {', '.join(base)}")
        count = text.count(edit.search)
        if count != 1:
            raise EditError(f"{edit.search!r} occurs {count} times in {edit.file}; it has to occur exactly once")
        files[edit.file] = text.replace(edit.search, edit.replace)
    return files


def check_files(files: Mapping[str, str], base: Mapping[str, str], limits: Files) -> dict[str, str]:
    """Those of `files` that differ from the base, if an experiment may consist of them.

    Raises EditError for a file that is not editable, is too large or is not Python, and where nothing differs.
    """
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
            with warnings.catch_warnings(action="ignore"):  # a doubtful comparison is no reason to refuse
                compile(text, path, "exec", dont_inherit=True)  # compiles, and runs nothing
    except SyntaxError as error:
        raise EditError(f"{path} is not valid Python: line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # lone surrogates, a null byte, or nested too deeply
        raise EditError(f"{path} cannot be read as a program: {error}") from error
