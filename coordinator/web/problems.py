"""The pages that a problem document's `type` points to."""

from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc

from coordinator.http.errors import NotFoundError, SwarmError

_GENERAL = {
    "request-invalid": (422, "The request is not of the form that the API describes", "See /docs for the form."),
    "method-not-allowed": (405, "Method Not Allowed", "The address is right, the HTTP method is not; see /docs."),
    "http-error": (400, "HTTP error", "The request could not be understood as HTTP."),
    "internal": (500, "The coordinator made a mistake", "Nothing was stored; the request may be tried again."),
}
"""Problems that come from the framework rather than from an error class of ours."""


@dataclass(frozen=True)
class ProblemType:
    """A kind of problem: its short name, HTTP status, title, and what to do about it (may be empty)."""

    code: str
    status: int
    title: str
    explanation: str


def list_problem_types() -> list[ProblemType]:
    """All kinds of problem that this coordinator may answer with, by name."""
    types = {code: ProblemType(code, *rest) for code, rest in _GENERAL.items()}
    for error in _subclasses(SwarmError):
        own_words = cleandoc(error.__dict__.get("__doc__") or "")
        types[error.code] = ProblemType(error.code, error.status, error.title, own_words)
    return sorted(types.values(), key=lambda kind: kind.code)


def get_problem_type(code: str) -> ProblemType:
    """One kind of problem. Raises NotFoundError."""
    for kind in list_problem_types():
        if kind.code == code:
            return kind
    raise NotFoundError(f"There is no kind of problem called {code!r}.")


def _subclasses(base: type[SwarmError]) -> Iterator[type[SwarmError]]:
    yield base
    for error in base.__subclasses__():
        yield from _subclasses(error)
