"""Answers whether an idea was tried: the same constant and value are looked up, and similar findings are searched."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.findings import queries, search
from coordinator.findings.queries import FindingFilters
from coordinator.findings.search import Ranked
from coordinator.findings.tokenizer import list_terms, list_words
from coordinator.models import Project
from coordinator.novelty.similarity import Similarity
from shared.experiments import Proposal
from shared.findings import Likeness, Question, QuestionKind, SearchHit, Tried, TriedBefore, TriedNow, name_topic
from shared.formatting import count_noun, format_effect

_HUNK = re.compile(r"^(@@ |diff --git |--- |\+\+\+ )", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(?::[^=]+)?=\s*([^=#\n][^#\n]*?),?\s*(?:#.*)?$")
_CHANGE = re.compile(r"([A-Za-z_]\w*)\s*[:=]?\s*(?:from\s+)?[\d.eE^+-]+\s*(?:->|→|to)\s*([\d.][\d.eE^+-]*)")
_TO = re.compile(r"([A-Za-z_]\w*)\s+(?:to|=)\s*([\d.][\d.eE^+-]*)")


class AskedStep(NamedTuple):
    """A constant that a question changes. `value` is its new value as written."""

    name: str
    value: str


class ParsedQuestion(NamedTuple):
    """A question as parsed: the text to search for, and the constants that it names with a value."""

    kind: QuestionKind
    words: str
    steps: list[AskedStep]


def parse_question(text: str) -> ParsedQuestion:
    """Read the constants from a question, which is a diff or a sentence."""
    if _HUNK.search(text) or _looks_like_diff(text):
        return _parse_diff(text)
    found = _CHANGE.findall(text) or _TO.findall(text)
    return ParsedQuestion(QuestionKind.SENTENCE, text, [AskedStep(name, value) for name, value in found])


def _looks_like_diff(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) > 1 and all(line[0] in "+- " for line in lines) and any(line[0] in "+-" for line in lines)


def _parse_diff(text: str) -> ParsedQuestion:
    gone: dict[str, str] = {}
    come: dict[str, str] = {}
    words = []
    for line in text.splitlines():
        if line.startswith(("+++", "---", "@@", "diff ")) or not line.startswith(("+", "-")):
            continue
        words.append(line[1:].strip())
        found = _ASSIGNMENT.match(line[1:])
        if found:
            (come if line[0] == "+" else gone)[found[1]] = found[2].strip()
    steps = [AskedStep(name, value) for name, value in come.items() if gone.get(name) != value]
    # Constants that are set anew come first; the words of other lines help where a diff has none.
    names = " ".join(f"{step.name} {step.value}" for step in steps)
    return ParsedQuestion(QuestionKind.DIFF, f"{names}\n" + "\n".join(dict.fromkeys(words)), steps)


MAX_SHOWN = 20
MAX_CHARACTERS = 12_000
"""The length of a question; the rest of a longer one is ignored."""

ALIKE_SHARE = 0.5
"""The share of a question's words that a running proposal must hold to be shown."""


def answer(session: Session, similarity: Similarity, project: Project, question: Question) -> Tried:
    """The experiments that tried an idea or a similar one, and the jobs that try it now."""
    parsed = parse_question(question.text[:MAX_CHARACTERS])
    filters = FindingFilters(project_id=project.id, hardware_class=question.hardware_class)
    likeness = dict(_find_steps(session, project.id, parsed.steps))
    ranking = search.rank(session, similarity, parsed.words, filters, MAX_SHOWN)
    for one in ranking.items:
        likeness.setdefault(one.finding_id, Likeness.ALIKE)
    ranks = {one.finding_id: one for one in ranking.items}
    ranked = [ranks.get(number, Ranked(number, 0.0, None, None)) for number in list(likeness)[:MAX_SHOWN]]
    hits = search.view_hits(session, parsed.words, ranked, question.hardware_class)
    before = [TriedBefore(likeness=likeness[hit.finding.id], hit=hit) for hit in hits]
    running = list(_find_running(session, project.id, parsed))
    sentence = _summarise(before, running)
    return Tried(kind=parsed.kind, answer=sentence, before=before, now=running, meaning_used=ranking.meaning_used)


def _find_steps(session: Session, project_id: int, steps: Sequence[AskedStep]) -> Iterator[tuple[int, Likeness]]:
    """Findings on the same constants: first those of the same value, then all others, each group newest first."""
    rows = [
        (finding_id, is_same_value(value, step.value))
        for step in steps
        for finding_id, value in queries.list_of_topic(session, project_id, name_topic(step.name), MAX_SHOWN)
    ]
    yield from ((finding_id, Likeness.SAME_STEP) for finding_id, is_same in rows if is_same)
    same = {finding_id for finding_id, is_same in rows if is_same}
    yield from ((finding_id, Likeness.SAME_AXIS) for finding_id, _ in rows if finding_id not in same)


def is_same_value(one: str, other: str) -> bool:
    """Whether two values are the same, however they are written: `0.40` and `.4`."""
    return bool(other) and list_words(one) == list_words(other)


def _find_running(session: Session, project_id: int, parsed: ParsedQuestion) -> Iterator[TriedNow]:
    terms = set(list_terms(parsed.words))
    asked = {name_topic(step.name): step.value for step in parsed.steps}
    for stored in queries.list_running_proposals(session, project_id):
        proposal = Proposal.model_validate(stored)
        topic = name_topic(proposal.axis)
        words = set(list_terms(f"{proposal.title} {proposal.axis} {proposal.value} {proposal.hypothesis}"))
        if topic in asked:
            same = is_same_value(proposal.value, asked[topic])
            likeness = Likeness.SAME_STEP if same else Likeness.SAME_AXIS
        elif terms and len(terms & words) >= ALIKE_SHARE * len(terms):
            likeness = Likeness.ALIKE
        else:
            continue
        yield TriedNow(title=proposal.title, axis=proposal.axis, value=proposal.value, likeness=likeness)


ANSWERS = {
    Likeness.SAME_STEP: "Yes:",
    Likeness.SAME_AXIS: "Not at this value. Another value of the same constant was tried:",
    Likeness.ALIKE: "Not exactly. The most similar finding is of",
}
"""Beginnings of an answer by the closest likeness that was found, closest first."""


def _summarise(before: Sequence[TriedBefore], running: Sequence[TriedNow]) -> str:
    now = f" Running now: {count_noun(len(running), 'similar job')}." if running else ""
    for likeness, beginning in ANSWERS.items():
        hits = [one.hit for one in before if one.likeness is likeness]
        if hits:
            others = f", and {count_noun(len(hits) - 1, 'other')}" if len(hits) > 1 else ""
            return f"{beginning} {_describe(hits[0])}{others}.{now}"
    return f"No similar finding is known.{now}"


def _describe(hit: SearchHit) -> str:
    finding = hit.finding
    came = finding.outcome.replace("_", " ")
    posterior = finding.posterior
    if posterior is not None and posterior.effect_mean is not None and posterior.effect_sd is not None:
        verdict = f", {posterior.verdict.replace('_', ' ')}" if posterior.verdict else ""
        came = f"{format_effect(posterior.effect_mean, posterior.effect_sd)}{verdict}, n = {posterior.runs}"
    return f"experiment {finding.experiment_id} ({finding.title}): {came}"
