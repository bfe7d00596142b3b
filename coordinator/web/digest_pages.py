"""Digests as pages, as Markdown and as an Atom feed (RFC 4287)."""

from collections.abc import Iterator
from uuid import NAMESPACE_URL, uuid5
from xml.etree.ElementTree import Element, SubElement, tostring

from fastapi import APIRouter, Request, Response

from coordinator.db.database import ReadSession
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.records import digest as digests
from coordinator.settings import CoordinatorSettings
from coordinator.web.rendering import render, render_markdown
from shared.digests import Digest, DigestClaim, Week
from shared.formatting import count_noun, format_effect, format_measure
from shared.protocol import Slug

router = APIRouter(include_in_schema=False)

FEED_ENTRIES = 20
ATOM = "http://www.w3.org/2005/Atom"


@router.get("/projects/{name}/digests.atom")
def show_feed(name: Slug, request: Request, session: ReadSession) -> Response:
    """The newest weeks that are over, as an Atom feed."""
    project = projects.get_project(session, name)
    entries = digests.list_final(session, project, FEED_ENTRIES)
    return Response(make_feed(project, entries, _base_url(request)), media_type="application/atom+xml")


@router.get("/projects/{name}/digests")
def show_weeks(name: Slug, session: ReadSession) -> Response:
    """The weeks of a project that have a digest."""
    project = projects.get_project(session, name)
    return render(
        "digests/list.html", project=projects.view_project(project), weeks=digests.list_weeks(session, project)
    )


@router.get("/projects/{name}/digests/{week}.md")
def show_markdown(name: Slug, week: Week, request: Request, session: ReadSession) -> Response:
    digest = digests.get_digest(session, projects.get_project(session, name), week)
    return Response(make_markdown(digest, _base_url(request)), media_type="text/markdown")


@router.get("/projects/{name}/digests/{week}")
def show_digest(name: Slug, week: Week, session: ReadSession) -> Response:
    """The digest of a week."""
    project = projects.get_project(session, name)
    return render(
        "digests/digest.html", project=projects.view_project(project), digest=digests.get_digest(session, project, week)
    )


def _base_url(request: Request) -> str:
    settings: CoordinatorSettings = request.app.state.settings
    return settings.base_url


def make_markdown(digest: Digest, base_url: str) -> str:
    """The digest as CommonMark; strangers' words lose the characters that would mean something there."""
    return "\n".join(_write_lines(digest, base_url)) + "\n"


def _write_lines(digest: Digest, base_url: str) -> Iterator[str]:
    yield f"# {digest.project}, {digest.week}"
    known = f"as known {digest.made_at:%Y-%m-%d %H:%M} UTC"
    yield f"\n{digest.starts_at:%Y-%m-%d} up to {digest.ends_at:%Y-%m-%d} UTC, {known}."
    yield (
        f"{count_noun(digest.experiments, 'experiment')} and {count_noun(digest.runs, 'run')} of all hardware classes: "
        f"{digest.improved:,} improved, {digest.no_change:,} no change, {digest.worse:,} worse, "
        f"{digest.unresolved:,} unresolved, {digest.failed:,} failed."
    )
    yield "\n## Records and leaders\n"
    for step in digest.records:
        kind = "record" if step.is_record else "leader"
        name = _link(base_url, step.experiment_id, step.title) if step.experiment_id else "the project's seed"
        by = f" by {_plain(step.volunteer)}" if step.volunteer else ""
        measure = format_measure(step.metric_mean, step.metric_sd)
        yield f"- {kind} on {_plain(step.hardware_class)}: {name}{by}, {measure} ({step.changed_at:%Y-%m-%d})"
    if not digest.records:
        yield "None changed."
    for title, claims, in_all in (
        ("Milestones: gains of the week that others measured, too", digest.milestones, digest.milestones_in_all),
        ("Refuted: predicted to be better, and not", digest.refuted, digest.refuted_in_all),
        ("Contradicted: runs that do not agree", digest.contradicted, digest.contradicted_in_all),
    ):
        yield f"\n## {title}\n"
        yield f"{len(claims):,} of {in_all:,} shown.\n" if in_all else "None."
        yield from (_write_claim(claim, base_url) for claim in claims)
    yield "\n## Open questions: follow-ups of the week's papers that nobody tried\n"
    yield (
        f"{len(digest.open_questions):,} of {digest.open_questions_in_all:,} shown.\n"
        if digest.open_questions
        else "None."
    )
    for question in digest.open_questions:
        yield f"- {_plain(question.text)} ([paper {question.finding_id}]({base_url}/findings/{question.finding_id}))"
    yield "\n## People\n"
    yield f"{len(digest.people):,} of {digest.people_in_all:,} shown.\n" if digest.people else "Nobody."
    for person in digest.people:
        yield (
            f"- {_plain(person.name)}: {count_noun(person.experiments, 'experiment')} ({person.improved:,} improved), "
            f"{count_noun(person.runs, 'run')} ({person.checks:,} to check others' results)"
        )
    if digest.withheld:
        yield f"\n{digest.withheld:,} entries are left out: by people in quarantine, or from retracted papers."


def _write_claim(claim: DigestClaim, base_url: str) -> str:
    has_effect = claim.effect_mean is not None and claim.effect_sd is not None
    effect = format_effect(claim.effect_mean or 0.0, claim.effect_sd or 0.0) if has_effect else "no effect known"
    name = _link(base_url, claim.experiment_id, claim.title)
    return f"- {name} by {_plain(claim.volunteer)} on {_plain(claim.hardware_class)}: {effect}, {claim.standing}"


def _link(base_url: str, experiment_id: int, title: str) -> str:
    return f"[#{experiment_id} {_plain(title)}]({base_url}/experiments/{experiment_id})"


def _plain(text: str) -> str:
    return " ".join("".join(f"\\{sign}" if sign in r"\`*_{}[]<>#|!&~" else sign for sign in text).split())


def make_feed(project: Project, digests: list[Digest], base_url: str) -> bytes:
    """An Atom feed. Ids follow from the project's root commit, so they stay when the coordinator moves."""
    page = f"{base_url}/projects/{project.name}/digests"
    updated = max((one.made_at for one in digests), default=project.created_at)
    feed = Element("feed", xmlns=ATOM)
    SubElement(feed, "id").text = _make_id(project, "")
    SubElement(feed, "title").text = f"{project.title}: weeks"
    SubElement(feed, "updated").text = updated.isoformat()
    SubElement(SubElement(feed, "author"), "name").text = "Research swarm"
    SubElement(feed, "link", rel="self", type="application/atom+xml", href=f"{page}.atom")
    SubElement(feed, "link", rel="alternate", type="text/html", href=page)
    for one in digests:
        entry = SubElement(feed, "entry")
        SubElement(entry, "id").text = _make_id(project, one.week)
        SubElement(entry, "title").text = f"{project.name}, {one.week}: {count_noun(one.experiments, 'experiment')}"
        SubElement(entry, "updated").text = one.made_at.isoformat()
        SubElement(entry, "link", rel="alternate", type="text/html", href=f"{page}/{one.week}")
        SubElement(entry, "content", type="html").text = str(render_markdown(make_markdown(one, base_url)))
    made: bytes = tostring(feed, encoding="utf-8", xml_declaration=True)
    return made


def _make_id(project: Project, week: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, f'{project.root_sha}/{project.name}/{week}')}"
