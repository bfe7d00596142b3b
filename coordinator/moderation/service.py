"""Actions of people: each is checked, carried out and written into the audit log here, and taken back here.

Pages, the API and the command line call these functions. They raise NotAllowedError where the role of the actor has not
the permission, and NotFoundError for a subject that does not exist.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from coordinator.accounts import service as accounts
from coordinator.accounts.permissions import STAFF, Permission, check_role
from coordinator.db.locks import AdvisoryLock, lock_until_commit
from coordinator.events import audit
from coordinator.events.audit import Actor, State
from coordinator.evidence import held
from coordinator.findings import service as findings
from coordinator.http.errors import SwarmError
from coordinator.models import AuditEntry
from coordinator.moderation.subjects import LINK_OPEN, SUBJECTS, name_link
from coordinator.projects import service as projects
from shared.experiments import HeldDecisionKind
from shared.findings import FindingState
from shared.moderation import AuditAction, InvitationRequest, NewSecret, Profile, SubjectKind, TokenRequest
from shared.workers import Role, TokenScope

_A = AuditAction
_PERMITTED: Mapping[Permission, Sequence[AuditAction]] = {
    Permission.ADMINISTER: (
        _A.SET_ROLE, _A.SET_ANCHOR, _A.CREATE_TOKEN, _A.REVOKE_TOKEN, _A.LABEL_TOKEN, _A.CREATE_LINK,
        _A.VERIFY_BACKUP, _A.CHANGE_PROJECT, _A.CHANGE_PROFILE,
    ),
    Permission.SANCTION: (
        _A.SUSPEND, _A.UNSUSPEND, _A.QUARANTINE, _A.RELEASE, _A.PAUSE_WORKER, _A.RESUME_WORKER,
        _A.MESSAGE_WORKER,
    ),
    Permission.APPROVE: (_A.APPROVE_ACCOUNT, _A.CREATE_INVITATION, _A.REVOKE_INVITATION),
    Permission.WORK: (_A.CREATE_CODE,),
    Permission.DECIDE: (_A.DECIDE_HELD, _A.DISMISS, _A.ASSIGN),
    Permission.STEER: (
        _A.PAUSE_BRANCH, _A.RESUME_BRANCH, _A.APPROVE_BRANCH, _A.RENAME_BRANCH, _A.SHARE_BRANCH, _A.MOVE_BRANCH,
        _A.DELETE_BRANCH,
    ),
    Permission.ANNOTATE: (_A.RETRACT_FINDING, _A.RESTORE_FINDING, _A.RETRACT_PAPERS),
}  # fmt: skip
PERMISSIONS = {action: permission for permission, actions in _PERMITTED.items() for action in actions}


class NothingChangesError(SwarmError, status=409, title="It is like that already"):
    pass


class NotUndoableError(SwarmError, status=409, title="The action cannot be undone now"):
    """Only the newest state can be taken back: first undo what was done to the same subject since."""


def take_turn(session: Session, actor: Actor) -> None:
    """Wait until no other action of a person is under way. It comes before all that an action looks at, so that of two
    at once the second sees what the first did, whatever rows each changes. Raises NotAllowedError where that took the
    actor's duties away."""
    lock_until_commit(session, AdvisoryLock.ACTIONS)
    if actor.role in STAFF and actor.volunteer_id is not None:
        accounts.check_duties(session, actor.volunteer_id, actor.role)


def change(
    session: Session, actor: Actor, action: AuditAction, subject: SubjectKind, key: str, changes: State, reason: str
) -> AuditEntry:
    """Give a subject other values. Raises NothingChangesError where it has them."""
    check_role(actor.role, PERMISSIONS[action])
    return _change(session, actor, action, subject, key, changes, reason)


def _change(
    session: Session, actor: Actor, action: AuditAction, subject: SubjectKind, key: str, changes: State, reason: str
) -> AuditEntry:
    take_turn(session, actor)
    before = _read(session, subject, key, changes)
    if before == changes:
        raise NothingChangesError(f"The {subject} {key} is like that already.")
    SUBJECTS[subject].write(session, key, changes, actor, reason)
    return audit.record(session, actor, action, subject, key, reason, before, changes)


def undo(session: Session, actor: Actor, entry_id: int, reason: str) -> AuditEntry:
    """Take an action back: its subject gets the values from before. Raises NotUndoableError where it was taken back
    already, or has other values by now."""
    take_turn(session, actor)
    entry = audit.lock_entry(session, entry_id)
    action, subject = AuditAction(entry.action), SubjectKind(entry.subject)
    check_role(actor.role, PERMISSIONS[action])
    if undone := audit.map_undone(session, [entry.id]):
        raise NotUndoableError(f"Entry {undone[entry.id]} took it back.")
    if entry.before is None or entry.after is None:
        raise NotUndoableError("It changed nothing that stands.")
    if _read(session, subject, entry.key, entry.after) != entry.after:
        raise NotUndoableError(f"The {subject} {entry.key} was changed since.")
    SUBJECTS[subject].write(session, entry.key, entry.before, actor, reason)
    return audit.record(
        session, actor, action, subject, entry.key, reason, entry.after, entry.before, undoes_id=entry.id
    )


def _read(session: Session, subject: SubjectKind, key: str, names: State) -> State:
    """The subject's values of these names."""
    state = SUBJECTS[subject].read(session, key)
    return {name: state.get(name) for name in names}  # a link that was used or ended has none


def set_role(session: Session, actor: Actor, name: str, role: Role, reason: str) -> AuditEntry:
    return change(session, actor, AuditAction.SET_ROLE, SubjectKind.ACCOUNT, name, {"role": role}, reason)


def set_suspension(session: Session, actor: Actor, name: str, reason: str, *, is_on: bool) -> AuditEntry:
    """Refuse all requests of an account, or no longer."""
    action = AuditAction.SUSPEND if is_on else AuditAction.UNSUSPEND
    changes = {"suspension": reason if is_on else None}
    return change(session, actor, action, SubjectKind.ACCOUNT, name, changes, reason)


def approve_account(session: Session, actor: Actor, name: str, reason: str) -> AuditEntry:
    """Let an account in that waits for it."""
    changes = {"is_pending": False, "is_approved": True}
    return change(session, actor, AuditAction.APPROVE_ACCOUNT, SubjectKind.ACCOUNT, name, changes, reason)


def change_profile(session: Session, actor: Actor, name: str, asked: Profile) -> AuditEntry:
    """Let one's own or another account stand on the leaderboard, and its owner be named in citations, or not."""
    action = AuditAction.CHANGE_PROFILE
    check_role(actor.role, Permission.WORK if name == actor.name else PERMISSIONS[action])
    listing = {} if asked.is_listed is None else {"is_unlisted": not asked.is_listed}
    changes = listing if asked.cited_as is None else listing | {"cited_as": asked.cited_as or None}
    return _change(session, actor, action, SubjectKind.ACCOUNT, name, changes, asked.reason)


def set_quarantine(
    session: Session, actor: Actor, name: str, worker: str | None, reason: str, *, is_on: bool
) -> AuditEntry:
    """Stop all writes of an account or of one of its workers, and leave its runs and papers out; or no longer."""
    action = AuditAction.QUARANTINE if is_on else AuditAction.RELEASE
    subject = SubjectKind.ACCOUNT if worker is None else SubjectKind.WORKER
    key = name if worker is None else f"{name}/{worker}"
    return change(session, actor, action, subject, key, {"quarantine": reason if is_on else None}, reason)


def set_retraction(session: Session, actor: Actor, finding_id: int, reason: str, *, is_on: bool) -> AuditEntry:
    """Retract a finding, or restore it. Raises FindingStateError."""
    action = AuditAction.RETRACT_FINDING if is_on else AuditAction.RESTORE_FINDING
    state = FindingState.RETRACTED if is_on else FindingState.PUBLISHED
    return change(session, actor, action, SubjectKind.FINDING, str(finding_id), {"state": state.value}, reason)


def retract_papers(session: Session, actor: Actor, name: str, reason: str) -> AuditEntry:
    """Retract the published papers of an account, at most the 1,000 newest; undoing it restores the same ones. Raises
    NothingChangesError where there is none."""
    check_role(actor.role, PERMISSIONS[AuditAction.RETRACT_PAPERS])
    take_turn(session, actor)
    ids = findings.list_published(session, accounts.get_account(session, name).id)
    if not ids:
        raise NothingChangesError(f"{name} has no published paper.")
    changes = {str(finding_id): FindingState.RETRACTED.value for finding_id in ids}
    return change(session, actor, AuditAction.RETRACT_PAPERS, SubjectKind.PAPERS, name, changes, reason)


def set_anchor(session: Session, actor: Actor, name: str, worker: str, reason: str, *, is_anchor: bool) -> AuditEntry:
    """Trust a worker to verify what others found, or no longer."""
    changes = {"is_anchor": is_anchor}
    return change(session, actor, AuditAction.SET_ANCHOR, SubjectKind.WORKER, f"{name}/{worker}", changes, reason)


def set_pause(session: Session, actor: Actor, name: str, worker: str, reason: str, *, is_on: bool) -> AuditEntry:
    """Give a worker no jobs, and show it the reason; or give it jobs again. What it holds it may finish."""
    action = AuditAction.PAUSE_WORKER if is_on else AuditAction.RESUME_WORKER
    changes = {"pause": reason if is_on else None}
    return change(session, actor, action, SubjectKind.WORKER, f"{name}/{worker}", changes, reason)


def send_message(session: Session, actor: Actor, name: str, worker: str, text: str) -> AuditEntry:
    """Show a message in a worker's terminal, once; it is its own reason. Undoing it takes back what was not shown."""
    changes, key = {"message": text}, f"{name}/{worker}"
    return change(session, actor, AuditAction.MESSAGE_WORKER, SubjectKind.WORKER, key, changes, text)


def create_token(
    session: Session, actor: Actor, name: str, asked: TokenRequest, *, is_new: bool = False,
    made_with_id: int | None = None,
) -> NewSecret:  # fmt: skip
    """Make a worker's token of one's own or another account, which may be `is_new`; its label is the reason.
    Raises NameInvalidError."""
    if name != actor.name:
        check_role(actor.role, PERMISSIONS[AuditAction.CREATE_TOKEN])
        take_turn(session, actor)
    account = accounts.find_or_add_account(session, name) if is_new else accounts.get_account(session, name)
    row, token = accounts.add_token(session, account, asked.label, TokenScope.WORK, asked.days, made_with_id)
    action, values = AuditAction.CREATE_TOKEN, ({"is_revoked": True}, {"is_revoked": False})
    audit.record(session, actor, action, SubjectKind.TOKEN, str(row.id), f"For {name}: {asked.label}", *values)
    return NewSecret(id=row.id, secret=token)


def revoke_token(session: Session, actor: Actor, token_id: int, reason: str, *, alone: bool = False) -> AuditEntry:
    """Make a token invalid at once and, unless it goes `alone`, those that were made with it: whoever stole it may have
    made them. Its account's own people may do so, too."""
    action = AuditAction.REVOKE_TOKEN
    done = _change_token(session, actor, action, token_id, {"is_revoked": True}, reason)
    for made in [] if alone else accounts.list_made_with(session, token_id):
        why = f"It was made with token {token_id}, which was revoked."
        _change_token(session, actor, action, made, {"is_revoked": True}, why)
    return done


def label_token(session: Session, actor: Actor, token_id: int, label: str) -> AuditEntry:
    """Say in other words what a token is for; they are the reason. Its account's own people may do so, too."""
    return _change_token(session, actor, AuditAction.LABEL_TOKEN, token_id, {"label": label}, label)


def _change_token(
    session: Session, actor: Actor, action: AuditAction, token_id: int, changes: State, reason: str
) -> AuditEntry:
    take_turn(session, actor)
    owner = SUBJECTS[SubjectKind.TOKEN].read(session, str(token_id))["account"]
    check_role(actor.role, Permission.WORK if owner == actor.name else PERMISSIONS[action])
    return _change(session, actor, action, SubjectKind.TOKEN, str(token_id), changes, reason)


def create_code(session: Session, actor: Actor, made_with_id: int | None = None) -> NewSecret:
    """Make a code by which another machine of one's own logs in, once, within minutes."""
    check_role(actor.role, PERMISSIONS[AuditAction.CREATE_CODE])
    row, code = accounts.create_code(session, accounts.get_account(session, actor.name).id, made_with_id)
    why, values = "For another machine of one's own.", _open_link(row.id)
    audit.record(session, actor, AuditAction.CREATE_CODE, SubjectKind.ACCOUNT, actor.name, why, *values)
    return NewSecret(id=row.id, secret=code)


def create_link(session: Session, actor: Actor, name: str, reason: str) -> NewSecret:
    """Make a sign-in link for an account: a secret that signs it in once, within a day."""
    check_role(actor.role, PERMISSIONS[AuditAction.CREATE_LINK])
    take_turn(session, actor)
    row, secret = accounts.create_link(session, accounts.get_account(session, name))
    values = _open_link(row.id)
    audit.record(session, actor, AuditAction.CREATE_LINK, SubjectKind.ACCOUNT, name, reason, *values)
    return NewSecret(id=row.id, secret=secret)


def _open_link(link_id: int) -> tuple[State, State]:
    """The values of a link before and after it is made; undoing ends it, while nobody used it."""
    return {name_link(link_id): None}, {name_link(link_id): LINK_OPEN}


def create_maintainer(session: Session, actor: Actor, name: str, reason: str) -> str:
    """Make an account a maintainer, and the account if need be; returns a sign-in link's secret.
    Raises NameInvalidError."""
    check_role(actor.role, PERMISSIONS[AuditAction.SET_ROLE])
    take_turn(session, actor)
    if accounts.find_or_add_account(session, name).role != Role.MAINTAINER:
        set_role(session, actor, name, Role.MAINTAINER, reason)
    return create_link(session, actor, name, reason).secret


def create_invitation(session: Session, actor: Actor, asked: InvitationRequest) -> NewSecret:
    """Make an invitation for some accounts and days."""
    check_role(actor.role, PERMISSIONS[AuditAction.CREATE_INVITATION])
    take_turn(session, actor)
    row, secret = accounts.create_invitation(session, actor.name, asked.uses, asked.days)
    values = {"is_revoked": True}, {"is_revoked": False}
    action = AuditAction.CREATE_INVITATION
    audit.record(session, actor, action, SubjectKind.INVITATION, str(row.id), asked.reason, *values)
    return NewSecret(id=row.id, secret=secret)


def revoke_invitation(session: Session, actor: Actor, invitation_id: int, reason: str) -> AuditEntry:
    """End an invitation. Accounts that were made with it stay."""
    changes, key = {"is_revoked": True}, str(invitation_id)
    return change(session, actor, AuditAction.REVOKE_INVITATION, SubjectKind.INVITATION, key, changes, reason)


def decide_held(
    session: Session, actor: Actor, project: str, sha: str, hardware_class: str, decision: HeldDecisionKind | None,
    reason: str,
) -> AuditEntry:  # fmt: skip
    """Decide on a result that is held; None takes a decision back. Raises NotHeldError, and AlreadyDecidedError where
    a decision stands: of several maintainers at once the first decides."""
    check_role(actor.role, PERMISSIONS[AuditAction.DECIDE_HELD])
    take_turn(session, actor)
    held.check_decidable(session, projects.get_project(session, project), sha, hardware_class)
    if decision is not None:
        held.check_undecided(session, sha, hardware_class)
    key, changes = f"{project}/{sha}/{hardware_class}", {"decision": decision}
    return change(session, actor, AuditAction.DECIDE_HELD, SubjectKind.HELD, key, changes, reason)
