"""A proxy on loopback that loses answers, cuts requests short and sends them twice, by a fixed pattern."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import cycle

BUFFER_BYTES = 65_536
SILENCE_SECONDS = 5.0


class Mischief(StrEnum):
    """What happens to a request."""

    PASS = "pass"
    LOSE_ANSWER = "lose the answer"
    CUT_REQUEST = "cut the request short"
    SEND_TWICE = "send it twice, answer the second"


PATTERN = (
    Mischief.PASS, Mischief.LOSE_ANSWER, Mischief.SEND_TWICE, Mischief.PASS, Mischief.CUT_REQUEST,
    Mischief.LOSE_ANSWER, Mischief.SEND_TWICE,
)  # fmt: skip
"""Seven long, so that it falls differently on each round of a job's requests."""


class BadProxy:
    """One connection to it carries one request (clients must not keep connections alive)."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pattern = cycle(PATTERN)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.done: dict[Mischief, int] = dict.fromkeys(Mischief, 0)

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client, next(self._pattern)), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _relay(self, client: socket.socket, mischief: Mischief) -> None:
        self.done[mischief] += 1
        with client, suppress(OSError):
            client.settimeout(SILENCE_SECONDS)
            request = _read_request(client)
            if mischief is Mischief.CUT_REQUEST:
                with socket.create_connection(self._target, SILENCE_SECONDS) as server:
                    server.sendall(request[: len(request) * 2 // 3])
                return
            answer = self._ask(request)
            if mischief is Mischief.SEND_TWICE:
                answer = self._ask(request)
            if mischief is not Mischief.LOSE_ANSWER:
                client.sendall(answer)

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(self._target, SILENCE_SECONDS) as server:
            server.sendall(request)
            return b"".join(iter(lambda: server.recv(BUFFER_BYTES), b""))


def _read_request(client: socket.socket) -> bytes:
    """A whole request with `Content-Length`, asked to close its connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = client.recv(BUFFER_BYTES)
        if not chunk:
            raise ConnectionResetError("the client went away")
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    lengths = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")]
    while lengths and len(body) < lengths[0]:
        body += client.recv(BUFFER_BYTES)
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body


@contextmanager
def bad_proxy(target: tuple[str, int]) -> Iterator[BadProxy]:
    proxy = BadProxy(target)
    thread = threading.Thread(target=proxy.serve)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
