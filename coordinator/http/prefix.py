"""The path below which the coordinator stands, as `/swarm`: requests lose it, addresses in answers get it."""

from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send

_prefix: ContextVar[str] = ContextVar("path prefix", default="")


def root() -> str:
    """The prefix of every address in the answer to the current request: empty, or with a slash at its beginning."""
    return _prefix.get()


def read_path(scope: Scope) -> str:
    """A request's path without the prefix."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("app_root_path", scope.get("root_path", "")))


class PathPrefix:
    """Tells the application of its prefix.

    The reverse proxy may remove the prefix from what it passes on, or leave it there. Requests on this machine may
    leave it out, too.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path != self._prefix and not path.startswith(f"{self._prefix}/"):
                path = self._prefix + path
            scope = {**scope, "root_path": self._prefix, "path": path}
            _prefix.set(self._prefix)
        await self._app(scope, receive, send)
