"""Errors as pages for people, and the pages that a problem document's `type` points to."""

from collections.abc import Awaitable, Callable, Iterator
from inspect import isawaitable

from fastapi import FastAPI, Request
from fastapi.responses import Response

import coordinator.autoresearch.service  # noqa: F401 - has errors that only the command line answers with
from coordinator.http.errors import SwarmError
from coordinator.http.prefix import read_path
from coordinator.web.rendering import render
from shared.protocol import API_PREFIX, PROBLEM_MEDIA_TYPE, Problem

OF_THE_DOCUMENT = ("content-type", "content-length")
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


def _with_page(handler: ErrorHandler) -> ErrorHandler:
    async def handle(request: Request, error: Exception) -> Response:
        answer = handler(request, error)
        response = await answer if isawaitable(answer) else answer
        if response.media_type != PROBLEM_MEDIA_TYPE or not wants_page(request):
            return response
        problem = Problem.model_validate_json(bytes(response.body))
        page = render("problems/error.html", status_code=problem.status, problem=problem)
        page.headers.update({name: value for name, value in response.headers.items() if name not in OF_THE_DOCUMENT})
        return page

    return handle
