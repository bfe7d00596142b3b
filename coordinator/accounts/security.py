"""Who sent this request: the dependency that handlers ask for."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from coordinator.accounts import service
from coordinator.db import ReadSession

_bearer = HTTPBearer(
    auto_error=False, description="A volunteer's token, as `swarm-coordinator create-token` prints it."
)


def _volunteer_id(
    session: ReadSession, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> int:
    return service.authenticate(session, credentials.credentials if credentials else None).id


VolunteerId = Annotated[int, Depends(_volunteer_id)]
"""The id of the volunteer who sent the request. Without a valid token: 401."""
