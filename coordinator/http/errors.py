"""The one base of all domain errors, and the one place that renders an error: RFC 9457 problem documents."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DataError, IntegrityError
from starlette.exceptions import HTTPException as RoutingError
from starlette.routing import Match

from coordinator.db.engine import POSTGRESQL_TAKEN, UNAVAILABLE_ERRORS
from coordinator.http.headers import get_request_id, list_headers
from coordinator.http.prefix import read_path, root
from shared.mistakes import describe_mistake
from shared.protocol import API_PREFIX, PROBLEM_MEDIA_TYPE, Problem, clean_text

log = structlog.get_logger()
Found = TypeVar("Found")

MAX_PLACE = 300
"""Characters of a field's place in a problem document: unknown fields have any name."""

UNREADABLE = "cannot be read; JSON is sent in UTF-8, neither compressed nor nested deeply"


class SwarmError(Exception):
    """A mistake that the caller can understand; `members` are further ones of its problem document, as JSON.

    Subclasses stand beside the code that raises them, and give what differs from their base as keywords. The `code`
    follows from the name where none is given: `NotFoundError` has `not-found`.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad-request"
    title: ClassVar[str] = "The request cannot be carried out"
    headers: ClassVar[dict[str, str]] = {}

    def __init_subclass__(
        cls, *, title: str, status: int | None = None, code: str = "", headers: dict[str, str] | None = None
    ) -> None:
        cls.title, cls.status, cls.headers = title, status or cls.status, headers or cls.headers
        cls.code = code or re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__.removesuffix("Error")).lower()

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.detail, self.members = detail, members

    def to_problem(self) -> Problem:
        return Problem(
            type=f"/problems/{self.code}", title=self.title, status=self.status, detail=self.detail, **self.members
        )


class BodyTooLargeError(SwarmError, status=413, title="The request is larger than this coordinator takes"):
    pass


class BodyTooSlowError(
    SwarmError, status=408, title="The request took too long to arrive", headers={"Connection": "close"}
):
    """The body did not arrive in time. The request may be sent again."""


class NotFoundError(SwarmError, status=404, title="There is nothing by that name"):
    pass


def must_find(found: Found | None, problem: str) -> Found:
    """The thing that was looked for. Raises NotFoundError with `problem` where there is none."""
    if found is None:
        raise NotFoundError(problem)
    return found


class RequestInvalidError(SwarmError, status=422, title="The request is not of the right form"):
    """See /docs for the form of each request."""


class MethodNotAllowedError(SwarmError, status=405, title="Method Not Allowed"):
    """The address exists, but not with this HTTP method."""


class HttpError(SwarmError, code="http-error", title="HTTP error"):
    """The request could not be understood as HTTP."""


class InternalError(SwarmError, status=500, title="The coordinator made a mistake"):
    """An error of the coordinator. Nothing was stored; the request may be tried again."""


class DatabaseUnavailableError(
    SwarmError, status=503, title="The database cannot be used right now", headers={"Retry-After": "5"}
):
    """The database does not answer, is full, or has too many writers. Nothing was stored; try again."""


class ChangedMeanwhileError(
    SwarmError, status=409, title="Somebody else stored the same at that moment", headers={"Retry-After": "1"}
):
    """Another request came first with what there may be once. Nothing of this one was stored; look, then try again."""


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """Render a problem document."""
    content = problem.model_dump(mode="json", exclude_none=True) | {"type": f"{root()}{problem.type}"}
    return JSONResponse(content, problem.status, headers, PROBLEM_MEDIA_TYPE)


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    app.add_exception_handler(SwarmError, _on_swarm_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(RoutingError, _on_routing_error)
    for unavailable in UNAVAILABLE_ERRORS:
        app.add_exception_handler(unavailable, _on_unavailable)
    app.add_exception_handler(DataError, _on_unstorable)
    app.add_exception_handler(IntegrityError, _on_integrity)
    app.add_exception_handler(Exception, _on_crash)


def _on_swarm_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SwarmError)
    return problem_response(error.to_problem(), headers=error.headers)


def _on_invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = {_name_place(e["loc"]): describe_mistake(e) for e in error.errors()[19::-1]}  # of one place, the first
    mistakes = [{"where": where, "what": clean_text(what)} for where, what in reversed(found.items())]
    detail = "; ".join(f"{m['where']}: {m['what']}" for m in mistakes[:3])
    return problem_response(RequestInvalidError(detail, errors=mistakes).to_problem())


def _name_place(place: Sequence[Any]) -> str:
    """`body.files.0.path`; of a parameter its name alone, whatever kinds of value it may have."""
    parts = place if place[0] == "body" else place[:2]
    name: str = clean_text(".".join(map(str, parts)))
    return name[:MAX_PLACE]


def _on_routing_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RoutingError)
    if error.status_code == HttpError.status:  # of a body that no parser reads
        mistakes = [{"where": "body", "what": UNREADABLE}]
        return problem_response(RequestInvalidError(f"body: {UNREADABLE}", errors=mistakes).to_problem())
    kind = {404: NotFoundError, 405: MethodNotAllowedError}.get(error.status_code, HttpError)
    headers = dict(error.headers or {})
    if error.status_code == MethodNotAllowedError.status:
        headers = {"Allow": ", ".join(_list_methods(request))}
    if request.method == "OPTIONS" and "Allow" in headers:
        return Response(status_code=204, headers=headers)
    path = read_path(request.scope)
    prefix, api, _ = path.partition(f"{API_PREFIX}/")
    advice = f"does the coordinator's address end before {prefix}?" if prefix and api else "see /docs for what is."
    problem = kind(f"{request.method} {path} is not here; {advice}").to_problem()
    actual = {"title": str(error.detail), "status": error.status_code}
    return problem_response(problem.model_copy(update=actual), headers=headers)


def _list_methods(request: Request) -> list[str]:
    """The methods that an address has. HEAD works wherever GET does."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in routes for method in getattr(route, "methods", None) or ()}
    return sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()))


def _on_unavailable(request: Request, error: Exception) -> Response:
    log.error("database unavailable", method=request.method, path=request.url.path, error=repr(error))
    return _on_swarm_error(request, DatabaseUnavailableError("Nothing of this request was stored. Try again shortly."))


def _on_integrity(request: Request, error: Exception) -> Response:
    """On PostgreSQL what was free when a request looked may be taken when it stores. SQLite has one writer."""
    if getattr(getattr(error, "orig", None), "sqlstate", None) != POSTGRESQL_TAKEN:
        return _on_bug(request, error)
    log.warning("taken meanwhile", method=request.method, path=request.url.path, error=repr(error))
    return _on_swarm_error(request, ChangedMeanwhileError("Nothing of this request was stored. Look, then try again."))


def _on_unstorable(request: Request, error: Exception) -> Response:
    """An address holds a character that PostgreSQL's texts cannot hold. Bodies are checked by their models."""
    parameters = {"path": request.path_params.items(), "query": request.query_params.multi_items()}
    places = [f"{part}.{name}" for part, values in parameters.items() for name, value in values if "\0" in str(value)]
    if not places:  # then the mistake is ours
        return _on_bug(request, error)
    detail = "must not hold the character U+0000"
    mistakes = [{"where": clean_text(place)[:MAX_PLACE], "what": detail} for place in places[:20]]
    return problem_response(RequestInvalidError(f"{mistakes[0]['where']} {detail}.", errors=mistakes).to_problem())


def _on_crash(request: Request, error: Exception) -> Response:
    """As `_on_bug`, with the headers of every answer: this one is made outside of all middleware."""
    response = _on_bug(request, error)
    response.raw_headers.extend(list_headers())
    return response


def _on_bug(request: Request, error: Exception) -> Response:
    log.error("request failed", method=request.method, path=request.url.path, error=repr(error))
    detail = f"Nothing of this request was stored; it may be tried again. The log names it {get_request_id()}."
    return problem_response(InternalError(detail).to_problem())
