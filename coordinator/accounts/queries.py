"""Queries about accounts."""

from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from coordinator.models import Token, Volunteer, table_of

_TOKENS = table_of(Token)


def count_volunteers_since(session: Session, moment: datetime) -> int:
    return session.scalar(select(func.count()).select_from(Volunteer).where(Volunteer.created_at >= moment)) or 0


def find_volunteer(session: Session, name: str) -> Volunteer | None:
    return session.scalar(select(Volunteer).where(Volunteer.name == name))


_VOLUNTEER_BY_TOKEN = select(_TOKENS.c.volunteer_id).where(
    _TOKENS.c.sha256 == bindparam("sha256"), _TOKENS.c.revoked_at.is_(None)
)


def find_volunteer_by_token(session: Session, token_sha256: str) -> int | None:
    """The id of the volunteer whose unrevoked token has this hash."""
    volunteer_id: int | None = session.scalar(_VOLUNTEER_BY_TOKEN, {"sha256": token_sha256})
    return volunteer_id
