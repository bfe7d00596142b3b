"""The web server: uvicorn, which lets go of the live feed's open streams when it is told to stop."""

import socket

import uvicorn
from fastapi import FastAPI

from coordinator.activity.feed import Feed


class CoordinatorServer(uvicorn.Server):
    """uvicorn waits for open responses before it ends the application's lifespan, and a stream of events never
    ends by itself: so the feed is closed first. `config.app` is the coordinator's application."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: streams end at once, other requests get the grace that the configuration gives."""
        assert isinstance(self.config.app, FastAPI)
        feed = self.config.app.state.feed
        assert isinstance(feed, Feed)
        feed.close()
        await super().shutdown(sockets)
