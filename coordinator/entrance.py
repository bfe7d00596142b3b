"""The door that workers' requests come through: straight to their route, past what only others need.

FastAPI's own way to a route (its instruments, a stack for exits, middlewares that look at each message, the search
through all routes) takes longer than a heartbeat's whole work. What is not a job's request goes that way. What
comes through here has the bound on its body from its route, and its headers and answers to errors from here.
"""

from collections.abc import Mapping
from inspect import iscoroutinefunction
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from coordinator.http.headers import SECURITY_HEADERS
from coordinator.leases.api import jobs
from coordinator.leases.routing import JobRoute
from shared.protocol import API_PREFIX

_LEASES = f"{API_PREFIX}/leases"
_OF_LEASE = f"{_LEASES}/{{lease_id}}/"
_ROUTES = {route.path.removeprefix(_OF_LEASE): route for route in jobs.routes if isinstance(route, JobRoute)}


class EnteredApp(FastAPI):
    """An application with this door."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        found = _find(scope)
        if found is None:
            await super().__call__(scope, receive, send)
            return
        route, scope["path_params"] = found
        scope["app"] = self
        try:
            response = await route.answer(scope, receive)
        except Exception as error:
            handler = self._find_handler(error)
            await _send(await _render(handler, scope, error), scope, receive, send)
            if handler is self.exception_handlers[Exception]:
                raise
        else:
            if response is not None:
                await _send(response, scope, receive, send)

    def _find_handler(self, error: Exception) -> Any:
        return next(self.exception_handlers[kind] for kind in type(error).__mro__ if kind in self.exception_handlers)


def _find(scope: Scope) -> tuple[JobRoute, Mapping[str, str]] | None:
    if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith(_LEASES):
        return None
    path: str = scope["path"]
    if path == _LEASES:
        return _ROUTES[_LEASES], {}
    lease_id, slash, action = path[len(_LEASES) + 1 :].partition("/")
    route = _ROUTES.get(action) if slash else None
    return None if route is None else (route, {"lease_id": lease_id})


async def _render(handler: Any, scope: Scope, error: Exception) -> Response:
    answer = handler(Request(scope), error)
    response = await answer if iscoroutinefunction(handler) else answer
    assert isinstance(response, Response)
    return response


async def _send(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    response.raw_headers.extend(SECURITY_HEADERS)
    await response(scope, receive, send)
