"""Context packs: the text that an agent reads before it proposes. All of it is quoted data, never instructions."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.db.engine import Conn
from coordinator.experiments.lookup import TriedExperiment, list_lineage_tried, list_siblings
from coordinator.findings.candidates import CandidateFinding, CandidateSet, read_candidates, words_of
from coordinator.findings.failures import describe_failure
from coordinator.lineage.commits import list_nearest
from coordinator.selection.running_jobs import RunningJob
from shared.experiments import Verdict
from shared.findings import FailureClass, GainFates
from shared.formatting import format_effect, format_measure

BEST, NEGATIVE = 12, 5
OTHER_HARDWARE = 0.5

LEFT_OUT = -1.0  # replaces the weight of a finding that must not be quoted; weights are not negative
UNRELATED = 0.1  # relevance of a finding that shares no word with the job


class Subject(NamedTuple):
    """A job's words, and the sign of the effect of each topic in its line; -1 is a gain. `quoted` are experiments that
    other parts of the pack describe."""

    words: frozenset[str]
    line: dict[str, int]
    quoted: frozenset[int]
    hardware_class: str
    sign: float


class Choice(NamedTuple):
    """Findings to quote, by weight; `contrarian` is evidence against the job's line."""

    best: list[CandidateFinding]
    negative: list[CandidateFinding]
    contrarian: CandidateFinding | None


def choose(known: CandidateSet, about: Subject) -> Choice:
    """Choose the findings to quote."""
    weights = weigh(known, about)
    weights[known.list_of(about.quoted)] = LEFT_OUT
    order = np.argsort(-weights, kind="stable")  # of equal weights, the newest first
    order = order[weights[order] > LEFT_OUT]
    against = order[mark_against(known, about)[order]][:1]
    order = order[order != against] if len(against) else order
    is_negative = known.negative[order]
    best, negative = (
        [known.findings[at] for at in _diversify(places, weights[places], known.topics[places], limit)]
        for places, limit in ((order[~is_negative], BEST), (order[is_negative], NEGATIVE))
    )
    return Choice(best, negative, known.findings[against[0]] if len(against) else None)


def weigh(known: CandidateSet, about: Subject) -> NDArray[Any]:
    """The weight of each finding for a job."""
    relevance = np.maximum(UNRELATED, known.count_shared(about.words) / known.roots)
    hardware = np.full(len(relevance), OTHER_HARDWARE)
    hardware[known.list_of_class(about.hardware_class)] = 1.0
    weights: NDArray[Any] = relevance * known.weights * hardware
    return weights


def mark_against(known: CandidateSet, about: Subject) -> NDArray[Any]:
    """Marks the findings on a topic of the line whose effect differs from the line's."""
    sides = known.look_up_topics(about.line)
    effects = np.where(about.sign * known.effects > 0, 1, -1)
    against: NDArray[Any] = (sides != 0) & known.resolved & (known.unchanged | (effects != sides))
    return against


def _diversify(places: NDArray[Any], weights: NDArray[Any], topics: NDArray[Any], limit: int) -> Iterator[int]:
    """The `limit` heaviest, where each further one of a topic weighs half as much; `weights` are in falling order."""
    _, firsts = np.unique(topics, return_index=True)
    firsts = np.sort(firsts)[:limit]  # until the end one of these is unused, and outweighs later topics
    members = {int(topics[first]): np.flatnonzero(topics == topics[first])[:limit].tolist() for first in firsts}
    waiting = [(-float(weights[ranks[0]]), ranks[0], topic) for topic, ranks in members.items()]  # sorted, so a heap
    chosen = Counter[int]()
    for _ in range(limit):
        if not waiting:
            return
        _, rank, topic = heappop(waiting)
        chosen[topic] += 1
        ranks, count = members[topic], chosen[topic]
        if count < len(ranks):
            following = ranks[count]
            heappush(waiting, (-float(weights[following]) * 0.5**count, following, topic))
        yield int(places[rank])


MAX_STEPS = 12
MAX_SIBLINGS = 20
MAX_TOKENS = 6_000
MAX_LINE = 500  # characters
KEPT_LINES = 4_096  # formatted lines in each cache, since concurrent packs quote much the same; 5 MB in all


class PackRequest(NamedTuple):
    """The job that a pack is for. `sign` is 1 where a lower metric is better, else -1; `about` describes the job, and
    `promoted` what held with a larger budget, a line each.

    A pack not `with_findings` has the numbers of its line and of what was tried from the parent, but nobody's words.
    """

    project_id: int
    base_sha: str
    hardware_class: str
    sign: float
    about: str
    running: Sequence[RunningJob]
    with_findings: bool = True
    promoted: Sequence[str] = ()


class Pack(NamedTuple):
    """A pack's text, and the numbers of the findings that it quotes."""

    text: str
    findings: list[int]
    with_findings: bool = True


class Line(NamedTuple):
    """A line of a pack, and the finding whose words it quotes."""

    text: str
    finding_id: int | None = None


class Part(NamedTuple):
    """A part of a pack. It may use `tokens` and what earlier parts left; `from_end` keeps its last lines."""

    heading: str
    tokens: int
    lines: Sequence[Line]
    from_end: bool = False


def compose_pack(session: Conn, request: PackRequest) -> Pack:
    """The pack for a job, as Markdown, its parts in order and within MAX_TOKENS."""
    steps = list_lineage_tried(session, list_nearest(session, request.base_sha, MAX_STEPS))
    siblings = list_siblings(session, request.base_sha, request.hardware_class, MAX_SIBLINGS)
    view = _view_sibling if request.with_findings else _view_numbers
    parts = [
        Part("The steps that led to this parent", 1_200, [Line(_describe(step)) for step in steps], from_end=True),
        Part("Tried from this parent, with results", 1_500, [view(one) for one in siblings]),
        Part("Running now elsewhere", 500, [Line(str(job.proposal["title"])) for job in request.running]),
    ]
    if request.promoted:
        parts.append(Part("Records with a larger budget", 200, [Line(text) for text in request.promoted]))
    if not request.with_findings:
        return join_parts(parts)._replace(with_findings=False)
    known = read_candidates(session, request.project_id, request.hardware_class)
    chosen = choose(known, _find_subject(request, steps, siblings))
    against = [chosen.contrarian] if chosen.contrarian else []
    parts += [
        Part("Findings of others", 1_700, [*_warn(known.gains), *(_quote(one) for one in chosen.best)]),
        Part("Changes that did not help", 800, [_quote(one) for one in chosen.negative]),
        Part("Evidence against this line", 300, [_quote(one) for one in against]),
    ]
    return join_parts(parts)


def _warn(gains: GainFates | None) -> Iterator[Line]:
    """How far gains that were seen in one run could be relied upon so far."""
    if gains is not None and gains.measured_again:
        yield Line(f"{gains.sentence} What one run says is provisional.")


def _find_subject(
    request: PackRequest, steps: Sequence[TriedExperiment], siblings: Sequence[TriedExperiment]
) -> Subject:
    words = frozenset[str]().union(
        *(words_of(text) for text in (request.about, *(step.title for step in steps if not step.is_hidden)))
    )
    line = {step.topic: 1 if request.sign * step.effect_mean > 0 else -1 for step in steps if step.effect_mean}
    quoted = frozenset(one.id for one in (*steps, *siblings))
    return Subject(words, line, quoted, request.hardware_class, request.sign)


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
    """An upper estimate: three ASCII characters a token, since numbers split into many; other characters one each."""
    ascii_characters = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return ascii_characters // 3 + 1 + len(text) - ascii_characters


@lru_cache(maxsize=KEPT_LINES)
def _describe(tried: TriedExperiment) -> str:
    head = f"#{tried.id} (its author is in quarantine)" if tried.is_hidden else f"#{tried.id} {tried.title}"
    if tried.metric_mean is None or tried.metric_sd is None:
        reason = "" if tried.is_hidden else f" ({tried.reason or 'no reason given'})"
        return f"{head}: {tried.outcome}{reason}"
    effect = ""
    if tried.effect_mean is not None and tried.effect_sd is not None:
        effect = f", effect {format_effect(tried.effect_mean, tried.effect_sd)} ({_view_verdict(tried)})"
    return f"{head}: {format_measure(tried.metric_mean, tried.metric_sd)}, n = {tried.runs}{effect}"


def _view_verdict(one: TriedExperiment | CandidateFinding) -> str:
    """The verdict. In simulations a quarter to two thirds of the gains seen in one run were none."""
    verdict = str(one.verdict).replace("_", " ")
    return f"{verdict}, one run, provisional" if one.runs == 1 and one.verdict == Verdict.IMPROVED else verdict


def _view_numbers(tried: TriedExperiment) -> Line:
    return Line(_describe(tried))


@lru_cache(maxsize=KEPT_LINES)
def _view_sibling(tried: TriedExperiment) -> Line:
    if not tried.claim:
        return Line(_describe(tried))
    return Line(f"{_describe(tried)}. Its author says: {tried.claim}", tried.finding_id)


@lru_cache(maxsize=KEPT_LINES)
def _quote(one: CandidateFinding) -> Line:
    outcome = (one.failure or "not measured").replace("_", " ")
    if one.effect_mean is not None and one.effect_sd is not None:
        outcome = f"effect {format_effect(one.effect_mean, one.effect_sd)} ({_view_verdict(one)}), n = {one.runs}"
    if describe_failure(one.failure, one.verdict, one.pace) is FailureClass.SLOWER and one.pace is not None:
        outcome += f", at {100 * one.pace:.0f} % of its parent's speed"
    text = f"#{one.experiment_id} {one.title} on {one.hardware_class}: {outcome}. Its author says: {one.claim}"
    return Line(text, one.id)
