"""Findings: the mini-paper of one experiment. Words come from the agent, numbers from the database."""

from typing import Self

from pydantic import Field, model_validator

from shared.protocol import LongText, Message, ShortText, Timestamp

MAX_FINDING_WORDS = 250


class FindingDraft(Message):
    """The agent's own words, at most 250 of them together."""

    claim: ShortText
    mechanism: LongText = ""
    caveats: LongText = ""
    follow_ups: LongText = ""
    agent: str = Field(max_length=80)

    @model_validator(mode="after")
    def _short(self) -> Self:
        words = sum(len(t.split()) for t in (self.claim, self.mechanism, self.caveats, self.follow_ups))
        if words > MAX_FINDING_WORDS:
            raise ValueError(f"a finding has at most {MAX_FINDING_WORDS} words, this one has {words}")
        return self


class Finding(Message):
    """A finding as the coordinator shows it."""

    id: int
    experiment_id: int
    claim: str
    mechanism: str
    caveats: str
    follow_ups: str
    agent: str
    created_at: Timestamp
