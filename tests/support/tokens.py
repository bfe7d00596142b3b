"""Tokens of volunteers."""

from sqlalchemy.orm import Session

from coordinator.accounts.service import add_token, find_or_add_account
from shared.workers import TokenScope


def create_token(session: Session, volunteer: str, label: str) -> str:
    """A new token of a volunteer, who is created if need be. It lasts for ever."""
    _, token = add_token(session, find_or_add_account(session, volunteer), label, TokenScope.WORK, None)
    return token
