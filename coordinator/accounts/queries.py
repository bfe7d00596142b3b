"""Queries about accounts."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import bindparam, delete, exists, func, select, update
from sqlalchemy.orm import Session

from coordinator.accounts.permissions import Caller
from coordinator.db.engine import Conn
from coordinator.models import (
    BrowserSession,
    Invitation,
    Password,
    SignInLink,
    Token,
    TrustRecord,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.accounts import IS_VALID_TOKEN
from shared.protocol import now
from shared.workers import Role

_TOKENS, _VOLUNTEERS = table_of(Token), table_of(Volunteer)
_LINKS, _INVITATIONS, _SESSIONS = table_of(SignInLink), table_of(Invitation), table_of(BrowserSession)


def count_sign_ups(session: Conn, address_sha256: str, moment: datetime) -> int:
    """Accounts that were made from an address within an hour of a moment; none of when a clock was further ahead."""
    hour = timedelta(hours=1)
    is_recent = Volunteer.created_at.between(moment - hour, moment + hour)
    of_address = Volunteer.address_sha256 == address_sha256, is_recent
    return session.scalar(select(func.count()).select_from(Volunteer).where(*of_address)) or 0


def find_volunteer(session: Session, name: str) -> Volunteer | None:
    return session.scalar(select(Volunteer).where(Volunteer.name == name))


def has_duties(session: Conn, volunteer_id: int, role: Role) -> bool:
    """Whether an account has this role, and nobody stopped it."""
    is_theirs = Volunteer.id == volunteer_id, Volunteer.role == role
    is_free = Volunteer.suspension.is_(None), Volunteer.quarantine.is_(None)
    return session.scalar(select(exists().where(*is_theirs, *is_free))) is True


def is_newcomer(session: Conn, volunteer_id: int) -> bool:
    """Whether an account has a volunteer's role, no anchor, and no measurement that agreed with others'."""
    query = select(Volunteer.id).where(
        Volunteer.id == volunteer_id,
        Volunteer.role == Role.VOLUNTEER,
        ~exists().where(TrustRecord.volunteer_id == volunteer_id, TrustRecord.agreements > 0),
        ~exists().where(Worker.volunteer_id == volunteer_id, Worker.is_anchor),
    )
    return session.scalar(query) is not None


_CALLER = (
    select(*(_VOLUNTEERS.c[name] for name in Caller._fields[:-1]), _TOKENS.c.scope)
    .join(_TOKENS, _TOKENS.c.volunteer_id == _VOLUNTEERS.c.id)
    .where(_TOKENS.c.sha256 == bindparam("sha256"), IS_VALID_TOKEN)
)


def find_caller(session: Conn, token_sha256: str) -> Caller | None:
    """The account whose valid token has this hash."""
    row = session.execute(_CALLER, {"sha256": token_sha256, "moment": now()}).first()
    return Caller._make(row) if row else None


def find_token(session: Session, token_sha256: str) -> Token | None:
    """The valid token that has this hash."""
    return session.scalar(select(Token).where(_TOKENS.c.sha256 == token_sha256, IS_VALID_TOKEN), {"moment": now()})


def find_ended_token(session: Conn, token_sha256: str) -> tuple[datetime | None, datetime | None] | None:
    """When a token was revoked and when it ends, valid or not; None for an unknown one."""
    query = select(_TOKENS.c.revoked_at, _TOKENS.c.expires_at).where(_TOKENS.c.sha256 == token_sha256)
    row = session.execute(query).first()
    return (row[0], row[1]) if row else None


def find_password(session: Session, name: str) -> Password | None:
    """The password of the account of that name."""
    query = select(Password).join(Volunteer, Volunteer.id == Password.volunteer_id)
    return session.scalar(query.where(Volunteer.name == name))


_IS_LIVE = (_SESSIONS.c.expires_at > bindparam("moment")) & (_SESSIONS.c.seen_at > bindparam("idle_since"))
_VISIT = (
    select(
        _SESSIONS.c.id, _SESSIONS.c.token_id, _SESSIONS.c.created_at, _SESSIONS.c.seen_at,
        *(_VOLUNTEERS.c[name] for name in Caller._fields[:-1]), _SESSIONS.c.scope,
    )
    .join(_VOLUNTEERS, _VOLUNTEERS.c.id == _SESSIONS.c.volunteer_id)
    .outerjoin(_TOKENS, _TOKENS.c.id == _SESSIONS.c.token_id)
    .where(_SESSIONS.c.sha256 == bindparam("of"), _IS_LIVE, _VOLUNTEERS.c.suspension.is_(None))
    .where(_SESSIONS.c.token_id.is_(None) | IS_VALID_TOKEN)
)  # fmt: skip


class VisitRow(NamedTuple):
    """A session that is not over, and its account."""

    id: int
    token_id: int | None
    created_at: datetime
    seen_at: datetime
    account: Caller


def find_visit(session: Conn, sha256: str, moment: datetime, idle_since: datetime) -> VisitRow | None:
    """The session whose secret has this hash, unless it is over; `idle_since` is the earliest `seen_at`."""
    row = session.execute(_VISIT, {"of": sha256, "moment": moment, "idle_since": idle_since}).first()
    return VisitRow(*row[:4], Caller._make(row[4:])) if row else None


def touch_session(session: Conn, session_id: int, moment: datetime) -> None:
    session.execute(update(BrowserSession).where(BrowserSession.id == session_id).values(seen_at=moment))


def list_sessions(
    session: Session, volunteer_id: int, moment: datetime, idle_since: datetime
) -> Sequence[BrowserSession]:
    """An account's sessions that are not over, newest first."""
    query = select(BrowserSession).where(BrowserSession.volunteer_id == volunteer_id, _IS_LIVE)
    times = {"moment": moment, "idle_since": idle_since}
    return session.scalars(query.order_by(BrowserSession.id.desc()), times).all()


def delete_sessions(session: Conn, volunteer_id: int, *, but: Collection[int] = ()) -> None:
    """Delete an account's sessions `but` some."""
    query = delete(BrowserSession).where(BrowserSession.volunteer_id == volunteer_id)
    session.execute(query.where(BrowserSession.id.not_in(but)) if but else query)


def delete_session(session: Conn, session_id: int) -> None:
    session.execute(delete(BrowserSession).where(BrowserSession.id == session_id))


def delete_sessions_of_token(session: Conn, token_id: int) -> None:
    session.execute(delete(BrowserSession).where(BrowserSession.token_id == token_id))


def list_accounts(session: Session, before_id: int | None, limit: int, start: str = "") -> Sequence[Volunteer]:
    """Accounts, newest first; `start` is the beginning of their names."""
    query = select(Volunteer).order_by(Volunteer.id.desc()).limit(limit)
    if start:
        query = query.where(Volunteer.name.startswith(start, autoescape=True))
    return session.scalars(query if before_id is None else query.where(Volunteer.id < before_id)).all()


def list_tokens(session: Session, volunteer_id: int) -> Sequence[Token]:
    """An account's tokens, newest first."""
    return session.scalars(select(Token).where(Token.volunteer_id == volunteer_id).order_by(Token.id.desc())).all()


_USE_LINK = (
    update(_LINKS)
    .where(_LINKS.c.sha256 == bindparam("of"), _LINKS.c.used_at.is_(None), _LINKS.c.expires_at > bindparam("moment"))
    .values(used_at=bindparam("moment"))
    .returning(_LINKS.c.volunteer_id, _LINKS.c.made_with_id)
)
_USE_INVITATION = (
    update(_INVITATIONS)
    .where(
        _INVITATIONS.c.sha256 == bindparam("of"),
        _INVITATIONS.c.revoked_at.is_(None),
        _INVITATIONS.c.expires_at > bindparam("moment"),
        _INVITATIONS.c.uses < _INVITATIONS.c.max_uses,
    )
    .values(uses=_INVITATIONS.c.uses + 1)
    .returning(_INVITATIONS.c.id)
)


def use_link(session: Conn, sha256: str) -> tuple[int, int | None] | None:
    """Use a sign-in link or a code up; returns its account, and the token that it was made with. None for one that is
    unknown, used or over, or whose token was revoked."""
    row = session.execute(_USE_LINK, {"of": sha256, "moment": now()}).first()
    if row is None or session.scalar(select(_TOKENS.c.revoked_at).where(_TOKENS.c.id == row[1])) is not None:
        return None
    return row[0], row[1]


def use_invitation(session: Conn, sha256: str) -> bool:
    """Count one use of an invitation; returns whether it allowed one more."""
    return session.scalar(_USE_INVITATION, {"of": sha256, "moment": now()}) is not None


def list_invitations(session: Session, before_id: int | None, limit: int) -> Sequence[Invitation]:
    """Invitations, newest first."""
    query = select(Invitation).order_by(Invitation.id.desc()).limit(limit)
    return session.scalars(query if before_id is None else query.where(Invitation.id < before_id)).all()
