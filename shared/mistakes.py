"""Says in our words what is wrong with a value that a model refused: nobody is shown the library's own."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

SHOWN_CHARACTERS = 60
"""Length of a refused value that people are shown."""

_SENTENCES = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be a finite number",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "is not of the allowed form, {pattern}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "none_required": "must be empty",
    "json_invalid": "is not valid JSON",
    "timezone_naive": "must name its time zone",
}
_KINDS = {
    "int": "must be a whole number", "float": "must be a number", "decimal": "must be a number",
    "bool": "must be true or false", "string": "must be a text", "bytes": "must be a text", "list": "must be a list",
    "tuple": "must be a list", "set": "must be a list", "dict": "must be a table of names and values",
    "model": "must be a table of names and values", "mapping": "must be a table of names and values",
    "uuid": "must be a UUID", "date": "must be a date such as 2026-03-01",
    "datetime": "must be a time such as 2026-03-01T12:00:00Z", "time": "must be a time such as 12:00:00",
    "timezone": "must be a time such as 2026-03-01T12:00:00Z", "url": "must be an address such as https://example.org",
    "path": "must be a path of a file", "json": "must be JSON",
}  # fmt: skip
"""Sentences by the first word of an error's type, for those without one of their own."""


def describe_mistake(mistake: Mapping[str, Any]) -> str:
    """A clause that says what is wrong: `must be at least 1`. Our validators' own messages are used as they are."""
    kind, context = str(mistake["type"]), mistake.get("ctx") or {}
    if kind in ("value_error", "assertion_error"):
        error = context.get("error", mistake["msg"])
        return describe_mistake(error.errors()[0]) if isinstance(error, ValidationError) else str(error)
    sentence = _SENTENCES.get(kind) or _KINDS.get(kind.split("_", 1)[0], "is not of the expected form")
    try:
        return sentence.format(**context)
    except KeyError:
        return "is not of the expected form"


def describe_value(mistake: Mapping[str, Any]) -> str:
    """The refused value too: `'wrose' must be one of improved, worse; did you mean worse?`."""
    given, what = str(mistake["input"]), describe_mistake(mistake)
    listed = what.partition(" is not one of " if mistake["type"] == "value_error" else "must be ")[2]
    if choices := re.findall(r"'([^']*)'", listed):
        what = f"must be one of {', '.join(choices)}{suggest(given, choices)}"
    return f"{given[:SHOWN_CHARACTERS]!r}{'' if what.startswith(('must ', 'is ')) else ':'} {what}"


def suggest(name: str, names: Iterable[str]) -> str:
    """`; did you mean NAME?`, or nothing if no name is like it."""
    close = get_close_matches(name.lower().replace("-", "_"), list(names), 1)
    return f"; did you mean {close[0]}?" if close else ""


def name_place(place: Sequence[Any], whole: str = "the whole") -> str:
    """Where a mistake is: `budget.training_seconds`."""
    return ".".join(map(str, place)) or whole


def describe_first(error: ValidationError, whole: str = "the whole") -> str:
    """The first mistake with its place: `rungs.0.name: is missing`."""
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{name_place(first['loc'], whole)}: {describe_mistake(first)}"
