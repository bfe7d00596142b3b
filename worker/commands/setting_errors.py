"""Errors of settings in our own words (shared/mistakes.py), with the value that was probably meant."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.mistakes import SHOWN_CHARACTERS, describe_mistake, describe_value, suggest

_FORMS = {
    "device": "give cpu, cuda:0, cuda:0,1 or cuda:all (or --gpu 0)",
    "project": "give the project's name: lower-case letters, digits and hyphens",
    "branch": "give the branch's name: lower-case letters, digits and hyphens",
    "data_mirror": "give an address, as https://mirror.example.org",
    "agent_paths": 'give a list: in the environment ["~/.tool:rw"], with --agent-path one by one',
    "agent_environment": 'give a list of names: ["TOOL_KEY"]',
}
_SECRET = ("token", "api_key")


def describe_error(error: Mapping[str, Any], names: Iterable[str]) -> tuple[str, str]:
    """The setting of one of pydantic's errors, and what is wrong with it; `names` are the settings there are."""
    name, kind, value = str(next(iter(error["loc"]), "")), error["type"], error.get("input")
    if kind == "extra_forbidden":
        return name, f"there is no such setting{suggest(name, names)}"
    if kind == "string_too_short":
        return name, "it is empty"
    is_shown, form = name not in _SECRET and isinstance(value, str | int | float), _FORMS.get(name)
    if form is None:
        return name, describe_value(error) if is_shown else describe_mistake(error)
    return name, f"{str(value)[:SHOWN_CHARACTERS]!r}: {form}" if is_shown else form
