"""HTTP to an application in this process, without a socket and with few changes of thread: for simulations.

`TestClient` runs the application's loop in another thread and changes threads several times a request; here the loop
stands still between requests, and so do the application's background tasks.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi import FastAPI


class InProcess(httpx.BaseTransport):
    """Requests become calls of the application, one after the other."""

    def __init__(self, app: FastAPI, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        messages: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        self._loop.run_until_complete(self._app(_scope_of(request), receive, send))
        start, *parts = messages
        content = b"".join(part.get("body", b"") for part in parts)
        return httpx.Response(start["status"], headers=start["headers"], content=content)


def _scope_of(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "raw_path": request.url.raw_path,
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


@contextmanager
def open_client(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of an application that is started and, at the end, shut down."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        lifespan = app.router.lifespan_context(app)
        loop.run_until_complete(lifespan.__aenter__())
        try:
            with httpx.Client(transport=InProcess(app, loop), base_url="http://swarm", timeout=None) as client:
                yield client
        finally:
            loop.run_until_complete(lifespan.__aexit__(None, None, None))
