"""Records, lineage, comparisons and hardware classes over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from coordinator.db.database import ReadSession
from coordinator.http.pagination import Limit, ShaCursor
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.projects import service as projects
from coordinator.records import contributions, digest, progress, service
from shared.digests import Digest, DigestSummary, Week
from shared.protocol import API_PREFIX, MAX_COUNT, Page, Slug
from shared.records import Comparison, HardwareClass, LineageStep, ProjectProgress, Record
from shared.workers import Leaderboard, LeaderboardOrder, LeaderboardPeriod

router = APIRouter(prefix=API_PREFIX, tags=["records"], dependencies=KNOWN_ONLY)

RunNumber = Annotated[int, Field(ge=1, le=MAX_COUNT)]
COMMIT_WORDS = "a sha, at least four digits of one, or an experiment's number"
CommitName = Annotated[str, Query(min_length=1, max_length=40, description=COMMIT_WORDS)]
ComparedProject = Annotated[Slug | None, Query(description="default: that of `a`")]
OptionalProject = Annotated[Slug | None, Query(description="default: all")]


@router.get("/records")
def list_records(session: ReadSession, asked: Annotated[service.RecordQuery, Query()]) -> Page[Record]:
    """The best verified commit of a project in each hardware class, and the one that leads provisionally. The filters
    of experiments are on these two: one of them must fit. Of at most 200 classes, those with
    most runs unless another order is asked for: name a project, a class or dates."""
    return Page(items=service.view_records(session, asked))


@router.get("/hardware-classes")
def list_hardware_classes(session: ReadSession, project: OptionalProject = None) -> Page[HardwareClass]:
    """The hardware classes of projects' runs; only runs of one class are compared."""
    return Page(items=service.view_classes(session, project))


@router.get("/leaderboard", tags=["volunteers"])
def read_leaderboard(
    session: ReadSession,
    period: LeaderboardPeriod = LeaderboardPeriod.MONTH,
    order: LeaderboardOrder = LeaderboardOrder.GAIN,
    project: OptionalProject = None,
) -> Leaderboard:
    """The 100 volunteers who contributed most: verified gain, replications, hours."""
    chosen = projects.get_project(session, project) if project else None
    return contributions.view_leaderboard(session, period, order, chosen)


@router.get("/lineage/{sha}")
def read_lineage(
    sha: Annotated[str, Path(min_length=1, max_length=40, description=COMMIT_WORDS)],
    session: ReadSession,
    hardware_class: Annotated[str | None, Query(max_length=200, description="default: of each one's first run")] = None,
    cursor: ShaCursor = None,
    limit: Limit = 50,
) -> Page[LineageStep]:
    """A commit and its ancestors up to the root, the nearest first."""
    return service.view_lineage(session, sha, hardware_class, cursor, limit)


@router.get("/compare")
def compare_commits(a: CommitName, b: CommitName, session: ReadSession, project: ComparedProject = None) -> Comparison:
    """Two commits: the diff from `a` to `b`, and in each hardware class how much better or worse `b` is."""
    return service.compare(session, project, a, b)


@router.get("/projects/{name}/progress", tags=["projects"])
def read_progress(
    name: Slug,
    session: ReadSession,
    hardware_class: Annotated[
        str | None, Query(max_length=200, description="default: the one with the most runs")
    ] = None,
    first: Annotated[RunNumber, Query(description="the first run of the range, counted from 1 in the class")] = 1,
    last: Annotated[RunNumber | None, Query(description="the last run of the range; default: the newest")] = None,
) -> ProjectProgress:
    """Progress in one hardware class: all its history, or a range of it, in at most 600 bins or single runs."""
    return progress.view_progress(session, projects.get_project(session, name), hardware_class, first, last)


@router.get("/projects/{name}/digests", tags=["projects"])
def list_digests(name: Slug, session: ReadSession) -> Page[DigestSummary]:
    """The newest weeks in which a project had runs, at most 200."""
    return Page(items=digest.list_weeks(session, projects.get_project(session, name)))


@router.get("/projects/{name}/digests/{week}", tags=["projects"])
def read_digest(name: Slug, week: Week, session: ReadSession) -> Digest:
    """A digest of an ISO week, as `2026-W48`. It stays as it is once the week is over."""
    return digest.get_digest(session, projects.get_project(session, name), week)
