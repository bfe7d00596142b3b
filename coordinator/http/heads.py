"""Limits on the head of a request, which uvicorn keeps in memory until it is whole, however long it is or takes."""

from asyncio import TimerHandle, Transport
from itertools import islice
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Bytes of an address with its headers, of trailers, or between two parts of a body."""

MAX_HEAD_SECONDS = 30.0


class BoundedHeads(HttpToolsProtocol):
    """Answers 400 and closes the connection after MAX_HEAD_BYTES in a row that end no head and hold no body, and closes
    it where a head takes longer than `head_seconds`. What comes in one read, at most 256 KiB, is looked at together.

    Where there are as many connections as uvicorn's `limit_concurrency`, a new one ends the one that has waited longest
    for a head; where none waits, its request is answered 503.
    """

    head_seconds = MAX_HEAD_SECONDS
    _waiting: ClassVar[dict["BoundedHeads", None]] = {}
    """This process's connections that sent no whole head since their last request, in the order of their waiting."""

    _bytes = 0
    _end: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        """Wait for the first head."""
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            for oldest in list(islice(self._waiting, 1)):
                del self._waiting[oldest]
                self.connections.discard(oldest)  # it is told of its end later, when the new one may have asked already
                oldest.transport.abort()
        self._waiting[self] = None
        self._end = self.loop.call_later(self.head_seconds, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        self._waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._bytes += len(data)
        super().data_received(data)
        if self._bytes and not self._end and not self.transport.is_closing():
            self._end = self.loop.call_later(self.head_seconds, self.transport.close)
        if self._bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The head of a request has at most {MAX_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._stop_waiting()
        self._waiting.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on."""
        self._stop_waiting()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: a chunked one ends with more bytes than its body."""
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next head, unless it came already."""
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None and not self.transport.is_closing():
            self._waiting[self] = None

    def _stop_waiting(self) -> None:
        self._bytes = 0
        if self._end is not None:
            self._end.cancel()
            self._end = None
