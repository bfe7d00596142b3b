"""Context packs: what an agent gets to read before it proposes. All of it is quoted data, never instructions."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.experiments import service as experiments
from coordinator.experiments.service import TriedExperiment
from coordinator.findings.candidates import Shelf, ShelvedFinding
from coordinator.findings.failures import describe_failure
from coordinator.findings.tokenizer import list_words
from coordinator.lineage import service as lineage
from coordinator.selection.queries import RunningJob
from coordinator.selection.weighing import Subject, choose
from shared.findings import FailureClass
from shared.formatting import format_effect, format_measure

MAX_STEPS = 12
MAX_SIBLINGS = 20
MAX_TOKENS = 6_000
MAX_LINE = 500
"""Characters of one line."""

KEPT_LINES = 4_096
"""So many are kept as they were put into words, for packs of one time tell much the same; 5 MB in all."""


class PackRequest(NamedTuple):
    """What a pack is for: the parent and the worker's class, what the job is about besides, and what others run.

    `sign` is 1 where a lower metric is better, else -1.
    """

    project_id: int
    base_sha: str
    hardware_class: str
    sign: float
    about: str
    running: Sequence[RunningJob]


class Pack(NamedTuple):
    """The text, and the numbers of the findings that it quotes."""

    text: str
    findings: list[int]


class Line(NamedTuple):
    """A line of a pack, and the finding whose words it quotes."""

    text: str
    finding_id: int | None = None


class Part(NamedTuple):
    """A part of a pack. It may use `tokens` and what those before it left; `from_end`: its last lines are kept."""

    heading: str
    tokens: int
    lines: Sequence[Line]
    from_end: bool = False


def compose_pack(session: Session, shelf: Shelf, request: PackRequest) -> Pack:
    """The pack for a job, as Markdown, its parts in order and within MAX_TOKENS."""
    steps = experiments.list_lineage_tried(session, lineage.list_nearest(session, request.base_sha, MAX_STEPS))
    siblings = experiments.list_siblings(session, request.base_sha, request.hardware_class, MAX_SIBLINGS)
    known = shelf.read(session, request.project_id, request.hardware_class)
    chosen = choose(known, _find_subject(request, steps, siblings))
    against = [chosen.contrarian] if chosen.contrarian else []
    parts = [
        Part("The steps that led to this parent", 1_200, [Line(_describe(step)) for step in steps], from_end=True),
        Part("What was tried from this parent, and what came of it", 1_500, [_tell(one) for one in siblings]),
        Part("What others run now", 500, [Line(str(job.proposal["title"])) for job in request.running]),
        Part("What others found", 1_700, [_quote(one) for one in chosen.best]),
        Part("What did not help", 800, [_quote(one) for one in chosen.negative]),
        Part("What speaks against this line", 300, [_quote(one) for one in against]),
    ]
    return join_parts(parts)


def _find_subject(
    request: PackRequest, steps: Sequence[TriedExperiment], siblings: Sequence[TriedExperiment]
) -> Subject:
    words = frozenset[str]().union(*(_words_of(text) for text in (request.about, *(step.title for step in steps))))
    line = {step.topic: 1 if request.sign * step.effect_mean > 0 else -1 for step in steps if step.effect_mean}
    quoted = frozenset(one.id for one in (*steps, *siblings))
    return Subject(words, line, quoted, request.hardware_class, request.sign)


@lru_cache(maxsize=KEPT_LINES)
def _words_of(text: str) -> frozenset[str]:
    return frozenset(list_words(text))


def join_parts(parts: Iterable[Part]) -> Pack:
    """Parts as text. Lines that do not fit are left out, whole."""
    left, texts = 0, []
    findings: list[int] = []
    for part in parts:
        left += part.tokens
        heading = f"## {part.heading}\n\n"
        left -= estimate_tokens(heading)
        kept: list[str] = []
        for line in reversed(part.lines) if part.from_end else part.lines:
            quoted, tokens = _quote_line(line.text)
            if tokens > left:
                break
            left -= tokens
            kept.append(quoted)
            if line.finding_id is not None:
                findings.append(line.finding_id)
        if part.from_end:
            kept.reverse()
        texts.append(heading + ("".join(kept) or "> (nothing)\n"))
    return Pack("\n".join(texts), findings)


@lru_cache(maxsize=KEPT_LINES)
def _quote_line(text: str) -> tuple[str, int]:
    quoted = f"> - {' '.join(text.split())[:MAX_LINE]}\n"
    return quoted, estimate_tokens(quoted)


def estimate_tokens(text: str) -> int:
    """Rather too many than too few: three characters of ASCII a token (numbers fall into many), others one each."""
    ascii_characters = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return ascii_characters // 3 + 1 + len(text) - ascii_characters


@lru_cache(maxsize=KEPT_LINES)
def _describe(told: TriedExperiment) -> str:
    head = f"#{told.id} {told.title}"
    if told.metric_mean is None or told.metric_sd is None:
        return f"{head}: {told.outcome} ({told.reason or 'no reason given'})"
    effect = ""
    if told.effect_mean is not None and told.effect_sd is not None:
        effect = f", effect {format_effect(told.effect_mean, told.effect_sd)} ({told.verdict})"
    return f"{head}: {format_measure(told.metric_mean, told.metric_sd)}, n = {told.runs}{effect}"


@lru_cache(maxsize=KEPT_LINES)
def _tell(told: TriedExperiment) -> Line:
    if not told.claim:
        return Line(_describe(told))
    return Line(f"{_describe(told)}. Its author says: {told.claim}", told.finding_id)


@lru_cache(maxsize=KEPT_LINES)
def _quote(one: ShelvedFinding) -> Line:
    came = (one.failure or "not measured").replace("_", " ")
    if one.effect_mean is not None and one.effect_sd is not None:
        verdict = str(one.verdict).replace("_", " ")
        came = f"effect {format_effect(one.effect_mean, one.effect_sd)} ({verdict}), n = {one.runs}"
    if describe_failure(one.failure, one.verdict, one.pace) is FailureClass.SLOWER and one.pace is not None:
        came += f", at {100 * one.pace:.0f} % of its parent's speed"
    return Line(
        f"#{one.experiment_id} {one.title} on {one.hardware_class}: {came}. Its author says: {one.claim}", one.id
    )
