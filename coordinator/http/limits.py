"""A bound on request bodies, kept before anything reads them."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.http.errors import SwarmError, problem_response


class BodyTooLargeError(SwarmError):
    status = 413
    code = "body-too-large"
    title = "The request is larger than this coordinator takes"


class BodyLimit:
    """ASGI middleware: answers 413 as soon as a body is known to be larger than `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            _check_announced(dict(scope["headers"]), self.max_bytes)
        except BodyTooLargeError:
            await self.refuse(scope, receive, send)
            return
        await _Bounded(self, scope, receive, send).run()

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await problem_response(_too_large(self.max_bytes).to_problem())(scope, receive, send)


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], max_bytes: int) -> bytes | None:
    """All of a request's body, for who does without the middleware; None if its sender is gone.

    Raises BodyTooLargeError as soon as it is known to be larger than `max_bytes`.
    """
    _check_announced(headers, max_bytes)
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _check_announced(headers: Mapping[bytes, bytes], max_bytes: int) -> None:
    announced = headers.get(b"content-length", b"0")
    if not announced.isdigit() or int(announced) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"A body has at most {max_bytes} bytes.")


class _Bounded:
    """One request whose body is counted as it comes in.

    The application may turn the error that ends an over-long body into an answer of its own, so its answer is
    replaced rather than the error caught.
    """

    def __init__(self, limit: BodyLimit, scope: Scope, receive: Receive, send: Send) -> None:
        self._limit, self._scope, self._receive, self._send = limit, scope, receive, send
        self._received = 0
        self._refused = False

    async def run(self) -> None:
        await self._limit.app(self._scope, self._count, self._answer)

    @property
    def _too_large(self) -> bool:
        return self._received > self._limit.max_bytes

    async def _count(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._too_large:
            raise BodyTooLargeError("the body went on past its limit")
        return message

    async def _answer(self, message: Message) -> None:
        if not self._too_large:
            await self._send(message)
        elif not self._refused:
            self._refused = True
            await self._limit.refuse(self._scope, self._receive, self._send)
