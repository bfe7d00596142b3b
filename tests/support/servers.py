"""A real web server on loopback, in a thread of the test's process."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from fastapi import FastAPI

from coordinator.app import CoordinatorServer
from coordinator.http.heads import BoundedHeads
from shared.protocol import API_PREFIX

START_SECONDS = 120.0
VECTORS_SECONDS = 120.0


class RunningServer:
    """The server and its address; `stop` returns how many seconds it took."""

    def __init__(self, app: FastAPI, http: type[BoundedHeads] = BoundedHeads, limit: int | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=5, http=http, limit_concurrency=limit
        )
        self._server = CoordinatorServer(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})

    def start(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            assert self._thread.is_alive() and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)

    def stop(self) -> float:
        began = time.monotonic()
        self._server.should_exit = True
        self._thread.join()
        return time.monotonic() - began


def wait_for_vectors(url: str) -> None:
    """Waits until searches of this coordinator find everything by its meaning, so that their order is final."""
    deadline = time.monotonic() + VECTORS_SECONDS
    search = f"{url}{API_PREFIX}/findings/search"
    while httpx.get(search, params={"q": "any"}, timeout=VECTORS_SECONDS).json()["waiting_for_vectors"]:
        assert time.monotonic() < deadline, "findings still have no vectors"
        time.sleep(0.05)


@contextmanager
def serve(app: FastAPI, http: type[BoundedHeads] = BoundedHeads, limit: int | None = None) -> Iterator[RunningServer]:
    """Serve an application during the block, with at most `limit` connections."""
    server = RunningServer(app, http, limit)
    server.start()
    try:
        yield server
    finally:
        server.stop()
