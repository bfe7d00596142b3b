"""Findings: the mini-paper of one experiment. Words come from the agent, numbers from the database."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from shared.protocol import LongText, Message, ShortText, Slug, Timestamp

MAX_FINDING_WORDS = 250
MAX_TAGS = 8


class FailureClass(StrEnum):
    """In which way an experiment did not work.

    `slower`, `no_effect` and `worse` are those of experiments that were measured and brought no gain; `slower`: in its
    first run it saw clearly fewer tokens a second than its parent in the same hardware class.
    """

    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    INVALID = "invalid"
    HOPELESS = "hopeless"
    SLOWER = "slower"
    NO_EFFECT = "no_effect"
    WORSE = "worse"


class FindingState(StrEnum):
    """A retracted finding stays readable, with its reason; searches and context packs leave it out."""

    PUBLISHED = "published"
    RETRACTED = "retracted"


class NoteKind(StrEnum):
    """What somebody wrote beside a finding. A retraction and its taking back are notes, too: so each leaves a trace."""

    NOTE = "note"
    RETRACTION = "retraction"
    RESTORATION = "restoration"


class FindingDraft(Message):
    """The agent's own words, at most 250 of them together.

    `caveats` names what else may explain the result, `refuted_by` what would show the claim to be wrong.
    """

    claim: ShortText
    mechanism: LongText = ""
    caveats: LongText = ""
    refuted_by: LongText = ""
    follow_ups: LongText = ""
    tags: list[Slug] = Field(default=[], max_length=MAX_TAGS)
    agent: str = Field(max_length=80)

    @model_validator(mode="after")
    def _short(self) -> Self:
        texts = (self.claim, self.mechanism, self.caveats, self.refuted_by, self.follow_ups)
        words = sum(len(text.split()) for text in texts)
        if words > MAX_FINDING_WORDS:
            raise ValueError(f"a finding has at most {MAX_FINDING_WORDS} words, this one has {words}")
        return self


class Finding(Message):
    """A finding's words as the coordinator shows them. `version` counts from 1; earlier ones stay readable."""

    id: int
    experiment_id: int
    claim: str
    mechanism: str
    caveats: str
    refuted_by: str
    follow_ups: str
    tags: list[str]
    agent: str
    version: int
    created_at: Timestamp


class NoteDraft(Message):
    """A note beside a finding, or the reason for a retraction."""

    text: LongText = Field(min_length=1)


class Note(Message):
    """What somebody wrote beside a finding. It cannot be changed or removed."""

    id: int
    kind: NoteKind
    text: str
    by: str
    role: str
    created_at: Timestamp
