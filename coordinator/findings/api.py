"""Findings over HTTP: lists, papers, search, and "has this been tried?"."""

from typing import Annotated, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, status

from coordinator.accounts.permissions import Permission
from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authenticate, authorize, may
from coordinator.db.database import ReadSession, WriteSession
from coordinator.experiments.filters import AskedOrder, FilterQuery, Filters, Name
from coordinator.findings import papers, prior_work, revisions, search, service, topics
from coordinator.findings.topics import TopicQuery
from coordinator.http.pagination import GivenCursor, Limit, RowId
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.models import Project
from coordinator.novelty.similarity import CurrentSimilarity
from coordinator.projects import service as projects
from shared.findings import (
    FindingDraft,
    FindingSummary,
    FindingView,
    Note,
    NoteDraft,
    NoteKind,
    Paper,
    Question,
    SearchPage,
    Tried,
)
from shared.protocol import API_PREFIX, Page, Slug
from shared.topics import Topic, TopicSummary

router = APIRouter(prefix=API_PREFIX, tags=["findings"], dependencies=KNOWN_ONLY)

Key = Annotated[
    UUID, Header(alias="Idempotency-Key", description="drawn anew for each change, kept when it is sent again")
]
TopicName = Annotated[str, Path(min_length=1, max_length=80, description="an axis as it stands in addresses")]
VersionNumber = Annotated[int, Path(ge=1, le=10_000)]


class FindingQuery(FilterQuery):
    """The filters of lists and searches of findings, as they stand in addresses."""

    project: Slug | None = None
    tag: Name = None
    with_retracted: Annotated[bool, Query(description="retracted findings, too")] = False


class FindingsAsked(NamedTuple):
    """The project that is named, if one is, and the filters."""

    project: Project | None
    filters: Filters


def _read_filters(session: ReadSession, given: Annotated[FindingQuery, Query()]) -> FindingsAsked:
    project = projects.get_project(session, given.project) if given.project else None
    return FindingsAsked(project, given.to_filters(project_id=project.id if project else None))


Asked = Annotated[FindingsAsked, Depends(_read_filters)]
Words = Annotated[str, Query(min_length=1, max_length=1_000, description="a few words, or a sentence")]
HitLimit = Annotated[int, Query(ge=1, le=100, description="findings at most")]


@router.get("/findings")
def list_findings(
    session: ReadSession, asked: Asked, order: AskedOrder, cursor: GivenCursor = None, limit: Limit = 50
) -> Page[FindingSummary]:
    """Findings, newest first unless another order is asked for.

    Where every filter alone fits more than 2,000, a page may be short; `next_cursor` goes on.
    """
    return service.view_page(session, *asked, order, cursor, limit)


@router.get("/findings/search")
def search_findings(
    session: ReadSession, similarity: CurrentSimilarity, asked: Asked, q: Words, limit: HitLimit = 20
) -> SearchPage:
    """The findings that answer a few words best, by their words and by their meaning."""
    return search.view_page(session, similarity, q, asked.filters, limit)


@router.get("/topics", tags=["topics"])
def list_topics(
    project: Slug,
    session: ReadSession,
    asked: Annotated[TopicQuery, Query()],
    cursor: GivenCursor = None,
    limit: Limit = 50,
) -> Page[TopicSummary]:
    """The axes along which a project was explored, that of the newest experiment first by default. By the filters of
    experiments those are listed that have one which fits; where many fit each filter alone, among the newest."""
    return topics.list_sorted(session, projects.get_project(session, project), asked, cursor, limit)


@router.get("/topics/{project}/{slug}", tags=["topics"])
def read_topic(project: Slug, slug: TopicName, session: ReadSession) -> Topic:
    """All that is known along an axis: effects, findings for and against, untested values, open follow-ups."""
    return topics.view_topic(session, projects.get_project(session, project), slug)


@router.post("/findings/tried")
def ask_whether_tried(session: ReadSession, similarity: CurrentSimilarity, question: Question) -> Tried:
    """Has this been tried? Asked with a sentence, or with a diff."""
    return prior_work.answer(session, similarity, projects.get_project(session, question.project), question)


@router.get("/findings/{finding_id}")
def read_finding(finding_id: RowId, session: ReadSession, token: BearerToken) -> Paper:
    """One finding with its evidence as of now. Moderators and maintainers also see one that is hidden."""
    return papers.view_paper(session, finding_id, with_hidden=may(session, token, Permission.LOOK))


@router.get("/findings/{finding_id}/versions/{number}")
def read_version(finding_id: RowId, number: VersionNumber, session: ReadSession, token: BearerToken) -> FindingView:
    """A finding's words in one of their versions."""
    return papers.view_words(session, finding_id, number, with_hidden=may(session, token, Permission.LOOK))


@router.post("/findings/{finding_id}/versions", status_code=status.HTTP_201_CREATED)
def revise_finding(
    finding_id: RowId,
    draft: FindingDraft,
    key: Key,
    token: BearerToken,
    session: WriteSession,
    similarity: CurrentSimilarity,
) -> FindingView:
    """Put other words in the place of a finding's, by its author. Those before stay readable."""
    return revisions.revise(session, similarity, authenticate(session, token), finding_id, key, draft)


@router.post("/findings/{finding_id}/notes", status_code=status.HTTP_201_CREATED)
def add_note(finding_id: RowId, draft: NoteDraft, key: Key, token: BearerToken, session: WriteSession) -> Note:
    """Write a note beside a finding, as a maintainer."""
    caller = authorize(session, token, Permission.WORK)
    return revisions.annotate(session, caller, finding_id, key, NoteKind.NOTE, draft)


@router.post("/findings/{finding_id}/retraction", status_code=status.HTTP_201_CREATED)
def retract_finding(finding_id: RowId, draft: NoteDraft, key: Key, token: BearerToken, session: WriteSession) -> Note:
    """Retract a finding, with a reason. It stays readable; searches and context packs leave it out."""
    caller = authorize(session, token, Permission.WORK)
    return revisions.annotate(session, caller, finding_id, key, NoteKind.RETRACTION, draft)


@router.post("/findings/{finding_id}/restoration", status_code=status.HTTP_201_CREATED)
def restore_finding(finding_id: RowId, draft: NoteDraft, key: Key, token: BearerToken, session: WriteSession) -> Note:
    """Take a retraction back, with a reason."""
    caller = authorize(session, token, Permission.WORK)
    return revisions.annotate(session, caller, finding_id, key, NoteKind.RESTORATION, draft)
