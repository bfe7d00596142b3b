"""An open coordinator meets slow bodies, other hosts' names and forged addresses. On a real server."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from pathlib import Path
from select import select
from typing import ClassVar

import httpx
import pytest

from coordinator.app import create_app
from coordinator.http.heads import MAX_HEAD_BYTES, BoundedHeads
from coordinator.settings import MIB, CoordinatorSettings
from tests.support.databases import SqliteFolder
from tests.support.servers import RunningServer, serve

SECONDS = 60
BODY_SECONDS = 2.0
SLOW_CLIENTS = 40
PLACES = 2


@pytest.fixture
def server(tmp_path: Path, sqlite_folder: SqliteFolder) -> Iterator[RunningServer]:
    settings = CoordinatorSettings(
        database_url=sqlite_folder.create_migrated(tmp_path), public_url="https://swarm.example.org",
        max_body_seconds=BODY_SECONDS, listeners_per_address=PLACES,
    )  # fmt: skip
    with serve(create_app(settings)) as server:
        yield server


def connect(server: RunningServer, *sent: str) -> socket.socket:
    address = httpx.URL(server.url)
    connection = socket.create_connection((address.host, address.port), SECONDS)
    connection.sendall("\r\n".join(sent).encode())
    return connection


def test_bodies_that_come_byte_by_byte_are_ended_and_hold_up_nobody(server: RunningServer) -> None:
    paths = ["/api/v1/accounts", "/api/v1/leases"]
    with ExitStack() as stack, httpx.Client(base_url=server.url, timeout=SECONDS) as http:
        slow = [
            stack.enter_context(connect(server, f"POST {paths[number % 2]} HTTP/1.1", "Host: x",
                                        "Content-Type: application/json", "Content-Length: 400", "", "{"))
            for number in range(SLOW_CLIENTS)
        ]  # fmt: skip
        headers_only = [stack.enter_context(connect(server, "GET / HTTP/1.1", "X-Slow: ")) for _ in range(SLOW_CLIENTS)]
        made = http.post("/api/v1/accounts", json={"name": "ada"})
        assert made.status_code == 201, "others are served meanwhile"
        for _ in range(3):
            for connection in set(slow) - set(select(slow, [], [], 0)[0]):  # those that were not ended meanwhile
                connection.sendall(b" ")
        for connection in slow:
            answer = b"".join(iter(lambda one=connection: one.recv(65_536), b""))  # until the server ends it
            assert answer.startswith(b"HTTP/1.1 408 ") and b"/problems/body-too-slow" in answer
        for connection in headers_only:
            connection.sendall(b"x\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"


LINES = ("Host: x", "Content-Type: application/json", "Transfer-Encoding: chunked", "", "1", "{", "0", "X-Long: ")


@pytest.mark.parametrize(
    "lines", [("GET /?",), ("GET / HTTP/1.1", "X-Long: "), ("POST /api/v1/accounts HTTP/1.1", *LINES)],
    ids=["address", "header", "trailer"],
)  # fmt: skip
def test_a_head_without_end_is_ended(server: RunningServer, lines: tuple[str, ...]) -> None:
    """Whoever sends gigabytes of one header must not have the coordinator keep them."""
    with connect(server, *lines) as connection:
        sent, is_ended = 0, False
        while not is_ended and sent < 4 * MIB:
            try:
                sent += connection.send(b"a" * MIB)
                is_ended = bool(select([connection], [], [], 0.01)[0])
            except ConnectionError:
                is_ended = True
        try:
            answer = connection.recv(12)
        except ConnectionError:  # it was closed while more came
            answer = b""
        assert answer in (b"", b"HTTP/1.1 400")


class ShortHeads(BoundedHeads):
    pass


def test_a_head_that_does_not_come_holds_no_connection(tmp_path: Path, sqlite_folder: SqliteFolder) -> None:
    """A stranger with a thousand of them must not use up the files that the coordinator may open."""
    settings = CoordinatorSettings(database_url=sqlite_folder.create_migrated(tmp_path))
    whole = ("GET /healthz HTTP/1.1", "Host: x", "", "")
    with serve(create_app(settings), ShortHeads) as server, ExitStack() as stack:
        kept = stack.enter_context(connect(server, *whole))
        assert kept.recv(12) == b"HTTP/1.1 200"
        stream = stack.enter_context(httpx.stream("GET", f"{server.url}/api/v1/events", timeout=SECONDS))
        ShortHeads.head_seconds = 0.2
        slow = [kept, *(stack.enter_context(connect(server, *sent)) for sent in ((), ("GET / HTTP/1.1", "X-Slow: ")))]
        kept.sendall(b"GET /")
        for connection in slow:
            while connection.recv(65_536):  # until the server ends it
                pass
        assert next(stream.iter_raw()), "an answer may take longer"


class FewConnections(BoundedHeads):
    _waiting: ClassVar[dict[BoundedHeads, None]] = {}


def test_connections_that_wait_make_room_for_new_ones(tmp_path: Path, sqlite_folder: SqliteFolder) -> None:
    """Strangers who hold all connections must not shut others out; who is being answered keeps its own."""
    settings = CoordinatorSettings(database_url=sqlite_folder.create_migrated(tmp_path))
    whole = ("GET /healthz HTTP/1.1", "Host: x", "", "")
    stream = ("GET /api/v1/events HTTP/1.1", "Host: x", "", "")
    with serve(create_app(settings), FewConnections, PLACES + 4) as server, ExitStack() as stack:
        answered = [stack.enter_context(connect(server, *stream)) for _ in range(PLACES)]
        idle = stack.enter_context(connect(server, *whole))
        assert {connection.recv(12) for connection in (*answered, idle)} == {b"HTTP/1.1 200"}
        slow = [stack.enter_context(connect(server, "GET / HTTP/1.1", "X-Slow: ")) for _ in range(SLOW_CLIENTS)]
        for _ in range(3):
            assert httpx.get(f"{server.url}/healthz", timeout=SECONDS).status_code == 200
        for connection in (idle, *slow[:-4]):
            with suppress(ConnectionResetError):
                while connection.recv(65_536):  # until the server ends it
                    pass
        more = [stack.enter_context(connect(server, *stream)) for _ in range(5)]
        assert {connection.recv(12) for connection in more} == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
        for connection in answered:
            connection.setblocking(False)
            with suppress(BlockingIOError):
                while connection.recv(65_536):
                    pass
                pytest.fail("a stream was ended for others")


def test_heads_have_room_for_what_browsers_and_git_send(server: RunningServer) -> None:
    """Each of a connection is counted by itself, and bodies are not."""
    with httpx.Client(base_url=server.url, timeout=SECONDS) as http:
        for _ in range(2):
            assert http.get("/healthz", headers={"X-Long": "a" * (MAX_HEAD_BYTES - 1_000)}).status_code == 200
        spaces = http.post("/api/v1/accounts", content=b" " * 3 * MIB, headers={"Content-Type": "application/json"})
        assert spaces.status_code == 422


def test_a_whole_body_lets_a_stream_go_on_for_longer(server: RunningServer) -> None:
    """The limit is that of the body, not that of the answer."""
    with httpx.stream("GET", f"{server.url}/api/v1/events", timeout=SECONDS) as stream:
        lines = stream.iter_raw()
        assert stream.status_code == 200 and next(lines), "it says something each 15 s"


def test_the_name_that_a_client_calls_us_is_in_no_answer(server: RunningServer) -> None:
    paths = ["/", "/projects", "/projects/", "/findings/", "/docs/", "/api/v1/projects/", "/api/v1/experiments?limit=1",
             "/openapi.json", "/robots.txt", "/nothing"]  # fmt: skip
    names = ["evil.example", "evil.example:8000", "swarm.example.org@evil.example", "a b", ""]
    with httpx.Client(base_url=server.url, timeout=SECONDS, headers={"X-Forwarded-Host": "evil.example"}) as http:
        for name, path in product(names, paths):
            answer = http.get(path, headers={"Host": name})
            told = answer.text + repr(answer.headers)
            assert "evil.example" not in told, (name, path)
            if answer.is_redirect:
                place = answer.headers["location"]
                assert place.startswith("/") and not place.startswith("//"), (name, path)


@contextmanager
def open_feed(server: RunningServer, forwarded: str) -> Iterator[int]:
    """The status of a feed that stays open during the block."""
    headers = {"X-Forwarded-For": forwarded}
    with httpx.stream("GET", f"{server.url}/api/v1/events", headers=headers, timeout=SECONDS) as stream:
        yield stream.status_code


def test_behind_a_trusted_proxy_each_address_has_its_own_feeds(server: RunningServer) -> None:
    with ExitStack() as stack:
        for _ in range(PLACES):
            assert stack.enter_context(open_feed(server, "203.0.113.5")) == 200
        assert stack.enter_context(open_feed(server, "203.0.113.5")) == 429
        assert stack.enter_context(open_feed(server, "198.51.100.9, 203.0.113.5")) == 429, (
            "the last is the proxy's word"
        )
        assert stack.enter_context(open_feed(server, "203.0.113.6")) == 200
        for number in range(PLACES):
            assert stack.enter_context(open_feed(server, f"2001:db8::{number}")) == 200
        assert stack.enter_context(open_feed(server, "2001:db8::abcd")) == 429, "an IPv6 network of 64 bits is one"
        assert stack.enter_context(open_feed(server, "2001:db8:0:1::1")) == 200
