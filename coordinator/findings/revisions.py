"""Changes of a finding after it was written: new words, notes, retraction. Nothing is ever removed.

A request is known by its key, so it may be sent again when its answer was lost.
"""

from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.accounts import service as accounts
from coordinator.events import service as activity
from coordinator.experiments import service as experiments
from coordinator.findings import paper_queries, papers, queries, semantic_index, service, state
from coordinator.findings.text_index import text_index_of
from coordinator.http.errors import NotFoundError, SwarmError
from coordinator.models import Experiment, Finding, FindingNote, FindingVersion
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


def revise(
    session: Session, similarity: Similarity, volunteer_id: int, finding_id: int, key: UUID, draft: FindingDraft
) -> FindingView:
    """Put new words in the place of a finding's, by its author. Raises NotFoundError, NotAllowedError."""
    if paper_queries.find_version_by_key(session, key) is not None:  # sent again because the answer was lost
        return experiments.view_finding(_require(queries.find_finding(session, finding_id), finding_id))
    finding = _require(queries.lock_finding(session, finding_id), finding_id)
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
    text_index_of(session).put(session, service.index_of(finding, experiment), is_new=False)
    semantic_index.forget(session, similarity, finding.id)
    activity.record(session, EventKind.FINDING_REVISED, finding.project_id, finding=finding.id, version=finding.version)
    return experiments.view_finding(finding)


def annotate(session: Session, volunteer_id: int, finding_id: int, key: UUID, kind: NoteKind, draft: NoteDraft) -> Note:
    """Write a note, a retraction or its taking back beside a finding.

    Maintainers may do all of that, a finding's author may retract it. Raises NotFoundError, NotAllowedError,
    FindingStateError.
    """
    known = paper_queries.find_note_by_key(session, key)
    if known is not None:  # sent again because the answer was lost
        return papers.view_note(*known)
    finding = _require(queries.lock_finding(session, finding_id), finding_id)
    _check_may(session, volunteer_id, finding, kind)
    try:
        finding.state = state.after_note(FindingState(finding.state), kind)
    except state.FindingTransitionError as error:
        raise FindingStateError(f"{error}.") from error
    note = FindingNote(
        finding_id=finding.id, volunteer_id=volunteer_id, kind=kind, text=draft.text, key=key, created_at=now()
    )
    session.add(note)
    session.flush()
    by = accounts.get_name(session, volunteer_id)
    activity.record(session, EventKind.FINDING_NOTED, finding.project_id, finding=finding.id, note=kind, by=by)
    written = paper_queries.find_note_by_key(session, key)
    assert written is not None
    return papers.view_note(*written)


def _check_may(session: Session, volunteer_id: int, finding: Finding, kind: NoteKind) -> None:
    is_maintainer = accounts.get_role(session, volunteer_id) is Role.MAINTAINER
    is_author = paper_queries.find_author(session, finding) == volunteer_id
    if is_maintainer or (is_author and kind is not NoteKind.NOTE):
        return
    if kind is NoteKind.NOTE:
        raise NotAllowedError("Notes beside findings are written by maintainers.")
    raise NotAllowedError("A finding is retracted by its author or by a maintainer.")


def _require(finding: Finding | None, finding_id: int) -> Finding:
    if finding is None:
        raise NotFoundError(f"There is no finding {finding_id}.")
    return finding
