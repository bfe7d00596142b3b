"""The door that workers' requests come through: straight to their route, past what only others need.

ASGI middleware. FastAPI's own way to a route (looking through all routes, a stack for exits, middlewares that look at
each message) takes longer than a heartbeat's whole work. What is not a job's request goes that way as before.
"""

from collections.abc import Mapping
from inspect import iscoroutinefunction

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.leases.api import jobs
from coordinator.leases.routing import JobRoute
from shared.protocol import API_PREFIX

_LEASES = f"{API_PREFIX}/leases"
_OF_LEASE = f"{_LEASES}/{{lease_id}}/"


class JobEntrance:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._routes = {
            route.path.removeprefix(_OF_LEASE): route for route in jobs.routes if isinstance(route, JobRoute)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._find(scope)
        if found is None:
            await self._app(scope, receive, send)
            return
        route, scope["path_params"] = found
        try:
            await route.handle(scope, receive, send)
        except Exception as error:  # noqa: BLE001  rendered, or raised again
            await (await _answer(scope, error))(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[JobRoute, Mapping[str, str]] | None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith(_LEASES):
            return None
        path: str = scope["path"]
        if path == _LEASES:
            return self._routes[_LEASES], {}
        lease_id, slash, action = path[len(_LEASES) + 1 :].partition("/")
        route = self._routes.get(action) if slash else None
        return None if route is None else (route, {"lease_id": lease_id})


async def _answer(scope: Scope, error: Exception) -> Response:
    """The answer to an error, by the application's own handlers. Raises it again where it is a mistake of ours."""
    handlers = scope["app"].exception_handlers
    handler = next((handlers[kind] for kind in type(error).__mro__ if kind in handlers), None)
    if handler is None or handler is handlers.get(Exception):
        raise error
    answer = handler(Request(scope), error)
    response = await answer if iscoroutinefunction(handler) else answer
    assert isinstance(response, Response)
    return response
