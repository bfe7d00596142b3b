"""Finds the token of a request, for handlers.

It only takes the token out of its header, which needs no thread of its own; the handler asks `accounts.authenticate`
whose it is, in the session that it has open anyway.
"""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security.http import HTTPBase
from fastapi.security.utils import get_authorization_scheme_param


class _TokenHeader(HTTPBase):
    """The token in `Authorization: Bearer`, not looked at yet; None if there is none."""

    async def __call__(self, request: Request) -> str | None:  # type: ignore[override]
        scheme, token = get_authorization_scheme_param(request.headers.get("Authorization"))
        return token if scheme.lower() == "bearer" and token else None


_DESCRIPTION = "A volunteer's token, as `swarm-coordinator create-token` prints it."
BearerToken = Annotated[
    str | None, Depends(_TokenHeader(scheme="bearer", scheme_name="HTTPBearer", description=_DESCRIPTION))
]
"""The token that the request came with, not looked at yet; None if it came without."""
