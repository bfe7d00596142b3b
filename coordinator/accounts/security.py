"""Finds the token of a request, for handlers.

It only takes the token out of its header, which needs no thread of its own; the handler asks `accounts.authenticate`
whose it is, in the session that it has open anyway.
"""

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security.http import HTTPBase
from fastapi.security.utils import get_authorization_scheme_param


def read_bearer(request: Request) -> str | None:
    """The token in `Authorization: Bearer`, not looked at yet; None if there is none."""
    scheme, token = get_authorization_scheme_param(request.headers.get("Authorization"))
    return token if scheme.lower() == "bearer" and token else None


class _TokenHeader(HTTPBase):
    """As `read_bearer`, for handlers that depend on it."""

    async def __call__(self, request: Request) -> str | None:  # type: ignore[override]
        return read_bearer(request)


_SCHEME = "HTTPBearer"
_DESCRIPTION = "A volunteer's token, as `swarm-coordinator create-token` prints it."
BearerToken = Annotated[
    str | None, Depends(_TokenHeader(scheme="bearer", scheme_name=_SCHEME, description=_DESCRIPTION))
]
"""The token that the request came with, not looked at yet; None if it came without."""

SIGNED: dict[str, Any] = {"security": [{_SCHEME: []}]}
"""For the API's document: a handler that calls `read_bearer` itself, because each dependency takes time."""
