"""Forms of a model's answers (JSON schemas), and their conversion to proposals and findings.

An answer may leave out what has a default, though the schemas that are sent require every field.
"""

import math
import re
from typing import Any, Self

from pydantic import Field, model_validator

from shared.experiments import AxisDirection, Proposal, Setting
from shared.findings import MAX_FINDING_WORDS, MAX_TAGS, FindingDraft
from shared.protocol import Message
from worker.agents.base import shorten
from worker.agents.edits import Edit, WholeFile

MAX_SHORT, MAX_LONG, MAX_TAG = 200, 4000, 63


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
