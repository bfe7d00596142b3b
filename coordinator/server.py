"""The web server: uvicorn, which lets go of the live feed's open streams when it is told to stop."""

import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from coordinator.events.feed import Feed


class CoordinatorServer(uvicorn.Server):
    """uvicorn waits for open responses before it ends the application's lifespan, and a stream of events never
    ends by itself: so the feed is closed first. `config.app` is the coordinator's application."""

    was_interrupted = False
    """Whether Ctrl-C asked it to stop. Event loops differ in whether `run` then returns or raises."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal; uvicorn stops at its next tick."""
        self.was_interrupted |= sig == signal.SIGINT
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: streams end at once, other requests get the grace that the configuration gives."""
        assert isinstance(self.config.app, FastAPI)
        feed = self.config.app.state.feed
        assert isinstance(feed, Feed)
        feed.close()
        await super().shutdown(sockets)
