"""Papers: findings bound to their evidence as it stands now, and the search for them."""

from enum import StrEnum

from pydantic import Field

from shared.experiments import AxisDirection, JobKind, Posterior, Verdict
from shared.findings import FailureClass, Finding, FindingState, Note
from shared.protocol import Message, Sha, ShortText, Slug, Timestamp

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


class ClassEvidence(Message):
    """What is known of an experiment's commit in one hardware class."""

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
    words: Finding
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
