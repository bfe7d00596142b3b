"""Begins and ends each request: its id, the headers of its answer, its metrics and its line in the log."""

from time import perf_counter

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.http.headers import REQUEST_ID_HEADER, begin_request, keep_local, list_headers
from coordinator.http.metrics import Metrics
from coordinator.http.prefix import read_path

log = structlog.get_logger()

REDIRECTS = 300
"""The first status of answers that name another address."""


class RequestContext:
    """The outermost middleware that sees every request; with `log_access` it writes a line for each."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, log_access: bool) -> None:
        self._app, self._metrics, self._log_access = app, metrics, log_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, seconds = perf_counter(), 500, 0.0
        begin_request(next((value for name, value in scope["headers"] if name == REQUEST_ID_HEADER), None))

        async def send_with_headers(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], perf_counter() - began
                headers = message["headers"] if status < REDIRECTS else keep_local(message["headers"])
                message["headers"] = [*headers, *list_headers()]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            seconds = seconds or perf_counter() - began
            self._metrics.count(scope, status, seconds)
            if self._log_access:
                log.info(
                    "request", method=scope["method"], path=read_path(scope), status=status,
                    milliseconds=round(1e3 * seconds, 1), client=(scope.get("client") or ("",))[0],
                )  # fmt: skip
