"""Sign-up, sign-in, invitations and tokens. A secret is shown once; the database holds its SHA-256 only."""

import re
import secrets
from datetime import timedelta
from hashlib import sha256
from typing import NamedTuple

from pydantic import ValidationError
from sqlalchemy.orm import Session

from coordinator.accounts import queries
from coordinator.accounts.permissions import AccountStoppedError, Caller, NotAllowedError, Permission, check
from coordinator.db.engine import Conn
from coordinator.db.locks import lock_hashes
from coordinator.http.addresses import hash_address
from coordinator.http.errors import SwarmError, must_find
from coordinator.http.pagination import cut_page
from coordinator.models import Invitation, SignInLink, Token, Volunteer, view_of
from coordinator.settings import CoordinatorSettings, Joining
from shared.moderation import AccountView, InvitationView, TokenView
from shared.protocol import Page, now
from shared.workers import Account, OwnAccount, Role, SignIn, SignUp, TokenScope

TOKEN_PREFIX, LINK_PREFIX, INVITATION_PREFIX = "swt_", "swl_", "swi_"
"""Prefixes that secret scanners can look for."""

MAX_LABEL = 80
LINK_LASTS, CODE_LASTS = timedelta(days=1), timedelta(minutes=10)
CODE_SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_LENGTH = 12
"""A code for a machine: 60 random bits in Crockford's base 32, which people can type."""

SIGNED_IN_DAYS = 30
"""Days for which a token lasts that came for a sign-in link."""

LOCAL_ADDRESS = "0" * 64
"""The `address_sha256` of accounts that were made from this machine."""

RESERVED_NAMES = frozenset({
    "about", "account", "admin", "administrator", "anonymous", "api", "coordinator", "everybody", "everyone", "help",
    "home", "join", "maintainer", "maintainers", "me", "moderator", "moderators", "nobody", "null", "owner", "owners",
    "research-swarm", "root", "security", "staff", "status", "support", "swarm", "system", "undefined", "unknown",
    "worker", "workers",
})  # fmt: skip
"""Names that nobody takes by signing up, since they look like those of people who run a swarm, or like addresses."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class UnauthorizedError(
    SwarmError, status=401, title="A valid token is needed", headers={"WWW-Authenticate": "Bearer"}
):
    pass


class NameInvalidError(SwarmError, status=422, title="That name cannot be used"):
    pass


class NameTakenError(SwarmError, status=409, title="There is a volunteer of that name"):
    pass


class NameReservedError(SwarmError, status=409, title="That name is reserved"):
    pass


class SignUpClosedError(SwarmError, status=403, title="This coordinator's maintainers make accounts themselves"):
    pass


class InvitationInvalidError(SwarmError, status=403, title="A valid invitation is needed"):
    pass


class SignInInvalidError(SwarmError, status=403, title="This signs nobody in"):
    pass


class SignUpBusyError(
    SwarmError, status=429, title="Too many accounts were made from this address lately", headers={"Retry-After": "600"}
):
    pass


class JoinRules(NamedTuple):
    """The mode of joining, and the number of accounts that may be made from an address per hour; 0 allows none."""

    mode: Joining
    per_hour: int

    @classmethod
    def of(cls, settings: CoordinatorSettings) -> "JoinRules":
        """The rules of the settings. Where reading is not public nobody comes in without a maintainer."""
        is_closed = settings.joining == Joining.OPEN and not settings.public_reading
        return cls(Joining.APPROVAL if is_closed else settings.joining, settings.sign_ups_per_hour)


def read_sign_up(name: str, invitation: str | None) -> SignUp:
    """The request for an account that a person typed. Raises NameInvalidError, InvitationInvalidError."""
    check_name(name)
    try:
        return SignUp(name=name, invitation=invitation)
    except ValidationError as error:
        raise InvitationInvalidError("That is no invitation.") from error


def is_name(text: str) -> bool:
    """Whether an account may have this name."""
    return _NAME.fullmatch(text) is not None


def sign_up(session: Session, asked: SignUp, rules: JoinRules, address: str | None) -> Account:
    """Make a volunteer with a token, who waits for approval where that is needed.

    An invitation stands for an approval. Raises NameReservedError, NameTakenError, SignUpClosedError, SignUpBusyError,
    InvitationInvalidError.
    """
    if rules.per_hour == 0:
        raise SignUpClosedError("Ask a maintainer for a token: `swarm-coordinator create-token NAME` prints one.")
    if asked.name in RESERVED_NAMES:
        raise NameReservedError("It looks like the name of somebody who runs this swarm. Choose another.")
    address_sha256 = hash_address(address) or LOCAL_ADDRESS
    # Sign-ups from one address are counted one after the other, and of two for one name the second finds the first.
    lock_hashes(session, [address_sha256, hash_token(asked.name)])
    if queries.count_sign_ups(session, address_sha256, now()) >= rules.per_hour:
        raise SignUpBusyError("Try again later, or ask a maintainer for a token.")
    if queries.find_volunteer(session, asked.name) is not None:
        raise NameTakenError(
            "Choose another. If it is your own, make a code for this machine: on your page (/me), or by `swarm-worker "
            "tokens code` where you are logged in."
        )
    is_invited = asked.invitation is not None and queries.use_invitation(session, hash_token(asked.invitation))
    if not is_invited and (rules.mode == Joining.INVITATION or asked.invitation is not None):
        without = "" if rules.mode == Joining.INVITATION else ", or join without one"
        given = "This one is unknown, used up or over. " if asked.invitation is not None else ""
        raise InvitationInvalidError(f"{given}Ask a maintainer for an invitation{without}.")
    volunteer = Volunteer(
        name=asked.name, role=Role.VOLUNTEER, created_at=now(), address_sha256=address_sha256,
        is_pending=rules.mode == Joining.APPROVAL and not is_invited, is_approved=is_invited,
    )  # fmt: skip
    session.add(volunteer)
    session.flush()
    _, token = add_token(session, volunteer, asked.label, TokenScope.WORK, None)
    return Account(volunteer=volunteer.name, token=token)


def hash_token(token: str) -> str:
    """SHA-256 in hexadecimal. Tokens are 256 random bits, so a plain hash is enough."""
    return sha256(token.encode()).hexdigest()


def add_token(
    session: Session, volunteer: Volunteer, label: str, scope: TokenScope, days: int | None,
    made_with_id: int | None = None,
) -> tuple[Token, str]:  # fmt: skip
    """Make a token; returns its row and itself."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    moment = now()
    row = Token(
        volunteer_id=volunteer.id, sha256=hash_token(token), label=label[:MAX_LABEL], scope=scope, created_at=moment,
        expires_at=moment + timedelta(days=days) if days else None, made_with_id=made_with_id,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row, token


def list_made_with(session: Session, token_id: int) -> list[int]:
    """The tokens that were made with a token, or with one of those, and are not revoked."""
    token = session.get_one(Token, token_id)
    every = queries.list_tokens(session, token.volunteer_id)[::-1]  # none is older than what it was made with
    made = {token_id}
    for row in every:
        if row.made_with_id in made:
            made.add(row.id)
    return [row.id for row in every if row.id in made - {token_id} and row.revoked_at is None]


def find_or_add_account(session: Session, name: str) -> Volunteer:
    """As `find_or_add_volunteer`. Raises NameInvalidError."""
    check_name(name)
    return find_or_add_volunteer(session, name)


def check_name(name: str) -> None:
    """Raise NameInvalidError for a name that cannot stand in addresses."""
    if not is_name(name):
        raise NameInvalidError("A name has 1 to 63 lower-case letters, digits and hyphens, and begins with no hyphen.")


def find_or_add_volunteer(session: Session, name: str) -> Volunteer:
    """The volunteer of that name, who is made if need be, without a token."""
    volunteer = queries.find_volunteer(session, name)
    if volunteer is None:
        volunteer = Volunteer(name=name, role=Role.VOLUNTEER, created_at=now())
        session.add(volunteer)
        session.flush()
    return volunteer


def create_link(session: Session, volunteer: Volunteer) -> tuple[SignInLink, str]:
    """Make a secret that signs its account in with all duties, once, within a day; returns its row and itself."""
    secret = LINK_PREFIX + secrets.token_urlsafe(32)
    moment = now()
    row = SignInLink(
        volunteer_id=volunteer.id, sha256=hash_token(secret), created_at=moment, expires_at=moment + LINK_LASTS
    )
    session.add(row)
    session.flush()
    return row, secret


def create_code(session: Session, volunteer_id: int, made_with_id: int | None) -> tuple[SignInLink, str]:
    """Make a code that is exchanged for a worker's token, once, within minutes; returns its row and itself."""
    code = "".join(secrets.choice(CODE_SYMBOLS) for _ in range(CODE_LENGTH))
    moment = now()
    row = SignInLink(
        volunteer_id=volunteer_id, sha256=hash_token(code), created_at=moment, expires_at=moment + CODE_LASTS,
        made_with_id=made_with_id,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row, "-".join(code[at : at + 4] for at in range(0, CODE_LENGTH, 4))


def _read_code(text: str) -> str:
    """A code as it was stored, however it was typed."""
    return re.sub(r"[\s-]", "", text).upper().translate(str.maketrans("OIL", "011"))


def sign_in(session: Session, asked: SignIn) -> Account:
    """Exchange a sign-in link for a token with duties, or a code for a worker's token. Raises SignInInvalidError,
    AccountStoppedError."""
    is_link = asked.secret.startswith(LINK_PREFIX)
    used = queries.use_link(session, hash_token(asked.secret if is_link else _read_code(asked.secret)))
    if used is None:
        raise SignInInvalidError(
            "Ask a maintainer for a new one: `swarm-coordinator sign-in-link NAME` prints it."
            if is_link
            else "A code works once, for 10 minutes. Make another: on your page (/me), or by `swarm-worker tokens "
            "code` where you are logged in."
        )
    volunteer = session.get_one(Volunteer, used[0])
    columns = {name: getattr(volunteer, name) for name in Caller._fields if name != "scope"}
    check(Caller(**columns, scope=TokenScope.DUTIES), Permission.WORK)
    scope, days = (TokenScope.DUTIES, SIGNED_IN_DAYS) if is_link else (TokenScope.WORK, None)
    _, token = add_token(session, volunteer, asked.label, scope, days, used[1])
    return Account(volunteer=volunteer.name, token=token)


def create_invitation(session: Session, created_by: str, uses: int, days: int) -> tuple[Invitation, str]:
    """Make an invitation for so many accounts and days; returns its row and its secret."""
    secret = INVITATION_PREFIX + secrets.token_urlsafe(24)
    moment = now()
    row = Invitation(
        sha256=hash_token(secret), created_by=created_by, max_uses=uses, uses=0, created_at=moment,
        expires_at=moment + timedelta(days=days),
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row, secret


def authorize(session: Conn, token: str | None, permission: Permission) -> Caller:
    """The account that a bearer token belongs to, if it has the permission.

    Raises UnauthorizedError, AccountStoppedError, NotAllowedError.
    """
    if not token:
        raise UnauthorizedError("Send the header `Authorization: Bearer <token>`.")
    caller = queries.find_caller(session, hash_token(token))
    if caller is None:
        raise UnauthorizedError(_explain_refusal(session, token))
    check(caller, permission)
    return caller


def _explain_refusal(session: Conn, token: str) -> str:
    """Why a token does not count."""
    found = queries.find_ended_token(session, hash_token(token))
    if found is None:
        return "This token is unknown here."
    revoked_at, expires_at = found
    word, moment = ("was revoked", revoked_at) if revoked_at is not None else ("ended", expires_at)
    return f"This token {word} on {moment:%Y-%m-%d at %H:%M} UTC."


def get_token(session: Session, token: str) -> Token:
    """The row of a valid token. Raises UnauthorizedError."""
    row = queries.find_token(session, hash_token(token))
    if row is None:
        raise UnauthorizedError("This token just ended.")
    return row


def may(session: Conn, token: str | None, permission: Permission) -> bool:
    """Whether a request came with a token whose account has the permission."""
    try:
        authorize(session, token, permission)
    except (UnauthorizedError, AccountStoppedError, NotAllowedError):
        return False
    return True


def authenticate(session: Conn, token: str | None) -> int:
    """The id of the volunteer whom a bearer token belongs to, who may work. Raises as `authorize`."""
    return authorize(session, token, Permission.WORK).id


def view_own(session: Session, token: str | None) -> OwnAccount:
    """The account that a bearer token belongs to. Raises as `authorize`."""
    caller = authorize(session, token, Permission.WORK)
    row = get_token(session, token or "")
    return OwnAccount(volunteer=caller.name, role=Role(caller.role), token_id=row.id, scope=TokenScope(row.scope))


def get_name(session: Session, volunteer_id: int) -> str:
    """The name of a volunteer who was just authenticated."""
    return session.get_one(Volunteer, volunteer_id).name


def get_standing(session: Session, volunteer_id: int) -> tuple[str, bool]:
    """The name of a volunteer who was just authenticated, and whether a maintainer let the account in."""
    account = session.get_one(Volunteer, volunteer_id)
    return account.name, account.is_approved


def check_duties(session: Session, volunteer_id: int, role: Role) -> None:
    """Raise NotAllowedError for an account that has another role by now, or is stopped."""
    if not queries.has_duties(session, volunteer_id, role):
        raise NotAllowedError(f"This account is no {role} any more, or it was stopped.")


def is_newcomer(session: Conn, volunteer_id: int) -> bool:
    """Whether nobody knows a volunteer yet: no role was given, no worker is an anchor, and none of the account's
    measurements has agreed with those of others."""
    return queries.is_newcomer(session, volunteer_id)


def view_accounts(session: Session, before_id: int | None, limit: int, start: str = "") -> Page[AccountView]:
    """Accounts with their sanctions, newest first; `start` is the beginning of their names."""
    rows = queries.list_accounts(session, before_id, limit + 1, start)
    return cut_page([view_of(AccountView, row) for row in rows], limit, lambda row: row.id)


def view_tokens(session: Session, name: str) -> Page[TokenView]:
    """An account's tokens, newest first. Raises NotFoundError."""
    return Page(items=[view_of(TokenView, row) for row in queries.list_tokens(session, get_account(session, name).id)])


def view_invitations(session: Session, before_id: int | None, limit: int) -> Page[InvitationView]:
    """Invitations, newest first."""
    rows = queries.list_invitations(session, before_id, limit + 1)
    return cut_page([view_of(InvitationView, row) for row in rows], limit, lambda row: row.id)


def get_account(session: Session, name: str) -> Volunteer:
    """The account of that name. Raises NotFoundError."""
    return must_find(queries.find_volunteer(session, name), f"There is no account {name!r}.")
