"""Duties of maintainers and moderators: decisions with a reason, the audit log that keeps them, and the queue of what
waits for them.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StringConstraints

from shared.contract import Share
from shared.experiments import HeldDecisionKind, JobKind, Posterior
from shared.projects import DataLicence, Members, Notice, ProjectJoining, ProjectMode, Weight
from shared.protocol import CLEAN, Count, Message, Number, Page, Secret, Sha, ShortText, Slug, Text, Timestamp
from shared.workers import MessageText, Role, TokenScope

MAX_DAYS = 3650

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=1000), CLEAN]
"""The reason of an action, for the audit log and for those whom it concerns."""

CitedName = Annotated[str, StringConstraints(strip_whitespace=True, max_length=120), CLEAN]
Days = Annotated[StrictInt, Field(ge=1, le=MAX_DAYS)]
Uses = Annotated[StrictInt, Field(ge=1, le=10_000)]
AuditValue = StrictBool | Count | Number | Text | None


class AuditAction(StrEnum):
    SET_ROLE = "set-role"
    SUSPEND = "suspend"
    UNSUSPEND = "unsuspend"
    APPROVE_ACCOUNT = "approve-account"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    SET_ANCHOR = "set-anchor"
    PAUSE_WORKER = "pause-worker"
    RESUME_WORKER = "resume-worker"
    CREATE_TOKEN = "create-token"  # noqa: S105  the name of an action
    REVOKE_TOKEN = "revoke-token"  # noqa: S105  likewise
    LABEL_TOKEN = "label-token"  # noqa: S105  likewise
    CREATE_CODE = "create-login-code"
    CREATE_LINK = "create-sign-in-link"
    CREATE_INVITATION = "create-invitation"
    REVOKE_INVITATION = "revoke-invitation"
    DECIDE_HELD = "decide-held"
    PAUSE_BRANCH = "pause-branch"
    RESUME_BRANCH = "resume-branch"
    APPROVE_BRANCH = "approve-branch"
    RENAME_BRANCH = "rename-branch"
    SHARE_BRANCH = "share-branch"
    MOVE_BRANCH = "move-branch"
    DELETE_BRANCH = "delete-branch"
    RETRACT_FINDING = "retract-finding"
    RESTORE_FINDING = "restore-finding"
    RETRACT_PAPERS = "retract-papers"
    DISMISS = "dismiss"
    ASSIGN = "assign"
    VERIFY_BACKUP = "verify-backup"
    CHANGE_PROJECT = "change-project"
    MESSAGE_WORKER = "message-worker"
    CHANGE_PROFILE = "change-profile"


class SubjectKind(StrEnum):
    """The kinds of things that are acted upon."""

    ACCOUNT = "account"
    WORKER = "worker"
    TOKEN = "token"  # noqa: S105  the name of a kind
    INVITATION = "invitation"
    HELD = "held"
    BRANCH = "branch"
    FINDING = "finding"
    PAPERS = "papers"
    ITEM = "item"
    DATABASE = "database"
    PROJECT = "project"


class ActionSource(StrEnum):
    """The way by which an action came."""

    API = "api"
    PAGE = "page"
    COMMAND_LINE = "command_line"


class AuditView(Message):
    """An action of a person, its reason, and what changed by it. It took back the entry
    `undoes`, and was taken back by `undone_by`."""

    id: Count
    by: Text
    source: ActionSource
    action: AuditAction
    subject: SubjectKind
    key: Text
    reason: Text
    before: dict[Text, AuditValue] | None
    after: dict[Text, AuditValue] | None
    undoes: Count | None = None
    undone_by: Count | None = None
    at: Timestamp


class Explained(Message):
    """A request that says why."""

    reason: Reason


class RoleChange(Explained):
    role: Role


class WorkerSanction(Explained):
    """Of the whole account, or of one of its workers."""

    worker: ShortText | None = None


class Profile(Explained):
    """How an account is shown to others; None leaves one as it is."""

    is_listed: StrictBool | None = None
    cited_as: CitedName | None = None


class AnchorChange(Explained):
    worker: ShortText
    is_anchor: StrictBool = True


class WorkerPause(Explained):
    """A worker that gets no jobs while `is_paused`; its terminal shows the reason."""

    worker: ShortText
    is_paused: StrictBool = True


class TokenRequest(Message):
    """`label` says what the token is for. Without `days` it lasts until it is revoked."""

    label: ShortText
    days: Days | None = None


class TokenLabel(Message):
    """Other words for what a token is for."""

    label: ShortText


class TokenRevocation(Explained):
    """Ends a token and those that were made with it, or it `alone`."""

    alone: StrictBool = False


class InvitationRequest(Explained):
    """An invitation for so many accounts, which ends after so many days."""

    uses: Uses = 1
    days: Days = 7


class NewSecret(Message):
    """A secret, which is shown this once, and the number under which it is listed."""

    id: Count
    secret: Secret


class AccountView(Message):
    """An account with its sanctions."""

    id: Count
    name: Slug
    role: Role
    is_pending: StrictBool
    is_approved: StrictBool
    suspension: Text | None
    quarantine: Text | None
    created_at: Timestamp


class TokenView(Message):
    id: Count
    label: Text
    scope: TokenScope
    made_with_id: Count | None = None
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None


class InvitationView(Message):
    id: Count
    created_by: Text
    uses: Count
    max_uses: Count
    created_at: Timestamp
    expires_at: Timestamp
    revoked_at: Timestamp | None


class HeldDecisionRequest(Explained):
    """A decision on a held commit in a hardware class; None takes an earlier one back."""

    hardware_class: ShortText
    decision: HeldDecisionKind | None


class HeldResult(Message):
    """A commit whose result waits for a decision, or has one."""

    project: Slug
    sha: Sha
    hardware_class: Text
    experiment_id: Count | None
    title: Text
    volunteer: Text
    posterior: Posterior | None
    decision: HeldDecisionKind | None
    reason: Text = ""


class BranchRename(Explained):
    """A branch's new name."""

    name: Slug


class BranchShare(Explained):
    """The minimum share of the project's jobs that a branch gets; 0 for the contract's."""

    share: Annotated[StrictFloat, Field(ge=0, le=0.5)]


class BranchHeadMove(Explained):
    """The commit that a branch's head moves to."""

    head_sha: Sha


class SettingsChange(Message):
    """Settings of a project that get other values; None leaves one as it is. `jobs` names only shares that change. With
    `version` it is refused unless that is the newest version."""

    title: ShortText | None = None
    notice: Notice | None = None
    mode: ProjectMode | None = None
    weight: Weight | None = None
    joining: ProjectJoining | None = None
    members: Members | None = None
    data_licence: DataLicence | None = None
    jobs: dict[JobKind, Share] = Field(default={})
    version: Count | None = None


class SettingsRequest(SettingsChange, Explained):
    """A change of a project's settings, with its reason."""


class SettingsRestoration(Explained):
    """The version of the settings that comes back, as a new version."""

    version: Count


class WorkerMessageRequest(Message):
    """A message that a worker's terminal shows once. It takes the place of one that was not shown yet."""

    worker: ShortText
    text: MessageText


MAX_AT_ONCE = 100
ItemName = Annotated[str, StringConstraints(min_length=3, max_length=400), CLEAN]
"""The name of a thing in the queue: its kind, a colon, and its key."""


class QueueKind(StrEnum):
    HELD = "held"
    CONTRADICTION = "contradiction"
    NOISE = "noise"
    ACCOUNT = "account"
    BRANCH = "branch"
    REPORT = "report"
    WORKER = "worker"
    TASK = "task"


class QueueAction(StrEnum):
    """An action on a thing in the queue. `accept`, `check` (by two anchors) and `reject` decide on a held result;
    `quarantine` is of its author, or of the worker that it is about; `suspend` turns an account down."""

    ACCEPT = "accept"
    CHECK = "check"
    REJECT = "reject"
    APPROVE = "approve"
    DELETE = "delete"
    RETRACT = "retract"
    QUARANTINE = "quarantine"
    SUSPEND = "suspend"
    DISMISS = "dismiss"
    ASSIGN = "assign"


class QueueItem(Message):
    """A thing that waits. `waiting` counts what waits for it, as `waiting_for` says; the most comes first, then the
    oldest. `address` is that of its page. `state` tells what it is dismissed for: it waits again when that changes."""

    name: ItemName
    kind: QueueKind
    title: Text
    detail: Text
    project: Text | None
    author: Text | None
    address: Text
    waiting: Count
    waiting_for: Text
    opened_at: Timestamp
    state: Text
    assigned_to: Text | None
    actions: list[QueueAction]


class QueuePage(Page[QueueItem]):
    """The queue, at most the 100 of each kind that wait longest; `counts` are of each kind, up to 100."""

    counts: dict[QueueKind, Count]


class QueueRequest(Explained):
    """An action on some things of the queue at once: all of it is done, or nothing. `assignee` takes what is assigned;
    without one nobody has it any more."""

    items: Annotated[list[ItemName], Field(min_length=1, max_length=MAX_AT_ONCE)]
    action: QueueAction
    assignee: Slug | None = None


class ReportRequest(Message):
    """A reader's words to the moderators about a finding."""

    text: Reason
