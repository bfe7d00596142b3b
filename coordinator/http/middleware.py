"""What every JSON answer of the API has besides its body: `ETag`, `Link` to the next page, and `?fields=`.

ASGI middleware around GET requests below the API's prefix. Streams (events, exports, packs) pass untouched: only
answers of the type `application/json` are held back until they are whole.
"""

import json
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.http.errors import SwarmError, problem_response
from shared.protocol import API_PREFIX

JSON = "application/json"
SPARSE_JSON = "application/vnd.swarm.sparse+json"
"""What an answer with `?fields=` is: no document of the described form, since parts of it are missing."""

NOT_MODIFIED = 304
_NEXT = re.compile(rb'"next_cursor":"([^"]+)"}$')
"""A page's last field; looked for at its end, so that large pages are not parsed for it."""

Json = dict[str, Any]


class FieldsUnknownError(SwarmError):
    """`fields` names what these documents do not have."""

    status = 422
    code = "fields-unknown"
    title = "There are no such fields"


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
        if "fields" in query:
            try:
                body = select_fields(body, query["fields"].split(","))
            except FieldsUnknownError as error:
                await problem_response(error.to_problem())(self._scope, self._receive, self._send)
                return
        headers = MutableHeaders(raw=list(start["headers"]))
        if "fields" in query:
            headers["Content-Type"] = SPARSE_JSON
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


def select_fields(body: bytes, wanted: Iterable[str]) -> bytes:
    """A document, or the items of a page, with the wanted fields only: `id`, or `posterior.effect_mean` within one.

    Raises FieldsUnknownError for a field that none of the documents has.
    """
    document = json.loads(body)
    is_page = isinstance(document, dict) and "items" in document and "next_cursor" in document
    items: list[Json] = document["items"] if is_page else [document]
    paths = [path for path in (name.strip().split(".") for name in wanted) if path != [""]]
    missing = [".".join(path) for path in paths if items and not any(_has(item, path) for item in items)]
    if missing:
        known = ", ".join(sorted({name for item in items[:1] for name in item}))
        raise FieldsUnknownError(f"{', '.join(missing)} is not among them: {known}.")
    chosen = [_choose(item, paths) for item in items]
    return json.dumps(document | {"items": chosen} if is_page else chosen[0], separators=(",", ":")).encode()


def _has(item: Any, path: list[str]) -> bool:
    """Whether a field is there; below one that is null anything may be."""
    if not path or item is None:
        return True
    return isinstance(item, dict) and path[0] in item and _has(item[path[0]], path[1:])


def _choose(item: Json, paths: list[list[str]]) -> Json:
    chosen: Json = {}
    for name, *rest in paths:
        value = item.get(name)
        if rest and isinstance(value, dict):
            chosen[name] = chosen.get(name, {}) | _choose(value, [rest])
        else:
            chosen[name] = value
    return chosen
