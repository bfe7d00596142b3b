"""Findings: the mini-paper of one experiment. Words come from the agent, numbers from the database."""

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StrictBool, model_validator

from shared.experiments import AxisDirection, JobKind, Posterior, Verdict
from shared.protocol import CLEAN, Count, LongText, Message, Name, Number, Page, Sha, ShortText, Slug, Text, Timestamp

MAX_FINDING_WORDS = 250
LIKE_TITLE = 60
"""Characters of a claim, numbers aside, that are its title once more."""

_NUMBER = re.compile(r"[-+\N{MINUS SIGN}]?\d[\d.,_]*(?: ± [\d.]+)?")
MAX_TAGS = 8
MAX_QUESTION_CHARACTERS = 60_000


class FailureClass(StrEnum):
    """How an experiment failed. The last three are those of measured experiments without a gain.

    `driver`, `compiler`: those of the machine refused it, which says nothing of other hardware classes, nor does
    `out_of_memory`. `slower`: its first run saw clearly fewer tokens a second than its parent in the same hardware
    class.
    """

    OUT_OF_MEMORY = "out_of_memory"
    DRIVER = "driver"
    COMPILER = "compiler"
    DIVERGED = "diverged"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    INVALID = "invalid"
    HOPELESS = "hopeless"
    SLOWER = "slower"
    NO_EFFECT = "no_effect"
    WORSE = "worse"


class FindingState(StrEnum):
    """Lists, searches and context packs leave out a retracted finding, which stays readable at its address, and one
    that is hidden while its author is in quarantine, whose address tells the reason."""

    PUBLISHED = "published"
    RETRACTED = "retracted"
    HIDDEN = "hidden"


class NoteKind(StrEnum):
    """A retraction of a finding and its reversal are notes too, so that each leaves a trace."""

    NOTE = "note"
    RETRACTION = "retraction"
    RESTORATION = "restoration"


class FindingDraft(Message):
    """The agent's own words, at most 250 together.

    Results stand there as placeholders (`shared.claims`), and are shown with the evidence as of then. `caveats` names
    other explanations, `refuted_by` what would show the claim to be wrong.
    """

    claim: ShortText
    mechanism: LongText = ""
    caveats: LongText = ""
    refuted_by: LongText = ""
    follow_ups: LongText = ""
    tags: list[Slug] = Field(default=[], max_length=MAX_TAGS)
    agent: Name

    @model_validator(mode="after")
    def _short(self) -> Self:
        texts = (self.claim, self.mechanism, self.caveats, self.refuted_by, self.follow_ups)
        words = sum(len(text.split()) for text in texts)
        if words > MAX_FINDING_WORDS:
            raise ValueError(f"a finding has at most {MAX_FINDING_WORDS} words, this one has {words}")
        return self


class FindingView(Message):
    """A finding's words as the coordinator shows them. `version` counts from 1; earlier ones stay readable."""

    id: Count
    experiment_id: Count
    claim: Text
    mechanism: Text
    caveats: Text
    refuted_by: Text
    follow_ups: Text
    tags: list[Text]
    agent: Text
    version: Count
    created_at: Timestamp


class NoteDraft(Message):
    """A note beside a finding, or the reason for a retraction."""

    text: LongText = Field(min_length=1)


class Note(Message):
    id: Count
    kind: NoteKind
    text: Text
    by: Text
    role: Text
    created_at: Timestamp


class FindingSummary(Message):
    """A finding in a list, with the current evidence on its experiment in the hardware class of its first run.

    `citations` counts the experiments whose agents read it, up to 1,000.
    """

    id: Count
    experiment_id: Count
    project: Text
    claim: Text
    title: Text
    axis: Text
    topic: Text
    direction: AxisDirection
    value: Text
    branch: Text
    volunteer: Text
    hardware_class: Text
    outcome: Text
    failure: FailureClass | None
    posterior: Posterior | None
    tags: list[Text]
    state: FindingState
    citations: Count
    created_at: Timestamp
    done_at: Timestamp | None = None

    @property
    def repeats_title(self) -> bool:
        """Whether the claim is the title once more, with other numbers maybe, as in imported sessions."""
        title, claim = (_NUMBER.sub("#", text.rstrip("…"))[:LIKE_TITLE] for text in (self.title, self.claim))
        return claim.startswith(title)

    @property
    def headline(self) -> str:
        """The title, followed by the claim unless that repeats it."""
        if self.claim.startswith(self.title):
            return self.title
        return self.claim if self.repeats_title else f"{self.title}: {self.claim}"


class Snippet(Message):
    """The part of a finding that answers a search best. `marks` are [start, end) of matching words."""

    field: Text
    text: Text
    marks: list[tuple[Count, Count]]


class SearchHit(Message):
    """A finding that was found. Ranks count from 1, before filters; None where that part of the search missed it."""

    finding: FindingSummary
    snippet: Snippet
    score: Number
    text_rank: Count | None
    meaning_rank: Count | None


class SearchPage(Page[SearchHit]):
    """The answer to a search.

    `waiting_for_vectors` counts findings of all projects that cannot be found by their meaning yet (of the newest
    1,000, and at most 1,000 revised ones): above 0, the same search may soon give another order. `meaning_used` is
    False where the search was by words only, since the embedder or the vector index was not available.
    """

    waiting_for_vectors: Count
    meaning_used: StrictBool = True


class ClassEvidence(Message):
    hardware_class: Text
    runs: Count
    volunteers: Count
    posterior: Posterior | None


class Trend(StrEnum):
    """Change of the evidence since the finding was written. `overturned`: the verdict is another; `decided`: there was
    none, and there is one now."""

    AS_WRITTEN = "as_written"
    STRENGTHENED = "strengthened"
    WEAKENED = "weakened"
    OVERTURNED = "overturned"
    DECIDED = "decided"


class EvidenceChange(Message):
    """An event after the finding was written, and its effect on the claim."""

    trend: Trend
    words: Text
    run_id: Count | None = None
    experiment_id: Count | None = None
    at: Timestamp


class Paper(Message):
    """A finding with all that the database adds, as of now.

    `written_effect_*` and `written_verdict` are what its author knew; None for findings from before they were kept.
    `confirmed_citations` counts citing experiments that are improvements and were measured by others, too. `pace` is
    the first run's tokens a second over its parent's. `confounded` names the constants that changed together, or one
    and `code`; none where only one thing did. The effect does not tell which of them it is due to. A combination's
    `parts` are expected to add up to `predicted_sum`, child minus parent, unless some of what was asked for was left
    out; `interaction` is the effect minus that, new values' effects included, with the effect's sd.
    """

    summary: FindingSummary
    words: FindingView
    kind: JobKind
    hypothesis: Text
    predicted_effect: Number | None
    sha: Sha
    parent_sha: Sha
    parent_id: Count | None
    evidence: list[ClassEvidence]
    runs: Count
    volunteers: Count
    pace: Number | None
    written_effect_mean: Number | None
    written_effect_sd: Number | None
    written_verdict: Verdict | None
    trend: Trend
    changes: list[EvidenceChange]
    confounded: list[Text]
    parts: list[Text]
    predicted_sum: Number | None
    interaction_mean: Number | None
    interaction_sd: Number | None
    citations: Count
    confirmed_citations: Count
    notes: list[Note]
    as_of: Timestamp


class Question(Message):
    """Has this been tried? `text` is a sentence, or a diff as git writes it."""

    project: Slug
    text: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS), CLEAN]
    hardware_class: ShortText | None = None


class QuestionKind(StrEnum):
    SENTENCE = "sentence"
    DIFF = "diff"


class Likeness(StrEnum):
    """Similarity to a question: the same step of a constant, that constant at another value, or similar words."""

    SAME_STEP = "same_step"
    SAME_AXIS = "same_axis"
    ALIKE = "alike"


class TriedVerdict(StrEnum):
    """The three answers: the step itself was tried, something near it was, or neither."""

    TRIED = "tried"
    NEAR = "near"
    NOT_TRIED = "not_tried"


class TriedBefore(Message):
    likeness: Likeness
    hit: SearchHit


class TriedNow(Message):
    title: Text
    axis: Text
    value: Text
    likeness: Likeness


class Tried(Message):
    """The reply to "has this been tried?": `answer` says the `verdict` in a sentence; the nearest attempts come first.

    `meaning_used` is as in `SearchPage`.
    """

    kind: QuestionKind
    verdict: TriedVerdict
    answer: Text
    before: list[TriedBefore]
    now: list[TriedNow]
    meaning_used: StrictBool = True
