"""Questions about accounts."""

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from coordinator.models import Token, Volunteer


def find_volunteer(session: Session, name: str) -> Volunteer | None:
    return session.scalar(select(Volunteer).where(Volunteer.name == name))


_VOLUNTEER_BY_TOKEN = select(Token.volunteer_id).where(Token.sha256 == bindparam("sha256"), Token.revoked_at.is_(None))


def find_volunteer_by_token(session: Session, token_sha256: str) -> int | None:
    """The id of the volunteer whose unrevoked token has this hash."""
    return session.scalar(_VOLUNTEER_BY_TOKEN, {"sha256": token_sha256})
