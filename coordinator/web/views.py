"""The contents of each page, as plain values. Templates run no queries and make no decisions."""

from itertools import islice
from typing import Any
from urllib.parse import urlencode

from sqlalchemy.orm import Session

from coordinator.db.cache import TimedCache
from coordinator.events import queries as events_queries
from coordinator.evidence import confirmations
from coordinator.evidence import service as evidence
from coordinator.evidence.run_stats import list_runs_of_commit
from coordinator.experiments import service as experiments
from coordinator.experiments.filters import Order
from coordinator.experiments.lookup import find_experiment_by_commit
from coordinator.findings import papers, search, topic_counts, topics
from coordinator.findings import service as findings
from coordinator.findings.api import FindingsAsked
from coordinator.findings.paper_queries import count_gains
from coordinator.findings.topics import TopicQuery
from coordinator.leases.service import view_context
from coordinator.models import Experiment, Project
from coordinator.novelty.similarity import Similarity
from coordinator.projects import service as projects
from coordinator.web import project_page
from coordinator.web.charts import draw_evidence, draw_small, draw_topic
from coordinator.web.dose_picture import draw_doses
from coordinator.web.project_page import Context
from shared.experiments import JobKind, Verdict
from shared.findings import FailureClass
from shared.protocol import Page
from shared.records import ExperimentDetail
from shared.runs import RunOutcome, RunView
from shared.topics import GainFates, TopicSort

PAGE_ROWS = 50
MAX_SHOWN_FINDINGS = 8
"""Number of findings on each side of a topic's page; of one more, it is known that there are more."""

_gains = TimedCache[int, GainFates](project_page.MAX_CACHED_VALUES)

VERDICTS = (Verdict.IMPROVED, Verdict.NO_CHANGE, Verdict.WORSE, Verdict.UNRESOLVED)

Curve = dict[str, Any]
"""A training curve for the page's script: seconds since the start of the budget, steps and losses, point by point."""


def _start_context(project: Project) -> Context:
    """The values of every page that belongs to a project."""
    return {"project": projects.view_project(project), "objective": projects.contract_of(project).objective}


def view_experiment_live(session: Session, experiment_id: int) -> Context:
    """The parts of an experiment's page that change: its verdict, evidence and runs, and what its confirmation runs
    say, if it has some. Raises NotFoundError."""
    detail = experiments.view_detail(session, experiment_id)
    explained = experiments.view_evidence(session, experiment_id, detail.hardware_class)
    project = projects.get_project(session, detail.project)
    is_confirmed = any(run.kind == JobKind.CONFIRM for run in explained.runs)
    place = detail.hardware_class, detail.sha
    return _start_context(project) | {
        "experiment": detail,
        "evidence": explained,
        "published": confirmations.publish(session, project, *place) if is_confirmed else None,
        "chart": draw_evidence(explained),
    }


def view_experiment(session: Session, experiment_id: int) -> Context:
    """An experiment's page. `since` is the feed's cursor at the moment of these numbers. Raises NotFoundError."""
    since = events_queries.get_page_cursor(session)
    page = view_experiment_live(session, experiment_id)
    return page | {
        "curves": view_curves(session, page["experiment"]),
        "context": view_context(session, session.get_one(Experiment, experiment_id).lease_id),
        "since": since,
    }


def view_curves(session: Session, detail: ExperimentDetail) -> list[Curve]:
    """An experiment's training curves. The first is that of its parent's first whole run in its hardware class."""
    name = f"parent #{detail.parent_id}" if detail.parent_id else "parent (baseline)"
    parents = (
        _view_curve(evidence.view_run(run, worker, detail.project), name, is_parent=True)
        for run, worker in list_runs_of_commit(session, detail.parent_sha)
        if run.hardware_class == detail.hardware_class
        and run.outcome == RunOutcome.OK
        and run.curve
        and run.rung is None
    )
    return [*islice(parents, 1), *_own_curves(detail.runs)]


def _own_curves(runs: list[RunView]) -> list[Curve]:
    return [
        _view_curve(run, f"run {run.id}, seed {run.seed}" + (f", {run.rung}" if run.rung else ""), is_parent=False)
        for run in runs
        if run.curve
    ]


def _view_curve(run: RunView, name: str, *, is_parent: bool) -> Curve:
    return {
        "name": name,
        "is_parent": is_parent,
        "seconds": [point.seconds for point in run.curve],
        "steps": [point.step for point in run.curve],
        "losses": [point.loss for point in run.curve],
    }


def view_run(session: Session, run_id: int) -> Context:
    """A run's page. `experiment_id` is None for a run of the root. Raises NotFoundError."""
    run = evidence.view_one(session, run_id)
    experiment = find_experiment_by_commit(session, run.commit_sha)
    return _start_context(projects.get_project(session, run.project)) | {
        "run": run,
        "curves": _own_curves([run]),
        "experiment_id": experiment.id if experiment else None,
    }


def view_finding(session: Session, finding_id: int, version: int | None, *, with_hidden: bool) -> Context:
    """A finding's page; the newest version by default. Raises NotFoundError, FindingHiddenError."""
    paper = papers.view_paper(session, finding_id, with_hidden=with_hidden)
    words = paper.words
    if version is not None:
        words = papers.view_words(session, finding_id, version, with_hidden=with_hidden)
    experiment = experiments.view_detail(session, paper.summary.experiment_id)
    return _start_context(projects.get_project(session, paper.summary.project)) | {
        "paper": paper,
        "words": words,
        "curves": view_curves(session, experiment),
        "diff": experiment.diff,
        "has_code": experiment.has_code,
    }


def view_findings(
    session: Session, similarity: Similarity, q: str, chosen: dict[str, str], given: FindingsAsked, order: Order,
    cursor: str | None,
) -> Context:  # fmt: skip
    """Findings of a project or of all: the `hits` of the search `q`, or the `newest`.

    `chosen` are the filters of the address; `verdicts` and `failures` pair each value of a filter with its address.
    """
    project, filters = given
    asked = {**({"project": project.name} if project else {}), **chosen, **({"q": q} if q else {})}
    found = search.view_page(session, similarity, q, filters, PAGE_ROWS) if q else None
    newest = Page(items=[]) if q else findings.view_page(session, project, filters, order, cursor, PAGE_ROWS)
    shown = [hit.finding for hit in found.items] if found else newest.items
    return (_start_context(project) if project else {"project": None}) | {
        "q": q,
        "gains": _gains.read(session, project.id, project_page.VALUE_SECONDS, lambda: count_gains(session, project.id))
        if project
        else None,
        "query": urlencode(asked),
        "chosen": chosen,
        "verdicts": [(verdict, _filter_address(asked, "verdict", verdict)) for verdict in ("", *VERDICTS)],
        "failures": [(failure, _filter_address(asked, "failure", failure)) for failure in ("", *FailureClass)],
        "hits": found.items if found else [],
        "meaning_used": found is None or found.meaning_used,
        "waiting_for_vectors": found.waiting_for_vectors if found else 0,
        "newest": newest,
        "pictures": draw_small(shown),
    }


def _filter_address(asked: dict[str, str], name: str, value: str) -> str:
    others = {known: given for known, given in asked.items() if known != name}
    return f"/findings?{urlencode(others | ({name: value} if value else {}))}"


def view_topics(session: Session, name: str, asked: TopicQuery, cursor: str | None) -> Context:
    """A project's topics. Raises NotFoundError, CursorInvalidError."""
    project = projects.get_project(session, name)
    filters = asked.model_dump(mode="json", exclude_defaults=True, exclude={"sort", "ascending"})
    orders = {sort: {"sort": sort.value, "ascending": not asked.ascending and sort is asked.sort} for sort in TopicSort}
    return _start_context(project) | {
        "topics": topics.list_sorted(session, project, asked, cursor, PAGE_ROWS),
        "counted_at": topic_counts.find_oldest_count(session, project.id),
        "is_first": cursor is None,
        "asked": asked,
        "query": urlencode(asked.model_dump(mode="json", exclude_defaults=True)),
        "sorts": {sort: urlencode(filters | order) for sort, order in orders.items()},
    }


def view_topic(session: Session, name: str, slug: str, before_id: int | None) -> Context:
    """A topic's page. Raises NotFoundError."""
    project = projects.get_project(session, name)
    context = _start_context(project)
    topic = topics.view_topic(session, project, slug, MAX_SHOWN_FINDINGS + 1, MAX_SHOWN_FINDINGS)
    is_first = before_id is None
    shown = topics.cut_effects(topic.effects) if is_first else topics.list_effects(session, project, slug, before_id)
    chart = draw_topic(topic, context["objective"].sign, shown.items)
    return context | {
        "topic": topic,
        "chart": chart,
        "doses": draw_doses(topic, context["objective"].sign),
        "shown": shown,
        "most_shown": MAX_SHOWN_FINDINGS,
        "is_first": is_first,
    }
