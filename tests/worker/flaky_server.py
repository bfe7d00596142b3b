"""A file server on loopback that keeps to HTTP, ranges included, and fails in the ways in which networks do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_BYTES = 16_384


@dataclass
class FlakyServer:
    """`faults` are taken one a request, and `""` is none.

    `cut` after half of what is left, `stall` there, `slow` all the way, `busy` (503), `vanish` without a word,
    `corrupt` one bit, `truncate` to a shorter file.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    address: str = ""
    has_tags: bool = True
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve_flaky() -> Iterator[FlakyServer]:
    """Run the server."""
    flaky = FlakyServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            content = flaky.files.get(self.path.lstrip("/"))
            fault = flaky.faults.pop(0) if flaky.faults else ""
            flaky.requests.append(self.headers.get("Range", "whole"))
            if fault == "vanish":
                self.close_connection = True
                return
            if content is None or fault == "busy":
                self.send_error(404 if content is None else 503)
                return
            if fault == "truncate":
                content = content[: len(content) // 2]
            tag = f'"{sha256(content).hexdigest()[:16]}"'
            begin = 0
            if self.headers.get("If-Range") == tag:
                begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if begin > len(content):
                self.send_error(416)
                return
            body = content[begin:]
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(body)))
            if flaky.has_tags:
                self.send_header("ETag", tag)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if fault == "corrupt":
                body = bytes([body[0] ^ 1]) + body[1:]
            if fault in ("cut", "stall"):
                body = body[: len(body) // 2]
            if fault == "slow":
                for first in range(0, len(body), SLOW_BYTES):
                    self.wfile.write(body[first : first + SLOW_BYTES])
                    flaky.released.wait(0.005)
            else:
                self.wfile.write(body)
            if fault == "stall":
                flaky.released.wait(60)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that has gone away is what these tests are about."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        flaky.address = f"http://127.0.0.1:{server.server_address[1]}/"
        try:
            yield flaky
        finally:
            flaky.released.set()
            server.shutdown()
            thread.join()
