"""Changes of a finding after it was written: new words, notes, retraction. Nothing is ever removed.

A request is known by its key, so it may be sent again when its answer was lost.
"""

from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.accounts import service as accounts
from coordinator.events import service as events
from coordinator.experiments import service as experiments
from coordinator.findings import paper_queries, papers, queries, service
from coordinator.findings.semantic_index import SUBJECT, describe
from coordinator.findings.text_index import text_index_of
from coordinator.http.errors import NotFoundError, SwarmError
from coordinator.models import Experiment, Finding, FindingNote, FindingVersion, Volunteer
from coordinator.novelty.similarity import Similarity
from shared.events import EventKind
from shared.findings import FindingDraft, FindingState, FindingView, Note, NoteDraft, NoteKind
from shared.protocol import now
from shared.workers import Role


class NotAllowedError(SwarmError):
    status = 403
    code = "not-allowed"
    title = "This account may not do that"


class FindingStateError(SwarmError):
    status = 409
    code = "finding-state"
    title = "The finding's state does not allow that"


_CHANGES = {
    NoteKind.RETRACTION: (FindingState.PUBLISHED, FindingState.RETRACTED),
    NoteKind.RESTORATION: (FindingState.RETRACTED, FindingState.PUBLISHED),
}
"""The state of a finding before and after a note; other notes leave it as it is."""


def revise(
    session: Session, similarity: Similarity, volunteer_id: int, finding_id: int, key: UUID, draft: FindingDraft
) -> FindingView:
    """Put new words in the place of a finding's, by its author. Raises NotFoundError, NotAllowedError."""
    if paper_queries.find_version_by_key(session, key) is not None:  # sent again because the answer was lost
        return experiments.view_finding(papers.get_row(session, finding_id).finding)
    finding = _lock_finding(session, finding_id)
    if paper_queries.find_author(session, finding) != volunteer_id:
        raise NotAllowedError("Only the volunteer whose worker left a finding can give it other words.")
    before = experiments.view_finding(finding).model_dump(mode="json")
    session.add(FindingVersion(finding_id=finding.id, number=finding.version, words=before, key=key, replaced_at=now()))
    for name, value in draft.model_dump().items():
        setattr(finding, name, value)
    finding.version += 1
    session.flush()
    queries.remove_tags(session, finding.id)
    queries.add_tags(session, finding.id, dict.fromkeys(draft.tags))
    experiment = session.get_one(Experiment, finding.experiment_id)
    indexed = service.index_of(finding.id, finding.project_id, finding, experiment)
    text_index_of(session).put(session, indexed, is_new=False)
    similarity.forget(session, SUBJECT, str(finding.id))
    similarity.defer(session, finding.project_id, SUBJECT, str(finding.id), describe(finding, experiment))
    events.record(session, EventKind.FINDING_REVISED, finding.project_id, finding=finding.id, version=finding.version)
    return experiments.view_finding(finding)


def annotate(session: Session, volunteer_id: int, finding_id: int, key: UUID, kind: NoteKind, draft: NoteDraft) -> Note:
    """Add a note, a retraction or a restoration to a finding. Raises NotFoundError, NotAllowedError, FindingStateError.

    Maintainers may do all of that, a finding's author may retract and restore it.
    """
    known = paper_queries.find_note_by_key(session, key)
    if known is not None:  # sent again because the answer was lost
        return papers.view_note(*known)
    finding = _lock_finding(session, finding_id)
    _check_may(session, volunteer_id, finding, kind)
    finding.state = _change_state(FindingState(finding.state), kind)
    note = FindingNote(
        finding_id=finding.id, volunteer_id=volunteer_id, kind=kind, text=draft.text, key=key, created_at=now()
    )
    session.add(note)
    session.flush()
    author = session.get_one(Volunteer, volunteer_id)
    events.record(session, EventKind.FINDING_NOTED, finding.project_id, finding=finding.id, note=kind, by=author.name)
    return papers.view_note(note, author)


def _change_state(state: FindingState, kind: NoteKind) -> FindingState:
    """The state of a finding after a note. Raises FindingStateError."""
    before, after = _CHANGES.get(kind, (state, state))
    if state is not before:
        raise FindingStateError(f"A finding that is {state} takes no {kind}.")
    return after


def _check_may(session: Session, volunteer_id: int, finding: Finding, kind: NoteKind) -> None:
    is_maintainer = accounts.get_role(session, volunteer_id) is Role.MAINTAINER
    is_author = paper_queries.find_author(session, finding) == volunteer_id
    if is_maintainer or (is_author and kind is not NoteKind.NOTE):
        return
    if kind is NoteKind.NOTE:
        raise NotAllowedError("Notes beside findings are written by maintainers.")
    raise NotAllowedError("A finding is retracted by its author or by a maintainer.")


def _lock_finding(session: Session, finding_id: int) -> Finding:
    finding = queries.lock_finding(session, finding_id)
    if finding is None:
        raise NotFoundError(f"There is no finding {finding_id}.")
    return finding
