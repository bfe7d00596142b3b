"""A limit on the head of a request, which uvicorn's parser keeps in memory until it is whole, however long it is."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Bytes of an address with its headers, of trailers, or between two parts of a body."""


class BoundedHeads(HttpToolsProtocol):
    """Answers 400 and closes the connection after MAX_HEAD_BYTES in a row that end no head and hold no body. What comes
    in one read, at most 256 KiB, is looked at together."""

    _bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._bytes += len(data)
        super().data_received(data)
        if self._bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The head of a request has at most {MAX_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on."""
        self._bytes = 0
        super().on_body(body)
