"""What the pages of findings and topics show, gathered before their templates see it."""

from dataclasses import dataclass
from urllib.parse import urlencode

from sqlalchemy.orm import Session

from coordinator.experiments import service as experiments
from coordinator.findings import papers, search, service, topics
from coordinator.findings.queries import FindingFilters
from coordinator.novelty.similarity import Similarity
from coordinator.projects import service as projects
from coordinator.web.topic_picture import TopicPicture, draw_topic
from coordinator.web.views import Curves, view_curves
from shared.contract import Objective
from shared.experiments import Verdict
from shared.findings import FailureClass, Finding, FindingSummary, Paper, SearchHit
from shared.projects import Project
from shared.protocol import Page
from shared.topics import Topic, TopicSummary

PAGE_ROWS = 50
VERDICTS = (Verdict.IMPROVED, Verdict.NO_CHANGE, Verdict.WORSE, Verdict.UNRESOLVED)


@dataclass(frozen=True)
class PaperPage:
    """A finding's page; `words` are those of the version asked for."""

    project: Project
    objective: Objective
    paper: Paper
    words: Finding
    curves: Curves
    diff: str


@dataclass(frozen=True)
class FindingsPage:
    """Findings of a project: those that answer a question, or the newest.

    `query` repeats what was asked, `chosen` are its filters; `verdicts` and `failures` are addresses of the same with
    each verdict, and with each failure class.
    """

    project: Project
    q: str
    query: str
    chosen: dict[str, str]
    verdicts: list[tuple[str, str]]
    failures: list[tuple[str, str]]
    hits: list[SearchHit]
    newest: Page[FindingSummary]


@dataclass(frozen=True)
class TopicsPage:
    """A project's topics."""

    project: Project
    topics: Page[TopicSummary]


@dataclass(frozen=True)
class TopicPage:
    """A topic's page."""

    project: Project
    objective: Objective
    topic: Topic
    picture: TopicPicture | None


def view_paper(session: Session, finding_id: int, version: int | None) -> PaperPage:
    """A finding's page. Raises NotFoundError."""
    paper = papers.view_paper(session, finding_id)
    project = projects.get_project(session, paper.summary.project)
    experiment = experiments.view_detail(session, paper.summary.experiment_id)
    return PaperPage(
        project=projects.view_project(project),
        objective=projects.contract_of(project).objective,
        paper=paper,
        words=paper.words if version is None else papers.view_words(session, finding_id, version),
        curves=view_curves(session, experiment),
        diff=experiment.diff,
    )


def view_findings(
    session: Session, similarity: Similarity, project_name: str, q: str, chosen: dict[str, str],
    filters: FindingFilters, before_id: int | None,
) -> FindingsPage:  # fmt: skip
    """A project's findings. `chosen` are the filters as they stand in the address."""
    project = projects.get_project(session, project_name)
    hits = search.search(session, similarity, q, filters, PAGE_ROWS) if q else []
    none = Page[FindingSummary](items=[])
    asked = {"project": project_name, **chosen, **({"q": q} if q else {})}
    return FindingsPage(
        project=projects.view_project(project),
        q=q,
        query=urlencode(asked),
        chosen=chosen,
        verdicts=[(verdict, _with(asked, "verdict", verdict)) for verdict in ("", *VERDICTS)],
        failures=[(failure, _with(asked, "failure", failure)) for failure in ("", *FailureClass)],
        hits=hits,
        newest=none if q else service.view_page(session, filters, before_id, PAGE_ROWS),
    )


def _with(asked: dict[str, str], name: str, value: str) -> str:
    others = {known: given for known, given in asked.items() if known != name}
    return f"/findings?{urlencode(others | ({name: value} if value else {}))}"


def view_topics(session: Session, name: str, before_id: int | None) -> TopicsPage:
    """A project's topics. Raises NotFoundError."""
    project = projects.get_project(session, name)
    return TopicsPage(projects.view_project(project), topics.view_page(session, project, before_id, PAGE_ROWS))


def view_topic(session: Session, name: str, slug: str) -> TopicPage:
    """A topic's page. Raises NotFoundError."""
    project = projects.get_project(session, name)
    objective = projects.contract_of(project).objective
    topic = topics.view_topic(session, project, slug)
    return TopicPage(projects.view_project(project), objective, topic, draw_topic(topic, objective.sign))
