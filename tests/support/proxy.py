"""Proxies on loopback: one loses, truncates and repeats messages, one holds chosen requests."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import cycle
from typing import TypeVar

from tests.support.ledger import Ledger

AnyProxy = TypeVar("AnyProxy", bound="Proxy")

BUFFER_BYTES = 65_536
TIMEOUT_SECONDS = 60.0


class Fault(StrEnum):
    """A fault of the network, as it happens to one request."""

    PASS = "pass"
    LOSE_ANSWER = "lose the answer"
    CUT_REQUEST = "cut the request short"
    SEND_TWICE = "send it twice, answer the second"


PATTERN = (
    Fault.PASS, Fault.LOSE_ANSWER, Fault.SEND_TWICE, Fault.PASS, Fault.CUT_REQUEST,
    Fault.LOSE_ANSWER, Fault.SEND_TWICE,
)  # fmt: skip
"""Seven long, so that it falls differently on each round of a job's requests."""


class Proxy:
    """Forwards each request on its own connection. Subclasses with faults override `_relay`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _answer(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(TIMEOUT_SECONDS)
            self._relay(client, _read_request(client))

    def _relay(self, client: socket.socket, request: bytes) -> None:
        client.sendall(self._ask(request))

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(self._target, TIMEOUT_SECONDS) as server:
            server.sendall(request)
            return b"".join(iter(lambda: server.recv(BUFFER_BYTES), b""))


class FaultyProxy(Proxy):
    """Applies the faults in turn. Clients must not keep connections alive."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self._pattern = cycle(PATTERN)
        self.done: dict[Fault, int] = dict.fromkeys(Fault, 0)

    def _relay(self, client: socket.socket, request: bytes) -> None:
        fault = next(self._pattern)
        self.done[fault] += 1
        if fault is Fault.CUT_REQUEST:
            with socket.create_connection(self._target, TIMEOUT_SECONDS) as server:
                server.sendall(request[: len(request) * 2 // 3])
            return
        answer = self._ask(request)
        if fault is Fault.SEND_TWICE:
            answer = self._ask(request)
        if fault is not Fault.LOSE_ANSWER:
            client.sendall(answer)


class HoldingProxy(Proxy):
    """Holds chosen requests, and records in a ledger which results were sent and which acknowledged."""

    def __init__(self, target: tuple[str, int], ledger: Ledger) -> None:
        super().__init__(target)
        self._ledger = ledger
        self._stops: dict[str, tuple[bool, threading.Event]] = {}

    def hold(self, path_end: str, *, answered: bool) -> threading.Event:
        """Hold the next POST to such a path until its sender is gone: before it arrives, or its answer.

        The event is set when there is one.
        """
        event = threading.Event()
        self._stops[path_end] = answered, event
        return event

    def _relay(self, client: socket.socket, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        path = head.split()[1].decode().rpartition("/")[2]
        answered, held = self._stops.pop(path, (False, None))
        if held is not None and not answered:
            held.set()
            _wait_until_gone(client)
            return
        if path == "result":
            self._ledger.record_sent(body)
        answer = self._ask(request)
        status = int(answer.split()[1])
        if path == "result" and status in (200, 201):
            self._ledger.record_acknowledged(answer.partition(b"\r\n\r\n")[2])
        if held is None:
            client.sendall(answer)
        else:
            held.set()
            _wait_until_gone(client)


def _wait_until_gone(client: socket.socket) -> None:
    client.settimeout(None)
    client.recv(1)


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
def serve_proxy(proxy: AnyProxy) -> Iterator[AnyProxy]:
    """Run a proxy during a block."""
    thread = threading.Thread(target=proxy.serve)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
