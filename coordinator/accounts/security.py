"""Finds the token of a request, for handlers.

It only takes the token out of its header, which needs no thread of its own; the handler asks `accounts.authenticate`
whose it is, in the session that it has open anyway.
"""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

_bearer = HTTPBearer(
    auto_error=False, description="A volunteer's token, as `swarm-coordinator create-token` prints it."
)


async def _bearer_token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str | None:
    return credentials.credentials if credentials else None


BearerToken = Annotated[str | None, Depends(_bearer_token)]
"""The token that the request came with, not looked at yet; None if it came without."""
