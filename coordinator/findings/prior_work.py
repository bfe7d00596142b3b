"""Answers whether an idea was tried: search proposes findings, and their steps are compared with what is asked for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.experiments.filters import Filters
from coordinator.findings import queries, search
from coordinator.findings.attempts import Attempt, ReadText, count_known, judge, read_question
from coordinator.findings.axes import SURFACE
from coordinator.findings.search import Ranked
from coordinator.findings.steps import NamedStep, compare_values, list_steps, read_value
from coordinator.models import Project
from coordinator.novelty.similarity import Similarity
from shared.experiments import AxisDirection, Proposal
from shared.findings import Likeness, Question, QuestionKind, SearchHit, Tried, TriedBefore, TriedNow, TriedVerdict
from shared.formatting import count_noun, format_effect
from shared.topics import name_topic

TITLE_WIDTH = 120  # in an answer
_HUNK = re.compile(r"^(@@ |diff --git |--- |\+\+\+ )", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(?::[^=]+)?=\s*([^=#\n][^#\n]*?),?\s*(?:#.*)?$")

_PAIR = re.compile(r"(\w*beta)s=\(([^,]+), ?([^,]+)\)", re.IGNORECASE)


class ParsedQuestion(NamedTuple):
    """A question as parsed: the text to search for, and the steps that it names."""

    kind: QuestionKind
    words: str
    steps: list[NamedStep]

    def read(self) -> ReadText:
        """The question as it is compared: of a diff, its constants and their values."""
        said = ", ".join(f"{step.axis} {step.value}" for step in self.steps)
        return read_question(said if self.kind == QuestionKind.DIFF else self.words, self.steps)


def parse_question(text: str) -> ParsedQuestion:
    """Read the steps from a question, which is a diff or a sentence."""
    if _HUNK.search(text) or _looks_like_diff(text):
        return _parse_diff(text)
    return ParsedQuestion(QuestionKind.SENTENCE, text, list(list_steps(text)))


def _looks_like_diff(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) > 1 and all(line[0] in "+- " for line in lines) and any(line[0] in "+-" for line in lines)


def _parse_diff(text: str) -> ParsedQuestion:
    gone: dict[str, str] = {}
    come: dict[str, str] = {}
    words, added = [], []
    for line in text.splitlines():
        if line.startswith(("+++", "---", "@@", "diff ")) or not line.startswith(("+", "-")):
            continue
        words.append(line[1:].strip())
        added += words[-1:] if line[0] == "+" else []
        if found := _ASSIGNMENT.match(line[1:]):
            pair = _PAIR.fullmatch(f"{found[1]}={found[2].strip()}")
            named = {f"{pair[1]}1": pair[2], f"{pair[1]}2": pair[3]} if pair else {found[1]: found[2].strip()}
            (come if line[0] == "+" else gone).update(named)
    steps = [
        NamedStep(name, compare_values(gone.get(name, ""), value) or AxisDirection.CHANGE, value, gone.get(name, ""))
        for name, value in come.items()
        if gone.get(name) != value
    ]
    constants = [step for step in steps if step.axis.isupper() or read_value(step.value) is not None]
    # Constants that are set anew come first; the words of other lines help where a diff has none.
    names = " ".join(f"{step.axis} {step.value}" for step in steps)
    lines = list(dict.fromkeys(words))
    step = " ".join(added) or f"remove {' '.join(lines)}"
    asked = constants or [NamedStep(step[:MAX_PHRASE], AxisDirection.CHANGE if added else AxisDirection.DOWN)]
    return ParsedQuestion(QuestionKind.DIFF, f"{names}\n" + "\n".join(lines), asked)


MAX_SHOWN = 20
MAX_CHARACTERS = 12_000
"""The length of a question; the rest of a longer one is ignored."""

MAX_PHRASE = 300
CANDIDATES, NEWEST = 100, 200
"""Number of findings by words and by meaning that are compared with a question, and of the newest ones beside."""


def answer(session: Session, similarity: Similarity, project: Project, question: Question) -> Tried:
    """The experiments that tried an idea or came near it, and the jobs that try it now.

    Search only proposes: whether a finding was the same step, another of its axis, or neither is judged by the steps.
    """
    parsed = parse_question(question.text[:MAX_CHARACTERS])
    asked = parsed.read()
    filters = Filters(project_id=project.id, hardware_class=question.hardware_class)
    ranking = search.rank(session, similarity, f"{parsed.words} {_list_surface(asked)}".strip(), filters, CANDIDATES)
    ranks = {one.finding_id: one for one in ranking.items}
    others = [
        finding_id
        for topic in dict.fromkeys(name_topic(step.axis) for step in parsed.steps)
        for finding_id in queries.list_of_topic(session, project.id, topic, CANDIDATES)
    ]
    others += queries.list_newest(session, project.id, NEWEST)
    stored = queries.map_attempts(session, list(dict.fromkeys([*ranks, *others])))
    attempts = {number: Attempt(*attempt) for number, attempt in stored.items()}
    known = count_known(attempts.values())
    judged = {number: judge(asked, attempt, known) for number, attempt in attempts.items()}
    order = [likeness for likeness in Likeness if likeness in judged.values()]
    chosen = [number for likeness in order for number in [*ranks, *others] if judged.get(number) is likeness]
    ranked = [ranks.get(number, Ranked(number, 0.0, None, None)) for number in list(dict.fromkeys(chosen))[:MAX_SHOWN]]
    hits = search.view_hits(session, parsed.words, ranked, question.hardware_class)
    before = [TriedBefore(likeness=likeness, hit=hit) for hit in hits if (likeness := judged[hit.finding.id])]
    running = list(_find_running(session, project.id, asked, known))
    verdict = _VERDICTS[before[0].likeness] if before else TriedVerdict.NOT_TRIED
    sentence = _summarise(before, running, asked)
    return Tried(
        kind=parsed.kind, verdict=verdict, answer=sentence, before=before, now=running,
        meaning_used=ranking.meaning_used,
    )  # fmt: skip


def _list_surface(asked: ReadText) -> str:
    """Further words by which findings on the axes that are asked for may go."""
    return " ".join(SURFACE.get(word, word) for word in asked.words)


def _find_running(session: Session, project_id: int, asked: ReadText, known: Mapping[str, int]) -> Iterator[TriedNow]:
    for stored in queries.list_running_proposals(session, project_id):
        proposal = Proposal.model_validate(stored)
        attempt = Attempt(proposal.title, proposal.axis, proposal.direction, proposal.value)
        if likeness := judge(asked, attempt, known):
            yield TriedNow(title=proposal.title, axis=proposal.axis, value=proposal.value, likeness=likeness)


_VERDICTS = {
    Likeness.SAME_STEP: TriedVerdict.TRIED, Likeness.SAME_AXIS: TriedVerdict.NEAR, Likeness.ALIKE: TriedVerdict.NEAR,
}  # fmt: skip


def _summarise(before: Sequence[TriedBefore], running: Sequence[TriedNow], asked: ReadText) -> str:
    now = f" Running now: {count_noun(len(running), 'similar job')}." if running else ""
    if not before:
        return f"Not tried: no finding is about this.{now}"
    likeness = before[0].likeness
    hits = [one.hit for one in before if one.likeness is likeness]
    others = f", and {count_noun(len(hits) - 1, 'other')}" if len(hits) > 1 else ""
    return f"{_begin(likeness, asked)} {_describe(hits[0])}{others}.{now}"


def _begin(likeness: Likeness, asked: ReadText) -> str:
    if likeness == Likeness.SAME_STEP:
        return "Tried:"
    if likeness == Likeness.ALIKE:
        return "Near, not the same. Much of its words has"
    at = "at another value" if asked.values else "in the other direction"
    return f"Near: the same was tried {at}, in"


def _describe(hit: SearchHit) -> str:
    finding = hit.finding
    came = finding.outcome.replace("_", " ")
    posterior = finding.posterior
    if posterior is not None and posterior.effect_mean is not None and posterior.effect_sd is not None:
        verdict = f", {posterior.verdict.replace('_', ' ')}" if posterior.verdict else ""
        came = f"{format_effect(posterior.effect_mean, posterior.effect_sd)}{verdict}, n = {posterior.runs}"
    title = shorten(finding.title, TITLE_WIDTH, placeholder="…")  # imported ones are whole paragraphs
    return f"experiment {finding.experiment_id} ({title}): {came}"
