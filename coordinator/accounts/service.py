"""Sign-up and tokens. A token is shown once; the database holds its SHA-256 only."""

import re
import secrets
from datetime import timedelta
from hashlib import sha256

from sqlalchemy.orm import Session

from coordinator.accounts import queries
from coordinator.http.errors import SwarmError
from coordinator.models import Token, Volunteer
from shared.protocol import now
from shared.workers import Account, Role, SignUp

TOKEN_PREFIX = "swt_"  # noqa: S105  a prefix that secret scanners can look for, not a secret
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class UnauthorizedError(SwarmError):
    status = 401
    code = "unauthorized"
    title = "A valid token is needed"
    headers = {"WWW-Authenticate": "Bearer"}  # noqa: RUF012  a class variable of the base, never changed


class NameInvalidError(SwarmError):
    status = 422
    code = "name-invalid"
    title = "That name cannot be used"


class NameTakenError(SwarmError):
    status = 409
    code = "name-taken"
    title = "There is a volunteer of that name"


class SignUpClosedError(SwarmError):
    status = 403
    code = "sign-up-closed"
    title = "This coordinator's maintainers make accounts themselves"


class SignUpBusyError(SwarmError):
    status = 429
    code = "sign-up-busy"
    title = "Too many accounts were made lately"
    headers = {"Retry-After": "600"}  # noqa: RUF012  a class variable of the base, never changed


def sign_up(session: Session, asked: SignUp, per_hour: int) -> Account:
    """Make a volunteer with a token. `per_hour` limits all sign-ups together; 0 allows none.

    Raises NameTakenError, SignUpClosedError, SignUpBusyError.
    """
    if per_hour == 0:
        raise SignUpClosedError("Ask a maintainer for a token: `swarm-coordinator create-token NAME` prints one.")
    if queries.count_volunteers_since(session, now() - timedelta(hours=1)) >= per_hour:
        raise SignUpBusyError("Try again later, or ask a maintainer for a token.")
    if queries.find_volunteer(session, asked.name) is not None:
        raise NameTakenError("Choose another. If it is your own, make a token with the account that you have.")
    return Account(volunteer=asked.name, token=create_token(session, asked.name, asked.label))


def hash_token(token: str) -> str:
    """SHA-256 in hexadecimal. Tokens are 256 random bits, so a plain hash is enough."""
    return sha256(token.encode()).hexdigest()


def create_token(session: Session, volunteer_name: str, label: str) -> str:
    """Make a token for a volunteer, who is created if need be, and return it. Raises NameInvalidError."""
    if not _NAME.fullmatch(volunteer_name):
        raise NameInvalidError("A name has 1 to 63 lower-case letters, digits and hyphens, and begins with no hyphen.")
    volunteer = find_or_add_volunteer(session, volunteer_name)
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    session.add(Token(volunteer_id=volunteer.id, sha256=hash_token(token), label=label, created_at=now()))
    session.flush()
    return token


def find_or_add_volunteer(session: Session, name: str) -> Volunteer:
    """The volunteer of that name, who is made if need be, without a token."""
    volunteer = queries.find_volunteer(session, name)
    if volunteer is None:
        volunteer = Volunteer(name=name, role=Role.VOLUNTEER, created_at=now())
        session.add(volunteer)
        session.flush()
    return volunteer


def authenticate(session: Session, token: str | None) -> int:
    """The id of the volunteer whom a bearer token belongs to. Raises UnauthorizedError."""
    if not token:
        raise UnauthorizedError("Send the header `Authorization: Bearer <token>`.")
    volunteer_id = queries.find_volunteer_by_token(session, hash_token(token))
    if volunteer_id is None:
        raise UnauthorizedError("This token is unknown or was revoked. Ask the coordinator's maintainer for a new one.")
    return volunteer_id


def get_name(session: Session, volunteer_id: int) -> str:
    """The name of a volunteer who was just authenticated."""
    return session.get_one(Volunteer, volunteer_id).name


def get_role(session: Session, volunteer_id: int) -> Role:
    """The role of an authenticated volunteer."""
    return Role(session.get_one(Volunteer, volunteer_id).role)
