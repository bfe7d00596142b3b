"""Reading that is closed: a swarm whose pages, API and git remotes only those with a token may read.

ASGI middleware, in place where the settings say so. A token comes as `Authorization: Bearer`, or as the password of
HTTP's basic authentication, which browsers and git ask for by themselves. Who writes is asked for a token anyway.
"""

from base64 import b64decode
from binascii import Error as Base64Error

from anyio import to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.accounts import service as accounts
from coordinator.accounts.service import UnauthorizedError
from coordinator.db.database import Database
from coordinator.http.errors import problem_response
from shared.protocol import API_PREFIX

OPEN = (f"{API_PREFIX}/versions", f"{API_PREFIX}/accounts", "/static/", "/problems")
"""What tells nothing of the research: versions, signing up, the pages' style, what errors mean."""

CHALLENGE = {"WWW-Authenticate": 'Basic realm="research swarm: any name, a token as the password", Bearer'}


class ClosedReading:
    """The middleware."""

    def __init__(self, app: ASGIApp, database: Database) -> None:
        self._app = app
        self._database = database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(OPEN):
            token = read_token(dict(scope["headers"]).get(b"authorization", b"").decode("latin-1"))
            try:
                await to_thread.run_sync(self._check, token)
            except UnauthorizedError as error:
                await problem_response(error.to_problem(), CHALLENGE)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, token: str | None) -> None:
        with self._database.read() as session:
            accounts.authenticate(session, token)


def read_token(authorization: str) -> str | None:
    """The token of an `Authorization` header; None without one."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(value, validate=True).decode().partition(":")[2] or None
    except (Base64Error, UnicodeDecodeError):
        return None
