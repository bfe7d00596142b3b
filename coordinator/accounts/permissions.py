"""The one place that says which account may do what. Pure.

A request names the permission that it needs; `check` compares it with the account's role, its sanctions and its token.
"""

from enum import StrEnum, auto
from typing import NamedTuple

from coordinator.http.errors import SwarmError
from coordinator.models import Volunteer
from shared.workers import Role, TokenScope


class Permission(StrEnum):
    READ = auto()
    """Where reading is not public."""
    WORK = auto()
    """Jobs and results, the account's own findings, branches and tokens."""
    ANNOTATE = auto()
    """Notes beside findings, and retractions of others' findings."""
    LOOK = auto()
    """Accounts, invitations, the audit log and held results."""
    APPROVE = auto()
    """Accounts that wait for it; invitations."""
    SANCTION = auto()
    """Suspension and quarantine of accounts and workers."""
    DECIDE = auto()
    """Held results."""
    STEER = auto()
    """Branches."""
    ADMINISTER = auto()
    """Roles, anchors, the settings of projects, and the tokens of others."""


_EVERYBODY = frozenset(Role)
STAFF = frozenset({Role.MODERATOR, Role.MAINTAINER})
ALLOWED = dict.fromkeys(Permission, STAFF) | {
    Permission.READ: _EVERYBODY,
    Permission.WORK: _EVERYBODY,
    Permission.ADMINISTER: frozenset({Role.MAINTAINER}),
}
"""The roles that have each permission."""


class NotAllowedError(SwarmError, status=403, title="This account may not do that"):
    pass


class AccountStoppedError(SwarmError, status=403, title="The account is stopped"):
    """The account cannot be used for this now. What its workers have measured stays in their outboxes."""


class AccountSuspendedError(AccountStoppedError, title="The account is suspended"):
    pass


class AccountQuarantinedError(AccountStoppedError, title="The account is in quarantine"):
    pass


class AccountPendingError(AccountStoppedError, title="The account waits for approval"):
    pass


class Caller(NamedTuple):
    """The account that a valid token belongs to, with a maintainer's reasons for stopping it, and the token's scope."""

    id: int
    name: str
    role: str
    suspension: str | None
    quarantine: str | None
    is_pending: bool
    is_approved: bool
    scope: str


def check(caller: Caller, permission: Permission) -> None:
    """Raise AccountStoppedError or NotAllowedError unless the account has the permission."""
    check_not_suspended(caller)
    if caller.is_pending or (permission == Permission.READ and not caller.is_approved):
        raise AccountPendingError(f"A maintainer has not approved {caller.name} yet.")
    if caller.quarantine is not None and permission != Permission.READ:
        raise AccountQuarantinedError(f"A maintainer has put {caller.name} in quarantine: {caller.quarantine}")
    check_role(Role(caller.role), permission)
    if ALLOWED[permission] is not _EVERYBODY and caller.scope != TokenScope.DUTIES:
        raise NotAllowedError("A worker's token carries no duties. Sign in with a password or a sign-in link.")


def check_not_suspended(account: Caller | Volunteer) -> None:
    """Raise AccountSuspendedError for an account that nobody may sign in to."""
    if account.suspension is not None:
        raise AccountSuspendedError(f"A maintainer suspended {account.name}: {account.suspension}")


def check_role(role: Role, permission: Permission) -> None:
    """Raise NotAllowedError unless the role has the permission."""
    if role not in ALLOWED[permission]:
        roles = " and ".join(sorted(f"{allowed}s" for allowed in ALLOWED[permission]))
        raise NotAllowedError(f"Only {roles} may do that; this account is a {role}.")


def check_rank(role: Role, target: Role) -> None:
    """Raise NotAllowedError where a moderator would act on an account of their own rank or above."""
    if role != Role.MAINTAINER and target in STAFF:
        raise NotAllowedError(f"Only maintainers may do that to a {target}.")
