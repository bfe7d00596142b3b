"""The route of what workers send all day: as FastAPI documents it, and with less around each request.

A worker's job is six requests, and what FastAPI does around a handler took as long as most of the handlers
(docs/decisions/0011). A `JobRoute` reads the body, and does the rest where the handler runs: the model is made from
the bytes, and the other parameters are looked up. It knows only the parameters that these handlers have; any other
is an error when the application is made.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import StringConstraints, TypeAdapter, ValidationError
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send

from coordinator.http.limits import read_body
from coordinator.leases import eligibility
from shared.protocol import PROTOCOL_HEADER, PROTOCOL_VERSION, VERSION_HEADER, Message, Versions

BEARER = b"bearer "
_UUID, _NUMBER = TypeAdapter(UUID), TypeAdapter(int)
_NAME = TypeAdapter[str | None](Annotated[str, StringConstraints(max_length=40)] | None)


@dataclass(frozen=True)
class JobRequest:
    """A request, and the application's state. Header names are lower case, as ASGI has them."""

    state: State
    path: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    body: bytes

    def header(self, name: str) -> str | None:
        value = self.headers.get(name.lower().encode())
        return None if value is None else value.decode("latin-1")

    @property
    def token(self) -> str | None:
        """The bearer token, not looked at yet; None without one."""
        value = self.headers.get(b"authorization", b"")
        return value[len(BEARER) :].decode("latin-1").strip() if value[: len(BEARER)].lower() == BEARER else None


async def _describe_versions(
    request: Request,
    protocol: Annotated[int, Header(alias=PROTOCOL_HEADER)] = PROTOCOL_VERSION,  # noqa: ARG001  for the reference
    version: Annotated[str | None, Header(alias=VERSION_HEADER)] = None,  # noqa: ARG001  likewise
) -> Any:
    return request.app.state.versions


FittingVersions = Annotated[Versions, Depends(_describe_versions)]
"""The coordinator's versions, once a worker's headers fit them. Named first among the parameters it is looked at before
the body, whose form may be another by now."""

Reader = Callable[[JobRequest], Any]


class JobRoute(APIRoute):
    """A POST whose handler returns a `Response`; its parameters are one body and some of `_READERS`."""

    def __init__(self, path: str, endpoint: Callable[..., Response], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._handler = endpoint
        parameters = signature(endpoint).parameters
        self._readers = {name: _find_reader(name, given.annotation) for name, given in parameters.items()}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose path fits. What is raised is rendered by the application's handlers of errors."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # says which methods there are
            return
        response = await self.answer(scope, receive)
        if response is not None:
            await response(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive) -> Response | None:
        """The answer to a request whose path and method fit; None if its sender is gone."""
        state, headers = scope["app"].state, dict(scope["headers"])
        body = await read_body(receive, headers, state.settings.max_body_bytes)
        if body is None:
            return None
        request = JobRequest(state, scope["path_params"], headers, body)
        response: Response = await state.handlers.run(partial(self._answer, request), self.path)
        return response

    def _answer(self, request: JobRequest) -> Response:
        return self._handler(**{name: read(request) for name, read in self._readers.items()})


def _find_reader(name: str, annotation: Any) -> Reader:
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return partial(_read_model, annotation)
    return _READERS[name]


def _read_model(model: type[Message], request: JobRequest) -> Message:
    with _named("body"):
        return model.model_validate_json(request.body)


def _read_lease_id(request: JobRequest) -> UUID:
    with _named("path", "lease_id"):
        return _UUID.validate_python(request.path["lease_id"])


def _read_idempotency_key(request: JobRequest) -> UUID:
    with _named("header", "idempotency-key"):
        return _UUID.validate_python(request.header("Idempotency-Key"))


def _read_versions(request: JobRequest) -> Versions:
    """The versions of this coordinator, if the worker's headers fit them. Raises ProtocolUnsupportedError."""
    ours: Versions = request.state.versions
    with _named("header", PROTOCOL_HEADER.lower()):
        protocol = _NUMBER.validate_python(request.header(PROTOCOL_HEADER) or PROTOCOL_VERSION)
    with _named("header", VERSION_HEADER.lower()):
        version = _NAME.validate_python(request.header(VERSION_HEADER))
    eligibility.check_versions(protocol, version, ours)
    return ours


@contextmanager
def _named(*place: str) -> Iterator[None]:
    """Say of what is invalid where in the request it stands. Raises RequestValidationError."""
    try:
        yield
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False)
        raise RequestValidationError([{**mistake, "loc": (*place, *mistake["loc"])} for mistake in mistakes]) from error


_READERS: dict[str, Reader] = {
    "lease_id": _read_lease_id,
    "versions": _read_versions,
    "idempotency_key": _read_idempotency_key,
    "token": lambda request: request.token,
    "database": lambda request: request.state.database,
    "beats": lambda request: request.state.held_beats,
    "similarity": lambda request: request.state.similarity,
    "shelf": lambda request: request.state.shelf,
}
