"""Questions about accounts."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.models import Token, Volunteer


def find_volunteer(session: Session, name: str) -> Volunteer | None:
    return session.scalar(select(Volunteer).where(Volunteer.name == name))


def find_volunteer_by_token(session: Session, token_sha256: str) -> Volunteer | None:
    """The volunteer whose unrevoked token has this hash."""
    return session.scalar(
        select(Volunteer)
        .join(Token, Token.volunteer_id == Volunteer.id)
        .where(Token.sha256 == token_sha256, Token.revoked_at.is_(None))
    )
