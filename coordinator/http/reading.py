"""Answers to GET and HEAD: tags of what a client may have already, links to the next page, compression."""

import re
from asyncio import Event
from hashlib import sha256
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON = "application/json"
TAGGED = (JSON, "text/html", "text/markdown", "application/atom+xml")
"""Media types whose answers are held back until they are complete; streams (events, exports, packs) are not."""

EVENTS = "text/event-stream"

COMPRESSED = (
    *DEFAULT_EXCLUDED_CONTENT_TYPES,
    "application/vnd.apache.parquet",
    "application/x-git-bundle",
    "application/x-git-packed-objects",
)
SMALLEST_COMPRESSED_BYTES = 1_000
COMPRESSION_LEVEL = 5
"""gzip's default of 9 takes three times as long, for 2 % fewer bytes."""

NOT_MODIFIED = 304
_NEXT = re.compile(rb'"next_cursor":"([^"]+)"}$')
"""A page's last field. Only the end of a body is searched, so that large pages are not parsed."""

_MOMENT = re.compile(rb'"as_of":"[^"]+"')
"""The moment at which an answer was put together: one that differs in nothing else is not another one."""


class Reading:
    """Lets HEAD work wherever GET does, compresses large answers and tags them. Other methods pass it by."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._reading = GZipMiddleware(
            AnswerTags(app), SMALLEST_COMPRESSED_BYTES, COMPRESSION_LEVEL, exclude_content_types=COMPRESSED
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif scope["method"] == "GET":
            await self._reading(scope, receive, send)
        else:
            await self._answer_head(scope, send)

    async def _answer_head(self, scope: Scope, send: Send) -> None:
        """Answer as to GET, without the body. A stream is told at its first chunk that its reader is gone."""
        as_get = {**scope, "method": "GET"}
        was_read, is_answered = False, Event()

        async def receive() -> Message:
            nonlocal was_read
            if not was_read:
                was_read = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await is_answered.wait()
            return {"type": "http.disconnect"}

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
            if message["type"] == "http.response.body" or _has_media_type(message, EVENTS):
                is_answered.set()

        await self._reading(as_get, receive, send_headers)
        scope["route"] = as_get.get("route")  # for the metrics


class AnswerTags:
    """Adds `ETag` and a `Link` to the next page to whole documents."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message | None = None
        body = bytearray()

        async def hold(message: Message) -> None:
            nonlocal start
            if (
                message["type"] == "http.response.start"
                and message["status"] == 200
                and _has_media_type(message, *TAGGED)
            ):
                start = message
            elif start is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    for complete in _add_headers(scope, start, bytes(body)):
                        await send(complete)

        await self._app(scope, receive, hold)


def _add_headers(scope: Scope, start: Message, body: bytes) -> tuple[Message, Message]:
    """The messages of a whole answer. Its tag is weak, since it may be sent compressed and as it is."""
    following = _NEXT.search(body[-200:])
    headers = MutableHeaders(raw=list(start["headers"]))
    tag = f'"{sha256(_MOMENT.sub(b"", body)).hexdigest()[:32]}"'
    headers["ETag"] = f"W/{tag}"
    headers.setdefault("Cache-Control", "no-cache")
    if following:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        kept = [(name, value) for name, value in query if name != "cursor"]
        address = f"{quote(scope['path'])}?{urlencode([*kept, ('cursor', following[1].decode())])}"
        headers["Link"] = f'<{address}>; rel="next"'
    status = start["status"]
    if tag in _known_tags(scope):
        status, body = NOT_MODIFIED, b""
        del headers["Content-Type"]
    headers["Content-Length"] = str(len(body))
    start = {"type": "http.response.start", "status": status, "headers": headers.raw}
    return start, {"type": "http.response.body", "body": body}


def _has_media_type(start: Message, *wanted: str) -> bool:
    media_type = dict(start["headers"]).get(b"content-type", b"").partition(b";")[0].strip().decode("latin-1")
    return media_type in wanted


def _known_tags(scope: Scope) -> set[str]:
    """The tags in `If-None-Match`, of which one may be weak, as are ours."""
    given = dict(scope["headers"]).get(b"if-none-match", b"").decode("latin-1")
    return {part.strip().removeprefix("W/") for part in given.split(",")}
