"""Objects in an answer that is not JSON: the tags and the calls in which models were taught to use tools."""

import ast
import html
import re
import warnings
from collections.abc import Iterator
from typing import Any

MAX_TRIES = 20
"""Ends of a call that are tried."""

_TAGS = re.compile(
    r"<(?P<kind>parameter|param|argument|field)(?:=|\s+name\s*=\s*)[\"']?(?P<name>[\w-]+)[\"']?[^>]*>(?P<value>.*?)</(?P=kind)>"
    r"|<arg_key>\s*(?P<key>[\w-]+)\s*</arg_key>\s*<arg_value>(?P<given>.*?)</arg_value>"
    r"|<(?P<tag>[A-Za-z][\w-]*)>(?P<content>.*?)</(?P=tag)>",
    re.DOTALL,
)
_LEAVES = re.compile(r"search|replace|text|old|new|content|code|before|after|find", re.IGNORECASE)
_CDATA = re.compile(r"\s*<!\[CDATA\[(.*?)\]\]>\s*", re.DOTALL)
_CALL = re.compile(r"(?<![\w.])[A-Za-z_][\w.]*\((?=\s*[A-Za-z_]\w*\s*=[^=])")


def list_marked(text: str) -> Iterator[dict[str, Any]]:
    """Objects made of a text's tags, and of its calls in Python's notation."""
    if (found := _read_tags(text)) is not None:
        yield found
    for call in list(_CALL.finditer(text))[-MAX_TRIES:]:
        ends = [at + 1 for at, letter in enumerate(text) if letter == ")" and at > call.end()]
        yield from filter(None, (_read_call(text[call.start() : end]) for end in ends[-MAX_TRIES:]))


def _read_tags(text: str) -> dict[str, Any] | None:
    """The outermost tags as an object; a name that occurs several times has a list."""
    found: dict[str, list[Any]] = {}
    for tag in _TAGS.finditer(text):
        name = tag["name"] or tag["key"] or tag["tag"]
        value = next(part for part in (tag["value"], tag["given"], tag["content"]) if part is not None)
        inner = None if _LEAVES.fullmatch(name) else _read_tags(value)
        found.setdefault(name, []).append(inner or _read_text(value))
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()} or None


def _read_text(value: str) -> str:
    if (raw := _CDATA.fullmatch(value)) is not None:
        return raw[1]
    value = html.unescape(value) if "&lt;" in value or "&quot;" in value or "&amp;" in value else value
    return value.removeprefix("\n").removesuffix("\n")


def _read_call(text: str) -> dict[str, Any] | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes in strings
            (call,) = (node for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Call))
        return {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return None
