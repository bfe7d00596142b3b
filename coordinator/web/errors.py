"""Errors as pages for people, and the pages that a problem document's `type` points to."""

from collections.abc import Awaitable, Callable, Iterator
from inspect import isawaitable

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

import coordinator.autoresearch.service  # noqa: F401 - has errors that only the command line answers with
from coordinator.http.errors import SwarmError, problem_response
from coordinator.http.prefix import read_path
from coordinator.web.rendering import render
from coordinator.web.sessions import SignInNeededError, form_address, list_typed, sign_in_address
from shared.protocol import API_PREFIX, PROBLEM_MEDIA_TYPE, Problem

OF_THE_DOCUMENT = ("content-type", "content-length")
IS_PARTIAL = "HX-Request"
"""The header of requests by htmx, which would put a page that it was redirected to into its own."""

ErrorHandler = Callable[[Request, Exception], Response | Awaitable[Response]]


def map_problem_types() -> dict[str, type[SwarmError]]:
    """All errors that this coordinator may answer with, by code in order."""
    return {error.code: error for error in sorted(_subclasses(SwarmError), key=lambda error: error.code)}


def _subclasses(base: type[SwarmError]) -> Iterator[type[SwarmError]]:
    yield base
    for error in base.__subclasses__():
        yield from _subclasses(error)


def install_error_pages(app: FastAPI) -> None:
    """Wraps the installed error handlers, so that browsers get an HTML page instead of a problem document."""
    for kind, handler in list(app.exception_handlers.items()):
        app.add_exception_handler(kind, _with_page(handler))


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks: browsers accept text/html, our own scripts and other programs do not."""
    path = read_path(request.scope)
    is_document = path.startswith(API_PREFIX) or path.endswith(".json")
    return not is_document and "text/html" in request.headers.get("accept", "")


def answer_error(request: Request, error: SwarmError) -> Response:
    """The answer of an error that no handler sees: a page for browsers, a problem document for programs."""
    return _make_page(request, error, problem_response(error.to_problem(), error.headers))


def _lead_to_sign_in(request: Request) -> Response:
    address = sign_in_address(request)
    if IS_PARTIAL in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": address})
    return RedirectResponse(address, 303)


def _with_page(handler: ErrorHandler) -> ErrorHandler:
    async def handle(request: Request, error: Exception) -> Response:
        answer = handler(request, error)
        return _make_page(request, error, await answer if isawaitable(answer) else answer)

    return handle


def _make_page(request: Request, error: Exception, answer: Response) -> Response:
    """A page in the place of an error's problem document, where a browser asks; else the answer itself."""
    typed = list_typed(request)
    if isinstance(error, SignInNeededError) and not typed and (wants_page(request) or IS_PARTIAL in request.headers):
        return _lead_to_sign_in(request)
    if answer.media_type != PROBLEM_MEDIA_TYPE or not wants_page(request):
        return answer
    problem = Problem.model_validate_json(bytes(answer.body))
    back = form_address(request) if request.method == "POST" else ""
    page = render("problems/error.html", status_code=problem.status, problem=problem, typed=typed, back=back)
    page.headers.update({name: value for name, value in answer.headers.items() if name not in OF_THE_DOCUMENT})
    return page
