"""Adds `ETag` and a `Link` to the next page to the API's JSON answers.

ASGI middleware around GET requests below the API's prefix. Streams (events, exports, packs) pass untouched: only
answers of the type `application/json` are held back until they are whole.
"""

import re
from hashlib import sha256
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.protocol import API_PREFIX

JSON = "application/json"
NOT_MODIFIED = 304
_NEXT = re.compile(rb'"next_cursor":"([^"]+)"}$')
"""A page's last field; looked for at its end, so that large pages are not parsed for it."""


class Answers:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_read = scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith(API_PREFIX)
        await (_Answer(self._app, scope, receive, send).run() if is_read else self._app(scope, receive, send))


class _Answer:
    """One answer. `_start` is its beginning while it is held back."""

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
    """What the client has, as `If-None-Match` says; a weak tag is as good, since bodies are compared whole."""
    given = dict(scope["headers"]).get(b"if-none-match", b"").decode("latin-1")
    return {part.strip().removeprefix("W/") for part in given.split(",")}
