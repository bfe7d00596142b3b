"""Errors for people: the same problem that a program gets as a document, as a page."""

from collections.abc import Awaitable, Callable
from inspect import isawaitable

from fastapi import FastAPI, Request
from fastapi.responses import Response

from coordinator.web.rendering import render
from shared.errors import PROBLEM_MEDIA_TYPE, Problem
from shared.protocol import API_PREFIX

Handler = Callable[[Request, Exception], Response | Awaitable[Response]]


def install_error_pages(app: FastAPI) -> None:
    """Wrap the error handlers that are there: whoever asks for a page gets their answer as a page."""
    for kind, handler in list(app.exception_handlers.items()):
        app.add_exception_handler(kind, _with_page(handler))


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks: browsers name text/html, our own scripts and other programs do not."""
    is_document = request.url.path.startswith(API_PREFIX) or request.url.path.endswith(".json")
    return not is_document and "text/html" in request.headers.get("accept", "")


def _with_page(handler: Handler) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        answer = handler(request, error)
        response = await answer if isawaitable(answer) else answer
        if response.media_type != PROBLEM_MEDIA_TYPE or not wants_page(request):
            return response
        problem = Problem.model_validate_json(bytes(response.body))
        return render("problems/error.html", status_code=problem.status, problem=problem)

    return handle
