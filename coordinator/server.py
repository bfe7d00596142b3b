"""The web server: uvicorn, which lets go of the live feed's open streams when it is told to stop."""

import socket

import uvicorn
from fastapi import FastAPI

from coordinator.activity.feed import Feed

GRACE_SECONDS = 2
"""How long requests may take to finish after the server was told to stop."""


class CoordinatorServer(uvicorn.Server):
    """uvicorn waits for open responses before it ends the application's lifespan, and a stream of events never
    ends by itself: so the feed is closed first."""

    def __init__(self, app: FastAPI, host: str, port: int, log_level: str = "warning") -> None:
        super().__init__(
            uvicorn.Config(
                app, host=host, port=port, log_level=log_level, timeout_graceful_shutdown=GRACE_SECONDS, lifespan="on"
            )
        )
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: streams end at once, other requests get their grace."""
        feed = self._app.state.feed
        assert isinstance(feed, Feed)
        feed.close()
        await super().shutdown(sockets)
