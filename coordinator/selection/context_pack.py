"""Context packs: the text that an agent reads before it proposes. All of it is quoted data, never instructions."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from coordinator.db.cache import CachePerDatabase
from coordinator.db.engine import Conn
from coordinator.evidence import posteriors
from coordinator.evidence.statistics import Model
from coordinator.experiments.failures import describe_failure
from coordinator.experiments.lookup import TriedExperiment, find_settings, list_lineage_tried, list_siblings
from coordinator.findings.candidates import CandidateFinding, CandidateSet, read_candidates, words_of
from coordinator.findings.pooling import DOUBTED, list_gaps
from coordinator.lineage.commits import get_commit, list_nearest
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.selection.combinations import MAX_MODELS, Known, order_settings, read_model
from coordinator.selection.quoted_findings import Choice, Subject, choose
from coordinator.selection.running_jobs import RunningJob
from shared.experiments import JobKind, Standing, Verdict
from shared.findings import FailureClass
from shared.formatting import count_noun, format_effect, format_measure
from shared.topics import GainFates, name_topic

MAX_STEPS = 100
"""Nearest ancestors that a pack lists. Where they do not fit, the largest steps and the NEWEST_STEPS stay."""

NEWEST_STEPS = 5
MAX_SIBLINGS = 20
MAX_TOKENS, STEPS_TOKENS = 6_000, 1_500
MAX_LINE, SHORT_TITLE = 500, 32  # characters
MAX_GAPS, MAX_UNCHANGED, MAX_DIRECTIONS, MAX_IMPORTANCES = 8, 24, 24, 6
KEPT_LINES = 4_096  # formatted lines in each cache, since concurrent packs quote much the same; 5 MB in all


class PackRequest(NamedTuple):
    """The job that a pack is for. `about` describes it, and `promoted` what held with a larger budget, a line each. The
    class's `model` is read where it is not given.

    A pack not `with_findings` has the numbers of its line and of what was tried from the parent, but nobody's words.
    """

    project: Project
    base_sha: str
    hardware_class: str
    about: str
    running: Sequence[RunningJob]
    kind: JobKind = JobKind.IMPROVE
    with_findings: bool = True
    promoted: Sequence[str] = ()
    model: Model | None = None


class Pack(NamedTuple):
    """A pack's text, and the numbers of the findings that it quotes."""

    text: str
    findings: list[int]
    with_findings: bool = True


class Line(NamedTuple):
    """A line of a pack, the finding whose words it quotes, and the experiment's title, which a pack says once."""

    text: str
    finding_id: int | None = None
    title: str = ""


class Part(NamedTuple):
    """A part of a pack. It may use `tokens` and what earlier parts left; `from_end` keeps its last lines."""

    heading: str
    tokens: int
    lines: Sequence[Line]
    from_end: bool = False


def compose_pack(session: Conn, request: PackRequest) -> Pack:
    """The pack for a job, as Markdown, its parts in order and within MAX_TOKENS."""
    line = list_nearest(session, request.base_sha, MAX_STEPS)
    steps = list_lineage_tried(session, line)
    siblings = list_siblings(session, request.base_sha, request.hardware_class, MAX_SIBLINGS)
    is_draft = request.kind == JobKind.DRAFT
    earlier = get_commit(session, request.base_sha).depth - len(steps)
    view = _view_sibling if request.with_findings else _view_numbers
    known = read_candidates(session, request.project.id, request.hardware_class) if request.with_findings else None
    chosen = choose(known, _find_subject(request, steps, siblings)) if known else Choice([], [], None)
    drafts = [one for one in known.findings if one.kind == JobKind.DRAFT] if known and is_draft else []
    against = [chosen.contrarian] if chosen.contrarian else []
    quoted = [one.hardware_class for one in (*chosen.best, *chosen.negative, *against, *drafts)]
    classes = _name_classes(request, [*(one.hardware_class for one in steps), *quoted])
    told = fit_steps(steps, earlier, STEPS_TOKENS, classes)
    parts = [
        Part("The measure and its noise", 250, list(_describe_measure(session, request, steps, known, classes))),
        Part("The steps that led to this parent", STEPS_TOKENS, told),
        Part("Tried from this parent, with results", 400 if is_draft else 1_000, [view(one) for one in siblings]),
        Part("Running now elsewhere", 350, [_view_running(job) for job in request.running]),
    ]
    if request.promoted:
        parts.append(Part("Records with a larger budget", 150, [Line(text) for text in request.promoted]))
    if known is None:
        return join_parts(parts)._replace(with_findings=False)
    if is_draft:
        parts.append(Part("Structural departures so far", 700, [_quote(one, classes) for one in drafts]))
        parts.append(Part("Directions explored so far", 600, list(_list_directions(known, request))))
    parts += [
        Part("Findings of others", 600 if is_draft else 1_200, [_quote(one, classes) for one in chosen.best]),
        Part("Changes that did not help, the worst first", 600, [_quote(one, classes) for one in chosen.negative]),
        Part("Evidence against this line", 150, [_quote(one, classes) for one in against]),
        Part("Not tried yet", 400, list(_list_untried(session, request, known))),
    ]
    if not is_draft and (learnt := _list_learnt(session, request)):
        parts.append(Part("What a model of all runs expects", 350, learnt))
    return join_parts(parts)


def _sign_of(request: PackRequest) -> float:
    return projects.contract_of(request.project).objective.sign


def _describe_measure(
    session: Conn, request: PackRequest, steps: Sequence[TriedExperiment], known: CandidateSet | None,
    classes: Mapping[str, str],
) -> Iterator[Line]:  # fmt: skip
    """The measure, the difference that matters, the noise of a run, and the names of hardware classes."""
    contract = projects.contract_of(request.project)
    of_class = request.project.id, request.hardware_class
    objective, model = contract.objective, request.model or posteriors.find_model(session, contract, *of_class)
    side = "lower" if objective.sign > 0 else "higher"
    assumed = " (assumed; so verdicts need 3 sd)" if model.is_assumed else ""
    yield Line(
        f"{objective.metric} in {objective.unit}, {side} is better; effects are child minus parent, with one sd. A "
        f"difference below min_effect {objective.min_effect:g} does not matter. The noise of one run is "
        f"{model.noise_sd:.2g}{assumed}."
    )
    parent = next((one for one in reversed(steps) if one.id), None)
    if parent is not None and parent.metric_mean is not None and parent.metric_sd is not None:
        runs = _say_runs(parent.runs)
        place = _say_place(parent, classes)
        yield Line(f"This parent: {format_measure(parent.metric_mean, parent.metric_sd)}, {runs}{place}.")
    yield from _name_best(request, known)
    yield Line(f"All on {request.hardware_class}, but for lines that end in a letter.")
    yield from (Line(f"[{letter}] is {name}.") for name, letter in classes.items() if letter)
    yield from _warn(known.gains if known else None)


def _name_best(request: PackRequest, known: CandidateSet | None) -> Iterator[Line]:
    """The best metric on the job's hardware class that stands."""
    sign = _sign_of(request)
    measured = [
        (sign * one.metric_mean, one)
        for one in (known.findings if known else ())
        if one.metric_mean is not None and one.hardware_class == request.hardware_class and one.standing not in DOUBTED
    ]
    if measured:
        _, best = min(measured, key=lambda pair: pair[0])
        metric = format_measure(best.metric_mean or 0.0, best.metric_sd or 0.0)
        standing = str(best.standing).replace("_", " ")
        yield Line(f"The best so far is #{best.experiment_id}: {metric}, {standing}, {_say_runs(best.runs)}.")


def _name_classes(request: PackRequest, quoted: Sequence[str]) -> dict[str, str]:
    """A letter for each hardware class that the pack names, so that it names each once; none for the job's own."""
    others = [name for name in dict.fromkeys(quoted) if name not in (request.hardware_class, "")]
    return {name: chr(ord("A") + number % 26) * (1 + number // 26) for number, name in enumerate(others)}


def _say_place(one: TriedExperiment | CandidateFinding, classes: Mapping[str, str]) -> str:
    letter = classes.get(one.hardware_class)
    return f" [{letter}]" if letter else ""


def fit_steps(
    steps: Sequence[TriedExperiment], earlier: int, tokens: int, classes: Mapping[str, str] = MappingProxyType({})
) -> list[Line]:
    """All steps, the oldest first; where they do not fit, only the newest and the largest ones have more than the
    beginning of their title and their effect, and the smallest no line."""
    whole = [Line(_describe(one) + _say_place(one, classes), title="" if one.is_hidden else one.title) for one in steps]
    short = [Line(_name_step(one) + _say_place(one, classes)) for one in steps]
    newest = range(len(steps) - 1, max(-1, len(steps) - 1 - NEWEST_STEPS), -1)
    by_size = sorted(range(len(steps)), key=lambda at: -abs(steps[at].effect_mean or 0.0))
    kept, left = dict[int, Line](), tokens - 60  # for the heading and the line of what is left out
    for lines, places, is_again in ((whole, newest, False), (short, by_size, False), (whole, by_size, True)):
        for at in places:
            more = _cost(lines[at]) - (_cost(kept[at]) if at in kept else 0)
            if more <= left and (at in kept) is is_again:
                kept[at] = lines[at]
                left -= more
    missing = len(steps) - len(kept)
    said = [f"{count_noun(missing, 'smaller step')} left out"] if missing else []
    said += [f"{count_noun(earlier, 'older step')} not listed"] if earlier > 0 else []
    return [*([Line(f"({', '.join(said)})")] if said else []), *(kept[at] for at in sorted(kept))]


def _cost(line: Line) -> int:
    return _quote_line(line.text)[1]


def _name_step(step: TriedExperiment) -> str:
    """A step in few words."""
    title = step.title if len(step.title) <= SHORT_TITLE else f"{step.title[:SHORT_TITLE]}…"
    effect = format_effect(step.effect_mean, step.effect_sd, unknown=step.outcome).partition(" ")[0]
    return f"#{step.id} {'(hidden)' if step.is_hidden else title}: {effect}"


def _list_directions(known: CandidateSet, request: PackRequest) -> Iterator[Line]:
    """The axes that were changed so far, with their outcomes, the most frequent first, and the job's class's best."""
    sign = _sign_of(request)
    topics: defaultdict[str, list[CandidateFinding]] = defaultdict(list)
    for one in known.findings:
        topics[one.topic].append(one)
    for members in sorted(topics.values(), key=lambda found: -len(found))[:MAX_DIRECTIONS]:
        verdicts = Counter((one.failure or one.verdict or "not measured").replace("_", " ") for one in members)
        own = [one for one in members if one.hardware_class == request.hardware_class and one.standing not in DOUBTED]
        measured = [(sign * one.effect_mean, one) for one in own if one.effect_mean is not None]
        best = ""
        if measured:
            _, one = min(measured, key=lambda pair: pair[0])
            best = f"; best {format_effect(one.effect_mean or 0.0, one.effect_sd or 0.0)} (#{one.experiment_id})"
        counts = ", ".join(f"{count} {name}" for name, count in verdicts.most_common())
        yield Line(f"{members[0].axis}: {count_noun(len(members), 'experiment')}, {counts}{best}")


def _list_untried(session: Conn, request: PackRequest, known: CandidateSet) -> Iterator[Line]:
    """Values beside the best ones, and constants of this parent that no known experiment changed."""
    yield from (Line(text) for text in known.list_gaps(_sign_of(request))[:MAX_GAPS])
    settings = ((name, name_topic(name), value) for name, value in find_settings(session, request.base_sha).items())
    names = [f"{name} ({value!r})" for name, own, value in settings if own not in known.topic_names]
    if names:
        more = f" and {len(names) - MAX_UNCHANGED} more" if len(names) > MAX_UNCHANGED else ""
        of = count_noun(len(known.findings), "finding")
        yield Line(f"Constants that none of the {of} looked at is about: {', '.join(names[:MAX_UNCHANGED])}{more}")


_learnt = CachePerDatabase[int, tuple[Known, list[Line]]](MAX_MODELS)
"""The lines of each project's model."""


def _list_learnt(session: Conn, request: PackRequest) -> list[Line]:
    """The importance of constants, their expected best values, and where nothing was tried, by a model of all runs."""
    kept, model = _learnt.for_database(session), read_model(session, request.project)
    if model is None:
        return []
    told = kept.find(request.project.id)
    if told is None or told[0] is not model:
        told = kept.store(request.project.id, (model, list(_describe_model(model, _sign_of(request)))))
    return told[1]


def _describe_model(model: Known, sign: float) -> Iterator[Line]:
    for one in order_settings(model, sign, MAX_IMPORTANCES).found:
        numbers = ((value, effect) for value, effect in one.effects if type(value) in (int, float))
        gaps = ", ".join(gap.value for gap in list_gaps({float(value): effect for value, effect in numbers}))
        beyond = f"; untried: {gaps}" if gaps else ""
        start = "files without it" if one.reference is None else repr(one.reference)
        found = "best expected at" if sign * one.effect < 0 else "no gain expected of another value, least loss of"
        yield Line(
            f"{one.name}: {100 * one.share:.0f} % of what is explained; {found} {one.best!r}, "
            f"{format_effect(one.effect, one.sd)} against {start}; {count_noun(one.values, 'value')}{beyond}"
        )


def _warn(gains: GainFates | None) -> Iterator[Line]:
    """How far gains that were seen in one run could be relied upon so far."""
    if gains is not None and gains.measured_again:
        yield Line(f"{gains.sentence} What one run says is provisional.")


def _find_subject(
    request: PackRequest, steps: Sequence[TriedExperiment], siblings: Sequence[TriedExperiment]
) -> Subject:
    sign = _sign_of(request)
    words = frozenset[str]().union(
        *(words_of(text) for text in (request.about, *(step.title for step in steps if not step.is_hidden)))
    )
    line = {step.topic: 1 if sign * step.effect_mean > 0 else -1 for step in steps if step.effect_mean}
    quoted = frozenset(one.id for one in (*steps, *siblings))
    return Subject(words, line, quoted, request.hardware_class, sign)


def join_parts(parts: Iterable[Part]) -> Pack:
    """Parts as text. Lines that do not fit are left out, whole. A title that stood before is not said again."""
    left, texts = 0, []
    findings: list[int] = []
    said: dict[str, str] = {}
    for part in parts:
        left += part.tokens
        heading = f"## {part.heading}\n\n"
        left -= estimate_tokens(heading)
        kept: list[str] = []
        for line in reversed(part.lines) if part.from_end else part.lines:
            first = said.get(line.title.casefold()) if line.title else None
            text = line.text if first is None else line.text.replace(line.title, f"(as {first})", 1)
            quoted, tokens = _quote_line(text)
            if tokens > left:
                break
            left -= tokens
            kept.append(quoted)
            if line.title:
                said.setdefault(line.title.casefold(), text.split(" ", 1)[0] if text[0] == "#" else "one that runs now")
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
        says_more = not tried.is_hidden and tried.title not in tried.reason
        reason = f" ({tried.reason or 'no reason given'})" if says_more else ""
        return f"{head}: {tried.outcome}{reason}"
    if tried.effect_mean is None or tried.effect_sd is None:
        return f"{head}: {format_measure(tried.metric_mean, tried.metric_sd)}, {_say_runs(tried.runs)}"
    return f"{head}: {format_effect(tried.effect_mean, tried.effect_sd)}, {_view_verdict(tried)}"


def _view_verdict(one: TriedExperiment | CandidateFinding) -> str:
    """The verdict. In simulations a quarter to two thirds of the gains seen in one run were none."""
    if one.standing in DOUBTED:
        return "rejected by a maintainer" if one.standing == Standing.REJECTED else "held for a maintainer's decision"
    provisional = ", provisional" if one.runs == 1 and one.verdict == Verdict.IMPROVED else ""
    return f"{str(one.verdict).replace('_', ' ')}, {_say_runs(one.runs)}{provisional}"


def _say_runs(runs: int | None) -> str:
    return "one run" if runs == 1 else count_noun(runs or 0, "run")


def _view_numbers(tried: TriedExperiment) -> Line:
    return Line(_describe(tried), title=tried.title)


def _view_running(job: RunningJob) -> Line:
    title = str(job.proposal["title"])
    return Line(title, title=title)


@lru_cache(maxsize=KEPT_LINES)
def _view_sibling(tried: TriedExperiment) -> Line:
    return Line(_describe(tried) + _add_claim(tried), tried.finding_id, tried.title)


def _add_claim(one: TriedExperiment | CandidateFinding) -> str:
    """The author's claim beyond the title, as a sentence."""
    words = (one.claim or "").removeprefix(one.title).strip(" :.,")
    return f". Its author says: {words}" if words else ""


def _quote(one: CandidateFinding, classes: Mapping[str, str]) -> Line:
    return _quote_from(one, _say_place(one, classes))


@lru_cache(maxsize=KEPT_LINES)
def _quote_from(one: CandidateFinding, place: str) -> Line:
    outcome = (one.failure or "not measured").replace("_", " ")
    if one.effect_mean is not None and one.effect_sd is not None:
        outcome = f"{format_effect(one.effect_mean, one.effect_sd)}, {_view_verdict(one)}"
    if describe_failure(one.failure, one.verdict, one.pace) == FailureClass.SLOWER and one.pace is not None:
        outcome += f", at {100 * one.pace:.0f} % of its parent's speed"
    return Line(f"#{one.experiment_id} {one.title}: {outcome}{_add_claim(one)}{place}", one.id, one.title)
