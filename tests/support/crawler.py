"""A reverse proxy in this process that serves a coordinator below a path, and a crawler of its pages."""

import re
from collections import Counter, deque
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ADDRESSES = ("href", "src", "action", "data-source", "poster", "srcset", "formaction")
SAME_SHAPE = 2
"""Pages that are read of each shape, as `/experiments/N`. Their links are checked all the same."""


class PathProxy:
    """Passes requests below `prefix` on, with or without it; every other address belongs to somebody else."""

    def __init__(self, app: ASGIApp, prefix: str, *, removes: bool) -> None:
        self._app, self._prefix, self._removes = app, prefix, removes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not scope["path"].startswith(f"{self._prefix}/"):
                await PlainTextResponse("another program", 418)(scope, receive, send)
                return
            if self._removes:
                path = scope["path"].removeprefix(self._prefix)
                scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ADDRESSES and value]


def list_addresses(html: str, base: str) -> list[str]:
    """The addresses that a page names, absolute and without fragments."""
    parser = _Addresses()
    parser.feed(html)
    return [urldefrag(urljoin(base, address))[0] for address in parser.found]


def crawl(http: TestClient, *starts: str) -> dict[str, tuple[int, str]]:
    """Follow links on this host. Returns each address's status (0: not asked) and the page that named it."""
    host = urlsplit(starts[0]).netloc
    waiting, seen = deque((start, "") for start in starts), dict.fromkeys(starts, (0, ""))
    shapes = Counter[str]()
    while waiting:
        address, named_by = waiting.popleft()
        shape = re.sub(r"\d+|(?<=/topics/tiny/)[^.]+|(?<==)[^&]*|(?<=/problems/).+", "N", address)
        shapes[shape] += 1
        if shapes[shape] > SAME_SHAPE or address.endswith("/findings"):  # a form's; it needs a project
            continue
        response = http.get(address, headers={"Accept": "text/html,*/*"}, follow_redirects=False)
        seen[address] = response.status_code, named_by
        following = []
        if "location" in response.headers:
            following = [urldefrag(urljoin(address, response.headers["location"]))[0]]
        elif response.headers.get("content-type", "").startswith("text/html"):
            following = list_addresses(response.text, address)
        for found in following:
            if found not in seen and urlsplit(found).netloc == host:
                seen[found] = (0, address)
                waiting.append((found, address))
    return seen
