"""Records, lines of descent, comparisons: put together from what other features store."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import Query
from sqlalchemy.orm import Session

from coordinator.evidence import confirmations, promotions
from coordinator.evidence import service as evidence
from coordinator.evidence.explanation import list_priors
from coordinator.evidence.posteriors import find_model, find_posterior
from coordinator.evidence.statistics import CHECKERS, columns_of
from coordinator.experiments.filters import FilterQuery, Filters
from coordinator.experiments.listing import keep_fitting
from coordinator.http.errors import NotFoundError, SwarmError
from coordinator.http.pagination import CursorInvalidError, encode_sha_cursor
from coordinator.http.parameters import Moment, is_within
from coordinator.lineage import commits
from coordinator.lineage import service as lineage
from coordinator.models import Commit, CommitPosterior, Project, view_of
from coordinator.projects import service as projects
from coordinator.projects.lookup import list_projects
from coordinator.records import queries
from coordinator.records.differences import find_difference
from shared.experiments import Posterior
from shared.protocol import Page, Slug
from shared.records import ClassComparison, Comparison, HardwareClass, LineageStep, Record, RecordCommit, RecordSort

MAX_RECORDS = 200
"""Number of hardware classes whose records are looked for at once: anybody's machine makes another one."""

MAX_ANCESTOR_DISTANCE = 5_000
"""Commits above the deeper of two within which their common ancestor is looked for."""

ANCESTORS_AT_ONCE = 250
"""Commits of each line that one step of that search reads."""

MOST_NUMBER_DIGITS = 6
"""Digits of an experiment's number, where a commit may be named by one; more are a sha."""

_SHA_OR_PREFIX = re.compile(r"[0-9a-f]{4,40}")


class ShaAmbiguousError(SwarmError, status=409, title="Several commits begin so"):
    pass


class RecordQuery(FilterQuery):
    """The filters and the order of a list of records, as they stand in addresses. Those of experiments are on
    the record and on the leader: one of them must fit."""

    project: Annotated[Slug | None, Query(description="default: all")] = None
    hardware_class: Annotated[str | None, Query(max_length=200, description="only this hardware class")] = None
    has_record: Annotated[bool | None, Query(description="whether a commit is verified there")] = None
    since: Annotated[Moment | None, Query(description="with a run that ended at or after this moment")] = None
    until: Annotated[Moment | None, Query(description="with no run that ended at or after this moment")] = None
    sort: Annotated[RecordSort | None, Query(description="default: by project, the class with most runs first")] = None
    ascending: Annotated[bool, Query(description="lowest or oldest first")] = False


def view_records(session: Session, asked: RecordQuery) -> list[Record]:
    """The best commits of a project, or of all, by hardware class, of at most MAX_RECORDS. Raises NotFoundError."""
    filters = asked.to_filters(since=None, until=None)
    rows = [
        (project, row)
        for project, row in _list_classes(session, asked.project)
        if asked.hardware_class in (None, row["name"]) and is_within(row["newest_run_at"], asked.since, asked.until)
    ]
    if asked.sort is not None:
        name = {RecordSort.RUNS: "runs", RecordSort.DONE: "newest_run_at"}[asked.sort]
        rows = [pair for pair in rows if pair[1][name] is not None]
        rows.sort(key=lambda pair: pair[1][name], reverse=not asked.ascending)
    elif len(rows) > MAX_RECORDS:  # so that no one project's strangers hide what the others found
        rows.sort(key=lambda pair: pair[1]["runs"], reverse=True)
    rows = rows[:MAX_RECORDS]
    found = [(project, view_record(session, project, row["name"], row["runs"])) for project, row in rows]
    return [
        one
        for project, one in found
        if asked.has_record in (None, one.record is not None) and _fits(session, project, one, filters)
    ]


def _fits(session: Session, project: Project, record: Record, filters: Filters) -> bool:
    """Whether the experiment that holds the record, or the one that leads, fits."""
    if filters._replace(hardware_class=None).is_plain:
        return True
    ids = [one.experiment_id for one in (record.record, record.leader) if one and one.experiment_id is not None]
    of_class = filters._replace(project_id=project.id, hardware_class=record.hardware_class)
    return bool(keep_fitting(session, ids, of_class))


def view_classes(session: Session, project_name: str | None) -> list[HardwareClass]:
    """Hardware classes of a project, or of all, most runs first. Raises NotFoundError."""
    return [
        HardwareClass(
            project=project.name,
            effect_priors=list_priors(session, project, row["name"]),
            noise_is_assumed=find_model(session, projects.contract_of(project), project.id, row["name"]).is_assumed,
            **row,
        )
        for project, row in _list_classes(session, project_name)
    ]


def _list_classes(session: Session, project_name: str | None) -> Iterator[tuple[Project, dict[str, Any]]]:
    chosen = [projects.get_project(session, project_name)] if project_name else list_projects(session)
    for project in chosen:
        yield from ((project, row) for row in queries.list_classes(session, project.id))


def view_record(session: Session, project: Project, hardware_class: str, runs: int) -> Record:
    """The record of a class, beside the commit that leads it."""
    objective = projects.contract_of(project).objective
    leader = queries.find_best(session, project.id, hardware_class, verified=False)
    baseline = evidence.view_posterior(find_posterior(session, project.root_sha, hardware_class))
    titles = queries.find_titles(session, [leader.commit_sha] if leader else [])
    record = find_record(session, project, hardware_class, baseline)
    return Record(
        project=project.name,
        hardware_class=hardware_class,
        metric=objective.metric,
        direction=objective.direction,
        record=record,
        no_record="" if record else explain_missing(session, project, hardware_class),
        leader=view_commit(session, project, leader, titles),
        baseline=baseline,
        runs=runs,
    )


def find_record(
    session: Session, project: Project, hardware_class: str, baseline: Posterior | None
) -> RecordCommit | None:
    """The best verified commit of a class, with its published number and the newest promotions."""
    best = queries.find_best(session, project.id, hardware_class, verified=True)
    titles = queries.find_titles(session, [best.commit_sha] if best else [])
    record = view_commit(session, project, best, titles)
    if record is None:
        return None
    published = confirmations.view(session, project, hardware_class, record.sha, baseline)
    promoted = promotions.view_of_class(session, project, hardware_class)
    return record.model_copy(update={"confirmation": published, "promotions": promoted})


def explain_missing(session: Session, project: Project, hardware_class: str) -> str:
    """Why a class has no record, in a sentence."""
    members = queries.count_members(session, project.id, hardware_class)
    if members.volunteers <= CHECKERS:
        measured = "One volunteer" if members.volunteers == 1 else f"{members.volunteers} volunteers"
        return f"{measured} measured on this hardware. A record is checked by two others, one of them with an anchor."
    if not members.anchors and not projects.contract_of(project).evidence.vouched_verify:
        return "No anchor could measure on this hardware, so what volunteers agree on is corroborated at most."
    return "Nothing that was measured on this hardware is verified yet."


def view_commit(
    session: Session, project: Project, row: CommitPosterior | None, titles: dict[str, tuple[int, str]]
) -> RecordCommit | None:
    """A leading commit, with its gain over the root; `titles` are as `find_titles` returns them."""
    posterior = evidence.view_posterior(row)
    if row is None or posterior is None:
        return None
    experiment_id, title = titles.get(row.commit_sha, (None, queries.ROOT_TITLE))
    is_root = row.commit_sha == project.root_sha
    gain = None if is_root else find_difference(session, project.root_sha, row.commit_sha, row.hardware_class)
    return RecordCommit(
        sha=row.commit_sha, experiment_id=experiment_id, title=title, posterior=posterior, **columns_of(gain=gain)
    )


def find_commit(session: Session, text: str, project: Project | None = None) -> Commit:
    """The commit that a sha, at least four digits of one, or an experiment's number names: up to six decimal digits are
    a number. Raises NotFoundError, ShaAmbiguousError."""
    number = text.removeprefix("#")
    if number.isdecimal() and number.isascii() and len(number) <= MOST_NUMBER_DIGITS:
        made = queries.find_commit_of(session, int(number))
        if made is None or (project is not None and made.project_id != project.id):
            raise NotFoundError(f"{f'{project.name} has' if project else 'There is'} no experiment {int(number)}.")
        return made
    found = queries.find_commits(session, text.lower(), project.id if project else None)
    if not _SHA_OR_PREFIX.fullmatch(text.lower()) or not found:
        where = f"{project.name} has" if project else "There is"
        raise NotFoundError(f"{where} no commit {text}. Name it by four or more digits of its sha.")
    if len(found) > 1:
        raise ShaAmbiguousError(f"Several commits begin with {text}, for example {found[0].sha} and {found[1].sha}.")
    return found[0]


def view_lineage(
    session: Session, text: str, hardware_class: str | None, next_sha: str | None, limit: int
) -> Page[LineageStep]:
    """A commit and its ancestors, the nearest first, from `next_sha` on if given. Raises NotFoundError,
    ShaAmbiguousError, CursorInvalidError."""
    commit = find_commit(session, text)
    if next_sha is not None and commits.find_commit(session, commit.project_id, next_sha) is None:
        raise CursorInvalidError("Use the `next_cursor` of the page before, or none for the first page.")
    shas = commits.list_nearest(session, next_sha or commit.sha, limit + 1)
    steps = _view_steps(session, shas[:limit], hardware_class)
    return Page(items=steps, next_cursor=encode_sha_cursor(shas[limit]) if len(shas) > limit else None)


def _view_steps(session: Session, shas: Sequence[str], hardware_class: str | None) -> list[LineageStep]:
    rows = queries.list_steps(session, shas)
    posteriors = {(row.commit_sha, row.hardware_class): row for row in queries.list_posteriors(session, shas)}
    project = session.get_one(Project, rows[0].project_id).name
    classes = [hardware_class or row.hardware_class for row in rows]
    return [
        view_of(
            LineageStep, row, project=project, hardware_class=of_class,
            posterior=evidence.view_posterior(posteriors.get((row.sha, of_class or ""))),
        )
        for row, of_class in zip(rows, classes, strict=True)
    ]  # fmt: skip


def compare(session: Session, project_name: str | None, a: str, b: str) -> Comparison:
    """Two commits of a project, by default that of the first. Raises NotFoundError, ShaAmbiguousError."""
    chosen = projects.get_project(session, project_name) if project_name is not None else None
    one = find_commit(session, a, chosen)
    project = chosen or session.get_one(Project, one.project_id)
    other = find_commit(session, b, project)
    lost = next((commit for commit in (one, other) if not commit.has_code), None)
    files = [lineage.read_files(session, project.id, commit.sha) for commit in (one, other)] if lost is None else []
    titles = queries.find_titles(session, [one.sha, other.sha])
    return Comparison(
        project=project.name,
        a=one.sha,
        b=other.sha,
        a_experiment_id=titles.get(one.sha, (None,))[0],
        b_experiment_id=titles.get(other.sha, (None,))[0],
        common_ancestor=_find_common_ancestor(session, one, other),
        diff=lineage.diff_files(*files) if files else "",
        no_diff=lineage.explain_lost(lost.sha) if lost else "",
        classes=_compare_classes(session, one.sha, other.sha),
    )


def _find_common_ancestor(session: Session, one: Commit, other: Commit) -> str | None:
    """The nearest common ancestor; None where it is more than MAX_ANCESTOR_DISTANCE above the deeper commit.

    From equal depth both lines reach it after as many steps, so they are read in equal parts until they meet.
    """
    shallow, deep = sorted((one, other), key=lambda commit: commit.depth)
    distance = deep.depth - shallow.depth
    if distance > MAX_ANCESTOR_DISTANCE:
        return None
    at = [shallow.sha, commits.list_nearest(session, deep.sha, distance + 1)[-1]]
    while True:
        count = min(ANCESTORS_AT_ONCE, MAX_ANCESTOR_DISTANCE - distance + 1)
        lines = [commits.list_nearest(session, sha, count) for sha in at]
        common = next((sha for sha, match in zip(*lines, strict=True) if sha == match), None)
        distance += count
        if common is not None or len(lines[0]) < count or distance > MAX_ANCESTOR_DISTANCE:
            return common
        at = [str(commits.get_commit(session, line[-1]).parent_sha) for line in lines]


def _compare_classes(session: Session, a: str, b: str) -> list[ClassComparison]:
    stored = {(row.commit_sha, row.hardware_class): row for row in queries.list_posteriors(session, [a, b])}
    compared = []
    for name in dict.fromkeys(hardware_class for _, hardware_class in stored):
        one, other = (evidence.view_posterior(stored.get((sha, name))) for sha in (a, b))
        difference = columns_of(difference=find_difference(session, a, b, name))
        compared.append(ClassComparison(hardware_class=name, a=one, b=other, **difference))
    return compared
