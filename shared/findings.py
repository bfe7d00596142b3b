"""Findings: the mini-paper of one experiment. Words come from the agent, numbers from the database."""

import re
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from shared.experiments import AxisDirection, JobKind, Posterior, Standing, Verdict
from shared.protocol import LongText, Message, Page, Sha, ShortText, Slug, Timestamp

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
    """Kind of a note on a finding. A retraction and its reversal are notes too, so that each leaves a trace."""

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


class FindingView(Message):
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
    """A note on a finding. It cannot be changed or removed."""

    id: int
    kind: NoteKind
    text: str
    by: str
    role: str
    created_at: Timestamp


MAX_QUESTION_CHARACTERS = 60_000
"""Of what may be asked about: a sentence, or a diff."""


class FindingSummary(Message):
    """A finding in a list: its claim, and what the evidence says of its experiment as of now.

    `posterior` is that in the hardware class of the experiment's first run, None where nothing was measured.
    `citations` counts the experiments whose agents had it to read, up to 1,000.
    """

    id: int
    experiment_id: int
    project: str
    claim: str
    title: str
    axis: str
    topic: str
    direction: AxisDirection
    value: str
    branch: str
    volunteer: str
    hardware_class: str
    outcome: str
    failure: FailureClass | None
    posterior: Posterior | None
    tags: list[str]
    state: FindingState
    citations: int
    created_at: Timestamp


class Snippet(Message):
    """The part of a finding that answers a search best. `marks` are [start, end) of the words that fit."""

    field: str
    text: str
    marks: list[tuple[int, int]]


class SearchHit(Message):
    """A finding that was found.

    The ranks, from 1 and before filters, say which part of the search found it; None: that part did not.
    """

    finding: FindingSummary
    snippet: Snippet
    score: float
    text_rank: int | None
    meaning_rank: int | None


class SearchPage(Page[SearchHit]):
    """The answer to a search. Findings are found by their words at once, by their meaning once they have a vector.

    `waiting_for_vectors` counts findings of all projects without one: above 0, the same search may soon give another
    order.
    """

    waiting_for_vectors: int = Field(ge=0)


class ClassEvidence(Message):
    """The evidence on an experiment's commit in one hardware class."""

    hardware_class: str
    runs: int
    volunteers: int
    posterior: Posterior | None


class Trend(StrEnum):
    """How the evidence stands to what it was when the finding was written. `overturned`: the verdict is another."""

    AS_WRITTEN = "as_written"
    STRENGTHENED = "strengthened"
    WEAKENED = "weakened"
    OVERTURNED = "overturned"


class EvidenceChange(Message):
    """Something that came after the finding was written, and what it did to its claim."""

    trend: Trend
    words: str
    run_id: int | None = None
    experiment_id: int | None = None
    at: Timestamp


class Paper(Message):
    """A finding with all that the database adds. `evidence` and what follows from it are as of now.

    `written_effect_*` and `written_verdict` are what its author knew; None for findings from before they were kept.
    `citations` counts the experiments whose agents had it to read, and `confirmed_citations` those of them that turned
    out as improvements and were measured by others, too. `pace` is the first run's tokens a second over its parent's,
    None where that is not known.
    """

    summary: FindingSummary
    words: FindingView
    kind: JobKind
    hypothesis: str
    predicted_effect: float | None
    sha: Sha
    parent_sha: Sha
    parent_id: int | None
    evidence: list[ClassEvidence]
    runs: int
    volunteers: int
    pace: float | None
    written_effect_mean: float | None
    written_effect_sd: float | None
    written_verdict: Verdict | None
    trend: Trend
    changes: list[EvidenceChange]
    citations: int
    confirmed_citations: int
    notes: list[Note]
    as_of: Timestamp


class Question(Message):
    """Has this been tried? `text` is a sentence, or a diff as git writes it."""

    project: Slug
    text: str = Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS)
    hardware_class: ShortText | None = None


class QuestionKind(StrEnum):
    SENTENCE = "sentence"
    DIFF = "diff"


class Likeness(StrEnum):
    """How like a thing is to what was asked about: the same step of the same constant, that constant at another value,
    or something that only reads alike."""

    SAME_STEP = "same_step"
    SAME_AXIS = "same_axis"
    ALIKE = "alike"


class TriedBefore(Message):
    """Something like it that was tried; its finding says what came of it."""

    likeness: Likeness
    hit: SearchHit


class TriedNow(Message):
    """Something like it that a worker is at just now."""

    title: str
    axis: str
    value: str
    likeness: Likeness


class Tried(Message):
    """The answer to "has this been tried?". `answer` says it in a sentence; the nearest come first."""

    kind: QuestionKind
    answer: str
    before: list[TriedBefore]
    now: list[TriedNow]


MAX_TOPIC = 80


def name_topic(axis: str) -> str:
    """An axis as it stands in addresses: `weight-decay` for WEIGHT_DECAY and for "Weight decay"."""
    return "-".join(re.findall(r"[^\W_]+", axis.casefold()))[:MAX_TOPIC].strip("-") or "other"


class TopicSummary(Message):
    """An axis in the list: how much was tried along it, and what came of that. `slug` names it in addresses."""

    project: str
    slug: str
    axis: str
    experiments: int
    improved: int
    no_change: int
    worse: int
    unresolved: int
    failed: int
    newest_at: Timestamp


class TopicEffect(Message):
    """One experiment's effect against its parent, in one hardware class."""

    experiment_id: int
    finding_id: int
    title: str
    direction: AxisDirection
    value: str
    hardware_class: str
    mean: float
    sd: float
    runs: int
    verdict: Verdict | None
    standing: Standing


class TopicPool(Message):
    """Effects in one direction taken together, in a hardware class or (None) in all of them.

    A random-effects mean that few effects cannot move far: the steps differ, so their true effects may, too.
    `between_sd` is how much they do; `outliers` of the experiments lie so far off that they count for nothing.
    """

    direction: AxisDirection
    hardware_class: str | None
    experiments: int
    mean: float
    sd: float
    between_sd: float
    outliers: int


class UntestedValue(Message):
    """A value, or a hardware class for a value, that nobody tried yet, and why it is worth a look."""

    value: str
    hardware_class: str | None
    why: str


class OpenFollowUp(Message):
    """A follow-up that a finding proposes and nobody tried."""

    finding_id: int
    experiment_id: int
    text: str


class Topic(Message):
    """All that is known along an axis."""

    summary: TopicSummary
    effects: list[TopicEffect]
    pools: list[TopicPool]
    findings_for: list[FindingSummary]
    findings_against: list[FindingSummary]
    open_findings: list[FindingSummary]
    untested: list[UntestedValue]
    follow_ups: list[OpenFollowUp]
    as_of: Timestamp
