"""Questions about accounts."""

from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from coordinator.models import Token, Volunteer


def count_volunteers_since(session: Session, moment: datetime) -> int:
    return session.scalar(select(func.count()).select_from(Volunteer).where(Volunteer.created_at >= moment)) or 0


def find_volunteer(session: Session, name: str) -> Volunteer | None:
    return session.scalar(select(Volunteer).where(Volunteer.name == name))


_VOLUNTEER_BY_TOKEN = select(Token.volunteer_id).where(Token.sha256 == bindparam("sha256"), Token.revoked_at.is_(None))


def find_volunteer_by_token(session: Session, token_sha256: str) -> int | None:
    """The id of the volunteer whose unrevoked token has this hash."""
    return session.scalar(_VOLUNTEER_BY_TOKEN, {"sha256": token_sha256})
