"""Sessions of people in a browser. The cookie holds a secret, the database its SHA-256 and whose it is.

A session ends with a sign-out, after days without a request, after its longest life, with the token that it began with,
and with whatever changes what its account may do: suspension, another role, another password.
"""

import secrets
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from coordinator.accounts import queries
from coordinator.accounts.permissions import AccountSuspendedError, Caller
from coordinator.accounts.service import LINK_PREFIX, SignInInvalidError, hash_token
from coordinator.db.database import Database
from coordinator.models import BrowserSession, Token, Volunteer, table_of
from coordinator.models.accounts import IS_VALID_TOKEN
from shared.protocol import now
from shared.workers import TokenScope

LONGEST_LIFE = timedelta(days=30)
LONGEST_IDLE = timedelta(days=7)
SEEN_AGAIN = timedelta(minutes=10)
"""Time after which a request renews `seen_at`; sooner would be a write for each page."""

MOST_SESSIONS = 20
"""Sessions that an account may have; the oldest ends for another."""

MAX_BROWSER = 200

_SESSIONS, _TOKENS, _VOLUNTEERS = table_of(BrowserSession), table_of(Token), table_of(Volunteer)


class Visit(NamedTuple):
    """A request of somebody who is signed in."""

    session_id: int
    account: Caller


_VISIT = (
    select(
        _SESSIONS.c.id, _SESSIONS.c.seen_at, *(_VOLUNTEERS.c[name] for name in Caller._fields[:-1]), _SESSIONS.c.scope
    )
    .join(_VOLUNTEERS, _VOLUNTEERS.c.id == _SESSIONS.c.volunteer_id)
    .outerjoin(_TOKENS, _TOKENS.c.id == _SESSIONS.c.token_id)
    .where(_VOLUNTEERS.c.suspension.is_(None), _SESSIONS.c.token_id.is_(None) | IS_VALID_TOKEN)
)


def start_session(
    session: Session, volunteer_id: int, scope: TokenScope, browser: str, token_id: int | None = None
) -> str:
    """Begin a session and return its secret, which is always a new one."""
    secret, moment = secrets.token_urlsafe(32), now()
    own = BrowserSession.volunteer_id == volunteer_id
    session.execute(delete(BrowserSession).where(own, _is_over(moment)))
    kept = select(BrowserSession.id).where(own).order_by(BrowserSession.id.desc()).limit(MOST_SESSIONS - 1)
    session.execute(delete(BrowserSession).where(own, BrowserSession.id.not_in(session.scalars(kept).all())))
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
    of = hash_token(secret)
    token_id, scope = None, TokenScope.DUTIES
    volunteer_id = queries.use_link(session, of) if secret.startswith(LINK_PREFIX) else None
    if volunteer_id is None:
        query = select(Token).where(_TOKENS.c.sha256 == of, IS_VALID_TOKEN)
        token = session.scalar(query, {"moment": now()})
        if token is None:
            raise SignInInvalidError("This link or token is unknown, used or over.")
        volunteer_id, token_id, scope = token.volunteer_id, token.id, TokenScope(token.scope)
    account = session.get_one(Volunteer, volunteer_id)
    if account.suspension is not None:
        raise AccountSuspendedError(f"A maintainer suspended {account.name}: {account.suspension}")
    return start_session(session, account.id, scope, browser, token_id)


def find_visit(database: Database, secret: str) -> Visit | None:
    """The visit that a cookie's secret stands for; None where there is none, or none any more."""
    moment = now()
    with database.read_one() as session:
        query = _VISIT.where(_SESSIONS.c.sha256 == hash_token(secret), ~_is_over(moment))
        row = session.execute(query, {"moment": moment}).first()
    if row is None:
        return None
    session_id, seen_at, *account = row
    if moment - seen_at > SEEN_AGAIN:
        with database.write() as session:
            session.execute(update(BrowserSession).where(BrowserSession.id == session_id).values(seen_at=moment))
    return Visit(session_id, Caller._make(account))


def _is_over(moment: datetime) -> ColumnElement[bool]:
    return (_SESSIONS.c.expires_at <= moment) | (_SESSIONS.c.seen_at <= moment - LONGEST_IDLE)


def list_sessions(session: Session, volunteer_id: int) -> list[BrowserSession]:
    """An account's sessions, the newest first."""
    query = select(BrowserSession).where(BrowserSession.volunteer_id == volunteer_id, ~_is_over(now()))
    return list(session.scalars(query.order_by(BrowserSession.id.desc())))


def end_session(session: Session, session_id: int) -> None:
    session.execute(delete(BrowserSession).where(BrowserSession.id == session_id))


def end_sessions(session: Session, volunteer_id: int, *, but: int | None = None) -> None:
    """End all sessions of an account `but` one."""
    query = delete(BrowserSession).where(BrowserSession.volunteer_id == volunteer_id)
    session.execute(query if but is None else query.where(BrowserSession.id != but))


def end_sessions_of_token(session: Session, token_id: int) -> None:
    """End the sessions that began with a token."""
    session.execute(delete(BrowserSession).where(BrowserSession.token_id == token_id))
