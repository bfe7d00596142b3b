"""ASGI middleware: cache and page headers, a limit on bodies, security headers, reading with a token only."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import parse_qsl, urlencode

from anyio import to_thread
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.accounts import service as accounts
from coordinator.accounts.service import UnauthorizedError
from coordinator.db.database import Database
from coordinator.http.errors import BodyTooLargeError, problem_response
from shared.protocol import API_PREFIX

JSON = "application/json"
NOT_MODIFIED = 304
_NEXT = re.compile(rb'"next_cursor":"([^"]+)"}$')
"""A page's last field. Only the end of a body is searched, so that large pages are not parsed."""


class AnswerHeaders:
    """Adds `ETag` and a `Link` to the next page to the API's JSON answers to GET.

    Streams (events, exports, packs) pass untouched: only answers of the type `application/json` are held back until
    they are complete.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_read = scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith(API_PREFIX)
        await (_Answer(self._app, scope, receive, send).run() if is_read else self._app(scope, receive, send))


class _Answer:
    """One answer. `_start` is its first message while it is held back."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._app, self._scope, self._receive, self._send = app, scope, receive, send
        self._start: Message | None = None
        self._parts: list[bytes] = []

    async def run(self) -> None:
        await self._app(self._scope, self._receive, self._take)

    async def _take(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_json(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._finish(self._start, b"".join(self._parts))

    async def _finish(self, start: Message, body: bytes) -> None:
        query = dict(parse_qsl(self._scope["query_string"].decode("latin-1"), keep_blank_values=True))
        following = _NEXT.search(body[-200:])
        headers = MutableHeaders(raw=list(start["headers"]))
        tag = f'"{sha256(body).hexdigest()[:32]}"'
        headers["ETag"] = tag
        headers.setdefault("Cache-Control", "no-cache")
        if following:
            address = f"{self._scope['path']}?{urlencode(query | {'cursor': following[1].decode()})}"
            headers["Link"] = f'<{address}>; rel="next"'
        status = start["status"]
        if tag in _known_tags(self._scope):
            status, body = NOT_MODIFIED, b""
            del headers["Content-Type"]
        headers["Content-Length"] = str(len(body))
        await self._send({"type": "http.response.start", "status": status, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})


def _is_json(message: Message) -> bool:
    headers = dict(message["headers"])
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().decode("latin-1")
    return bool(message["status"] == 200 and media_type == JSON)


def _known_tags(scope: Scope) -> set[str]:
    """The tags in `If-None-Match`. A weak tag counts too, since whole bodies are compared."""
    given = dict(scope["headers"]).get(b"if-none-match", b"").decode("latin-1")
    return {part.strip().removeprefix("W/") for part in given.split(",")}


class BodyLimit:
    """Answers 413 as soon as a body is known to be larger than `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            _check_announced(dict(scope["headers"]), self.max_bytes)
        except BodyTooLargeError:
            await self.refuse(scope, receive, send)
            return
        await _Bounded(self, scope, receive, send).run()

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await problem_response(_too_large(self.max_bytes).to_problem())(scope, receive, send)


def _check_announced(headers: Mapping[bytes, bytes], max_bytes: int) -> None:
    announced = headers.get(b"content-length", b"0")
    if not announced.isdigit() or int(announced) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"A body has at most {max_bytes} bytes.")


class _Bounded:
    """One request whose body is counted as it arrives.

    The application may turn the error about a long body into an answer of its own, so this replaces that answer
    instead of catching the error.
    """

    def __init__(self, limit: BodyLimit, scope: Scope, receive: Receive, send: Send) -> None:
        self._limit, self._scope, self._receive, self._send = limit, scope, receive, send
        self._received = 0
        self._refused = False

    async def run(self) -> None:
        await self._limit.app(self._scope, self._count, self._answer)

    @property
    def _too_large(self) -> bool:
        return self._received > self._limit.max_bytes

    async def _count(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._too_large:
            raise BodyTooLargeError("the body went on past its limit")
        return message

    async def _answer(self, message: Message) -> None:
        if not self._too_large:
            await self._send(message)
        elif not self._refused:
            self._refused = True
            await self._limit.refuse(self._scope, self._receive, self._send)


CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # plotly writes style elements and attributes; it offers no nonce
        "img-src 'self' data: blob:",  # plotly's modebar exports the plot as an image
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
)
"""Headers of every response; no other part of the application sets them."""


class SecurityHeaders:
    """Allows scripts of this origin only, no content sniffing, and no referrer to other sites."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


OPEN = (f"{API_PREFIX}/versions", f"{API_PREFIX}/accounts", "/static/", "/problems")
"""Addresses that stay open: versions, sign-up, static files, and the meaning of errors."""

CHALLENGE = {"WWW-Authenticate": 'Basic realm="research swarm: any name, a token as the password", Bearer'}


class ClosedReading:
    """Refuses requests without a valid token where reading is not public."""

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
