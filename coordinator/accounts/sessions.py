"""Sessions of people in a browser. The cookie holds a secret, the database its SHA-256 and whose it is.

A session ends with a sign-out, after days without a request, after its longest life, with the token that it began with,
and with whatever changes what its account may do: suspension, another role, another password.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.accounts import queries
from coordinator.accounts.permissions import Caller, NotAllowedError, check_not_suspended
from coordinator.accounts.service import LINK_PREFIX, SignInInvalidError, hash_token
from coordinator.db.database import Database
from coordinator.models import BrowserSession, Volunteer
from shared.protocol import now
from shared.workers import TokenScope

LONGEST_LIFE = timedelta(days=30)
LONGEST_IDLE = timedelta(days=7)
SEEN_AGAIN = timedelta(minutes=10)
"""Time after which a request renews `seen_at`; sooner would be a write for each page."""

MOST_SESSIONS = 20
"""Sessions that an account may have; the oldest ends for another."""

MAX_BROWSER = 200


class Visit(NamedTuple):
    """A request of somebody who signed in, at `began_at`, by a token or otherwise."""

    session_id: int
    is_by_token: bool
    began_at: datetime
    account: Caller


def start_session(
    session: Session, volunteer_id: int, scope: TokenScope, browser: str, token_id: int | None = None
) -> str:
    """Begin a session and return its secret, which is always a new one."""
    secret, moment = secrets.token_urlsafe(32), now()
    kept = [row.id for row in list_sessions(session, volunteer_id)[: MOST_SESSIONS - 1]]
    queries.delete_sessions(session, volunteer_id, but=kept)
    session.add(
        BrowserSession(
            volunteer_id=volunteer_id, token_id=token_id, sha256=hash_token(secret), scope=scope,
            browser=browser[:MAX_BROWSER], created_at=moment, seen_at=moment, expires_at=moment + LONGEST_LIFE,
        )
    )  # fmt: skip
    session.flush()
    return secret


def sign_in(session: Session, secret: str, browser: str) -> str:
    """Begin a session for a sign-in link, which it uses up, or for a token, whose scope it has; returns the secret of
    its cookie. Raises SignInInvalidError, AccountSuspendedError."""
    sha256 = hash_token(secret)
    if secret.startswith(LINK_PREFIX):
        used = queries.use_link(session, sha256)
        volunteer_id, token_id, scope = used[0] if used else None, None, TokenScope.DUTIES
    else:
        token = queries.find_token(session, sha256)
        volunteer_id, token_id = (token.volunteer_id, token.id) if token else (None, None)
        scope = TokenScope(token.scope) if token else TokenScope.WORK
    if volunteer_id is None:
        raise SignInInvalidError("This link or token is unknown, used or over.")
    check_not_suspended(session.get_one(Volunteer, volunteer_id))
    return start_session(session, volunteer_id, scope, browser, token_id)


def check_not_by_token(visit: Visit) -> None:
    """Raise NotAllowedError in a session that began with a token: one that leaked must not outlive its revocation in
    others."""
    if visit.is_by_token:
        raise NotAllowedError("You signed in with a token. Sign in with a password or a link to make another.")


def find_visit(database: Database, secret: str) -> Visit | None:
    """The visit that a cookie's secret stands for; None where there is none, or none any more."""
    moment = now()
    with database.read_one() as session:
        row = queries.find_visit(session, hash_token(secret), moment, moment - LONGEST_IDLE)
    if row is None:
        return None
    if moment - row.seen_at > SEEN_AGAIN:
        with database.write() as session:
            queries.touch_session(session, row.id, moment)
    return Visit(row.id, row.token_id is not None, row.created_at, row.account)


def list_sessions(session: Session, volunteer_id: int) -> Sequence[BrowserSession]:
    """An account's sessions, newest first."""
    moment = now()
    return queries.list_sessions(session, volunteer_id, moment, moment - LONGEST_IDLE)


def end_session(session: Session, session_id: int) -> None:
    queries.delete_session(session, session_id)


def end_sessions(session: Session, volunteer_id: int, *, but: int | None = None) -> None:
    """End all sessions of an account `but` one."""
    queries.delete_sessions(session, volunteer_id, but=() if but is None else (but,))


def end_sessions_of_token(session: Session, token_id: int) -> None:
    """End the sessions that began with a token."""
    queries.delete_sessions_of_token(session, token_id)
