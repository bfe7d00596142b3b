"""Changes of a finding after it was written: new words, notes, retraction. Nothing is ever removed.

A request is known by its key, so it may be sent again when its answer was lost.
"""

from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from coordinator.accounts.permissions import ALLOWED, Caller, NotAllowedError, Permission, check
from coordinator.events import audit, history
from coordinator.events import service as events
from coordinator.events.audit import Actor
from coordinator.experiments.text_index import text_index_of
from coordinator.findings import paper_queries, papers, queries, service
from coordinator.findings.semantic_index import SUBJECT, describe
from coordinator.findings.typed_numbers import MeasuredResult, replace_results
from coordinator.http.errors import SwarmError, must_find
from coordinator.models import Experiment, Finding, FindingNote, FindingVersion, Volunteer, view_of
from coordinator.novelty.similarity import Similarity
from shared.events import EventKind
from shared.findings import FindingDraft, FindingState, FindingView, Note, NoteDraft, NoteKind
from shared.history import LeafKind
from shared.moderation import ActionSource, AuditAction, SubjectKind
from shared.protocol import now
from shared.workers import Role


class FindingStateError(SwarmError, status=409, title="The finding's state does not allow that"):
    pass


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
        return papers.view_words(session, finding_id, with_hidden=True)
    finding = _lock_finding(session, finding_id)
    if paper_queries.find_author(session, finding) != volunteer_id:
        raise NotAllowedError("Only the volunteer whose worker left a finding can give it other words.")
    before = view_of(FindingView, finding).model_dump(mode="json")
    session.add(FindingVersion(finding_id=finding.id, number=finding.version, words=before, key=key, replaced_at=now()))
    experiment = session.get_one(Experiment, finding.experiment_id)
    draft = replace_results(draft, experiment, _list_measured(session, finding_id))
    for name, value in draft.model_dump().items():
        setattr(finding, name, value)
    finding.version += 1
    session.flush()
    history.enter(session, finding.project_id, LeafKind.PAPER, finding.id, finding.version)
    queries.remove_tags(session, finding.id)
    queries.add_tags(session, finding.id, dict.fromkeys(draft.tags))
    indexed = service.index_of(finding.id, finding.project_id, finding, experiment)
    text_index_of(session).put(session, indexed, is_new=False)
    similarity.forget(session, SUBJECT, str(finding.id))
    similarity.defer(session, finding.project_id, SUBJECT, str(finding.id), describe(finding, experiment))
    events.record(session, EventKind.FINDING_REVISED, finding.project_id, finding=finding.id, version=finding.version)
    return papers.view_words(session, finding_id, with_hidden=True)


def _list_measured(session: Session, finding_id: int) -> MeasuredResult:
    """The results that an author could know: as of now, and of the first run."""
    row = papers.get_row(session, finding_id)
    now_known, metric = row.posterior, paper_queries.find_first_metric(session, row.experiment.id)
    if now_known is None or now_known.effect_mean is None:
        return MeasuredResult((metric,), None, (), 0.0)
    parent = now_known.metric_mean - now_known.effect_mean
    effects = [now_known.effect_mean, row.finding.written_effect_mean, None if metric is None else metric - parent]
    known = tuple(one for one in effects if one is not None)
    return MeasuredResult((metric, now_known.metric_mean), parent, known, now_known.effect_sd or 0.0)


def annotate(
    session: Session, caller: Caller, finding_id: int, key: UUID, kind: NoteKind, draft: NoteDraft,
    source: ActionSource = ActionSource.API,
) -> Note:  # fmt: skip
    """Add a note, a retraction or a restoration to a finding. Raises NotFoundError, NotAllowedError, FindingStateError.

    Moderators and maintainers may do all of that. A finding's author may retract it, and take that back.
    """
    known = paper_queries.find_note_by_key(session, key)
    if known is not None:  # sent again because the answer was lost
        return papers.view_note(*known)
    finding = _lock_finding(session, finding_id)
    _check_may(session, caller, finding, kind)
    before = finding.state
    change_state(session, finding, kind, caller.name)
    if finding.state != before:
        action = AuditAction.RETRACT_FINDING if kind == NoteKind.RETRACTION else AuditAction.RESTORE_FINDING
        states = {"state": before}, {"state": finding.state}
        actor = Actor(caller.name, caller.id, Role(caller.role), source)
        audit.record(session, actor, action, SubjectKind.FINDING, str(finding.id), draft.text, *states)
    note = add_note(session, finding.id, caller.id, kind, draft.text, key)
    return papers.view_note(note, session.get_one(Volunteer, caller.id))


def change_state(session: Session, finding: Finding, kind: NoteKind, by: str) -> None:
    """Bring a finding into the state that a note gives it. Raises FindingStateError."""
    state = FindingState(finding.state)
    before, after = _CHANGES.get(kind, (state, state))
    if state is not before:
        raise FindingStateError(f"A finding that is {state} takes no {kind}.")
    finding.state = after
    session.flush()
    events.record(session, EventKind.FINDING_NOTED, finding.project_id, finding=finding.id, note=kind, by=by)


def add_note(
    session: Session, finding_id: int, volunteer_id: int, kind: NoteKind, text: str, key: UUID | None = None
) -> FindingNote:
    note = FindingNote(
        finding_id=finding_id, volunteer_id=volunteer_id, kind=kind, text=text, key=key or uuid4(), created_at=now()
    )
    session.add(note)
    session.flush()
    history.enter(session, session.get_one(Finding, finding_id).project_id, LeafKind.NOTE, note.id)
    return note


def _check_may(session: Session, caller: Caller, finding: Finding, kind: NoteKind) -> None:
    if paper_queries.find_author(session, finding) == caller.id and kind != NoteKind.NOTE:
        is_taken_back = kind == NoteKind.RESTORATION and finding.state == FindingState.RETRACTED
        if not is_taken_back or paper_queries.find_last_retractor(session, finding.id) == caller.id:
            return
        if caller.role not in ALLOWED[Permission.ANNOTATE]:
            raise NotAllowedError("A maintainer retracted this finding; only a maintainer takes that back.")
    check(caller, Permission.ANNOTATE)


def _lock_finding(session: Session, finding_id: int) -> Finding:
    return must_find(queries.lock_finding(session, finding_id), f"There is no finding {finding_id}.")
