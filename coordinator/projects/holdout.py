"""Keys of sealed windows: each `confirm` job gets one of its own, made of a secret that nobody is shown."""

import hmac
import secrets
from hashlib import sha256
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.models import HoldoutSecret, Project
from shared.protocol import now

SECRET_BYTES = 32


def make_secret(session: Session, project_id: int) -> None:
    """Give a project a secret, in the place of the one that it had: keys from before say nothing of those to come."""
    secret = secrets.token_hex(SECRET_BYTES)
    session.merge(HoldoutSecret(project_id=project_id, secret=secret, created_at=now()))
    session.flush()


def derive_key(session: Session, project: Project, sha: str, lease_id: UUID) -> str:
    """The key of one lease on one commit, 64 hexadecimal digits: HMAC-SHA256 of both (RFC 2104)."""
    stored = session.get_one(HoldoutSecret, project.id)
    return hmac.new(bytes.fromhex(stored.secret), f"{sha} {lease_id}".encode(), sha256).hexdigest()
