"""ASGI middleware: reading from other sites, limits on bodies, and reading for accounts only."""

from asyncio import get_running_loop, timeout_at
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Sequence
from time import monotonic

from anyio import to_thread
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.accounts.permissions import AccountStoppedError, Permission, check
from coordinator.accounts.service import UnauthorizedError, authorize
from coordinator.db.database import Database
from coordinator.http.errors import BodyTooLargeError, BodyTooSlowError, SwarmError, problem_response
from coordinator.http.prefix import read_path
from coordinator.web.errors import answer_error, wants_page
from coordinator.web.sessions import SignInNeededError, look_up_visit
from shared.protocol import API_PREFIX

Refusal = UnauthorizedError | AccountStoppedError
PREFLIGHT_SECONDS = 86_400
"""Time for which a browser may keep the answer about what it may ask for."""

SAFE = ("GET", "HEAD")
"""Methods for which the cookie of a session counts; other requests to the API are signed with a token."""


class ReadableElsewhere(CORSMiddleware):
    """Lets pages of other sites read the API, as nobody: no cookie is sent, and none would count."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=SAFE, allow_headers=["Authorization", "If-None-Match"],
            expose_headers=["ETag", "Link", "X-Request-Id", "Retry-After"], max_age=PREFLIGHT_SECONDS,
        )  # fmt: skip
        self._direct = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = read_path(scope) if scope["type"] == "http" and scope["method"] != "POST" else ""
        is_read = path.startswith(f"{API_PREFIX}/") or path.endswith(".json")
        await (super().__call__ if is_read else self._direct)(scope, receive, send)


class BodyLimit:
    """Answers 413 as soon as a body is known to be larger than `max_bytes`, and 408 if all of it takes longer than
    `seconds`.

    The application may turn the error about a body into an answer of its own, so this replaces that answer instead of
    catching the error.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received, is_whole, is_refused = 0, False, False
        refusal: BodyTooLargeError | BodyTooSlowError | None = None
        deadline = get_running_loop().time() + self._seconds

        async def count() -> Message:
            nonlocal received, is_whole, refusal
            try:
                async with timeout_at(None if is_whole else deadline):  # after the body a receive waits for the end
                    message = await receive()
            except TimeoutError as error:
                refusal = BodyTooSlowError(f"A body has to arrive within {self._seconds:g} s.")
                raise refusal from error
            is_whole = is_whole or not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                refusal = self._make_error()
                raise refusal
            return message

        async def answer(message: Message) -> None:
            nonlocal is_refused
            if refusal is None:
                await send(message)
            elif not is_refused:
                is_refused = True
                await problem_response(refusal.to_problem(), refusal.headers)(scope, receive, send)

        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) <= self._max_bytes:
            await self._app(scope, count, answer)
        else:
            await problem_response(self._make_error().to_problem())(scope, receive, send)

    def _make_error(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"A body has at most {self._max_bytes} bytes.")


OPEN = ("/static/", "/problems/", "/me/")
OPEN_EXACTLY = frozenset({
    f"{API_PREFIX}/versions", f"{API_PREFIX}/accounts", f"{API_PREFIX}/sign-in", "/problems", "/healthz", "/readyz",
    "/robots.txt", "/metrics", "/sign-in", "/sign-out", "/join", "/me",
})  # fmt: skip
"""Addresses that stay open: versions, the ways in, one's own account, static files, the meaning of errors, and what
monitoring asks for; metrics want a token of their own."""

CHECK_AGAIN_SECONDS = 30.0
"""Seconds after which the token of a stream is checked again; a live feed says something every 15."""

GIT = "/git/"
GIT_CHALLENGE = {"WWW-Authenticate": 'Basic realm="research swarm: any name, a token as the password", Bearer'}
"""git asks its user for a name and a password. Browsers would, too, so other addresses do not say this."""


class ClosedReading:
    """Refuses all but approved accounts where reading is not public: pages want a session, programs a bearer token, and
    git may send a token as the password."""

    def __init__(self, app: ASGIApp, database: Database) -> None:
        self._app = app
        self._database = database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (path := read_path(scope)) in OPEN_EXACTLY or path.startswith(OPEN):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        refusal = await self._find_refusal(request)
        if refusal is not None:
            await _answer_refusal(request, refusal)(scope, receive, send)
            return
        request.state.is_personal = True
        checked_at, is_over = monotonic(), False

        async def send_while_valid(message: Message) -> None:
            """Ends a stream whose token was revoked, whatever the application still sends."""
            nonlocal checked_at, is_over
            if not is_over and monotonic() - checked_at > CHECK_AGAIN_SECONDS:
                checked_at = monotonic()
                is_over = await self._find_refusal(request) is not None
                if is_over and message["type"] == "http.response.body":
                    await send({"type": "http.response.body", "body": b""})
            if not is_over:
                await send(message)

        await self._app(scope, receive, send_while_valid)

    async def _find_refusal(self, request: Request) -> Refusal | None:
        return await to_thread.run_sync(self._check, request)

    def _check(self, request: Request) -> Refusal | None:
        authorization = request.headers.get("authorization", "")
        is_basic = authorization[:6].lower() == "basic "
        token = read_token(authorization) if not is_basic or read_path(request.scope).startswith(GIT) else None
        visit = look_up_visit(request) if token is None and request.method in SAFE else None
        try:
            if visit is not None:
                check(visit.account, Permission.READ)
                return None
            with self._database.read() as session:
                authorize(session, token, Permission.READ)
        except (UnauthorizedError, AccountStoppedError) as error:
            return error
        return None


class SnapshotReadOnlyError(SwarmError, status=405, title="This is a snapshot"):
    """A snapshot is what was at one moment: it is read, and never changed."""


READ_BY_POST = f"{API_PREFIX}/findings/tried"


class ReadOnly:
    """Refuses all that would change a snapshot; `words` name it. git and questions read by POST."""

    def __init__(self, app: ASGIApp, words: str) -> None:
        self._app, self._words = app, words

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] in (*SAFE, "OPTIONS")
            or (path := read_path(scope)) == READ_BY_POST
            or path.startswith(GIT)
        ):
            await self._app(scope, receive, send)
        else:
            error = SnapshotReadOnlyError(f"{self._words}: it is read only. Write to the swarm itself.")
            await answer_error(Request(scope), error)(scope, receive, send)


def _answer_refusal(request: Request, refusal: Refusal) -> Response:
    if not isinstance(refusal, UnauthorizedError):
        return answer_error(request, refusal)
    if read_path(request.scope).startswith(GIT):
        return problem_response(refusal.to_problem(), GIT_CHALLENGE)
    is_page = wants_page(request)
    return answer_error(request, SignInNeededError("Reading is for accounts here.") if is_page else refusal)


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
