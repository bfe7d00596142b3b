"""Draws messages of any wire model from its JSON Schema, and spoils one field of them."""

import importlib
import pkgutil
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st
from pydantic import BaseModel

import shared
from shared.leases import CommitUpload, ResultUpload
from shared.protocol import EARLIEST, LATEST, Message, clean_text
from shared.runs import RunOutcome, RunReport

Node = dict[str, Any]
Path = tuple[str | int, ...]

OFFSETS = [timezone(timedelta(hours=hours)) for hours in (-14, 0, 14)]
FAR = 10**60
"""A whole number beyond every bound."""


class Leaf(NamedTuple):
    """A text, number, truth value or time of a message: its place and its schema (the alternatives of a union)."""

    path: Path
    nodes: list[Node]


def list_models() -> list[type[Message]]:
    """Every model of `shared`, found by looking."""
    for module in pkgutil.iter_modules(shared.__path__):
        importlib.import_module(f"shared.{module.name}")
    found = {model for model in _descend(Message) if model.__module__.startswith("shared.") and not _is_generic(model)}
    return sorted(found, key=lambda model: (model.__module__, model.__qualname__))


def _is_generic(model: type[Message]) -> bool:
    """Whether it is a page of rows, which are models themselves, or stands for such pages."""
    return any(model.__pydantic_generic_metadata__[key] for key in ("parameters", "origin"))


def _descend(model: type[Message]) -> Iterator[type[Message]]:
    for child in model.__subclasses__():
        yield child
        yield from _descend(child)


def list_unbounded(model: type[BaseModel]) -> list[str]:
    """Fields of a model that hold a number, text or time without bounds, or anything."""
    schema = model.model_json_schema()
    schema.pop("$defs", None)  # other models, which are looked at themselves
    return sorted(set(_find_unbounded(schema, model.__name__)))


def _find_unbounded(node: Node | bool, path: str) -> Iterator[str]:
    if isinstance(node, bool) or not node.keys() & {"type", "anyOf", "oneOf", "allOf", "$ref", "const", "enum"}:
        if node is not False:
            yield path
        return
    if node.keys() & {"const", "enum", "$ref"}:
        return
    kind = node.get("type")
    if kind in ("integer", "number"):
        has_least, has_most = (
            node.keys() & {"minimum", "exclusiveMinimum"},
            node.keys() & {"maximum", "exclusiveMaximum"},
        )
        if not (has_least and has_most):
            yield path
    elif kind == "string" and not _is_bounded_text(node):
        yield path
    for name, child in node.get("properties", {}).items():
        yield from _find_unbounded(child, f"{path}.{name}")
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for child in node.get(key, ()):
            yield from _find_unbounded(child, path)
    if kind == "array" and "prefixItems" not in node:
        yield from _find_unbounded(node.get("items", {}), path)
    if kind == "object" and "properties" not in node and node.get("additionalProperties") is not False:
        yield from _find_unbounded(node.get("additionalProperties", {}), path)
        yield from _find_unbounded({"type": "string", **node.get("propertyNames", {})}, path)


def list_lenient(model: type[BaseModel]) -> list[str]:
    """The kinds of numbers and truth values of a model that other kinds are converted to: `int` from a text."""
    return list(_find_lenient(model.__pydantic_core_schema__))


def _find_lenient(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") in ("int", "float", "bool") and not node.get("strict"):
            yield node["type"]
        for child in node.values():
            yield from _find_lenient(child)
    elif isinstance(node, list | tuple):
        for child in node:
            yield from _find_lenient(child)


def _is_bounded_text(node: Node) -> bool:
    pattern = node.get("pattern", "*")
    is_closed = pattern.startswith("^") and pattern.endswith("$") and not set("*+|") & set(pattern)
    is_moment = node.get("format") == "date-time" and "formatMinimum" in node
    return "maxLength" in node or is_closed or is_moment or node.get("format") == "uuid"


# Drawing.


@cache
def describe(model: type[BaseModel]) -> Node:
    """The model's JSON Schema."""
    return model.model_json_schema()


@cache
def draw_messages(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """JSON documents that the model accepts, with numbers, times and characters from all of their ranges."""
    schema = describe(model)
    drawn: st.SearchStrategy[dict[str, Any]] = _draw(schema, schema.get("$defs", {}))
    return drawn.map(lambda document: _mend(model, document)).filter(lambda document: _fits(model, document))


def _draw(node: Node, defs: dict[str, Node]) -> st.SearchStrategy[Any]:
    if "$ref" in node:
        return _draw(defs[node["$ref"].rpartition("/")[2]], defs)
    if "const" in node:
        return st.just(node["const"])
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if alternatives := node.get("anyOf") or node.get("oneOf"):
        return st.one_of([_draw(one, defs) for one in alternatives])
    match node["type"]:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(_least(node), _most(node))
        case "number":
            return st.floats(_least(node), _most(node), exclude_min="exclusiveMinimum" in node, allow_nan=False)
        case "string":
            return _draw_text(node)
        case "array":
            if "prefixItems" in node:
                return st.tuples(*(_draw(one, defs) for one in node["prefixItems"])).map(list)
            least = node.get("minItems", 0)
            return st.lists(_draw(node["items"], defs), min_size=least, max_size=min(node.get("maxItems", 3), 3))
    if "properties" in node:
        fields = {name: _draw(child, defs) for name, child in node["properties"].items()}
        needed = set(node.get("required", ()))
        return st.fixed_dictionaries(
            {name: field for name, field in fields.items() if name in needed},
            optional={name: field for name, field in fields.items() if name not in needed},
        )
    keys = _draw_text({"maxLength": 20, **node.get("propertyNames", {})})
    return st.dictionaries(
        keys, _draw(node["additionalProperties"], defs), min_size=node.get("minProperties", 0), max_size=3
    )


def _least(node: Node) -> Any:
    return node["minimum"] if "minimum" in node else node["exclusiveMinimum"] + (node["type"] == "integer")


def _most(node: Node) -> Any:
    return node["maximum"] if "maximum" in node else node["exclusiveMaximum"] - (node["type"] == "integer")


def _draw_text(node: Node) -> st.SearchStrategy[str]:
    if node.get("format") == "uuid":
        return st.uuids().map(str)
    if node.get("format") == "date-time":
        first, last = EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None) - timedelta(microseconds=1)
        moments = st.datetimes(first, last).map(lambda moment: moment.replace(tzinfo=EARLIEST.tzinfo))
        return st.tuples(moments, st.sampled_from(OFFSETS)).map(lambda drawn: drawn[0].astimezone(drawn[1]).isoformat())
    if pattern := node.get("pattern"):
        longest = node.get("maxLength", 10**6)
        return st.from_regex(pattern.removesuffix("$") + r"\Z").filter(lambda text: len(text) <= longest)
    least = node.get("minLength", 0)
    return st.text(min_size=least, max_size=max(least, min(node["maxLength"], 40)))


def _mend(model: type[BaseModel], document: dict[str, Any]) -> dict[str, Any]:
    """Make a document, drawn field by field, fit rules about several fields."""
    if model is CommitUpload:
        document["author"], document["message"] = (clean_text(document[name]) + "abc" for name in ("author", "message"))
        document["files"] = {clean_text(path) or "a": text for path, text in document["files"].items()}
    if model is ResultUpload:
        run = document["run"] = _mend(RunReport, document["run"])
        if not all(document.get(name) for name in ("commit", "proposal", "finding")):
            return {"run": run}
        document["commit"] = {**_mend(CommitUpload, document["commit"]), "sha": run["commit_sha"]}
    if model is RunReport:
        times = sorted((document["started_at"], document["finished_at"]), key=datetime.fromisoformat)
        document["started_at"], document["finished_at"] = times
        document["metric"] = (document.get("metric") or 0.0) if document["outcome"] == RunOutcome.OK else None
        document["holdout_metric"] = None if document["metric"] is None else document.get("holdout_metric")
        if document["outcome"] == RunOutcome.STOPPED_EARLY:
            document["hopeless_at"] = document.get("hopeless_at") or 0.5
    return document


def _fits(model: type[BaseModel], document: dict[str, Any]) -> bool:
    try:
        model.model_validate(document)
    except ValueError:
        return False
    return True


# Spoiling.


def list_leaves(model: type[BaseModel], document: dict[str, Any]) -> list[Leaf]:
    """The texts, numbers, truth values and times of a document, and of each the alternatives that its schema allows."""
    schema = describe(model)
    return list(_find_leaves([schema], document, (), schema.get("$defs", {})))


def _find_leaves(nodes: list[Node], value: Any, path: Path, defs: dict[str, Node]) -> Iterator[Leaf]:
    nodes = [found for node in nodes for found in _flatten(node, defs)]
    if isinstance(value, dict):
        for name, inner in value.items():
            below = [node["properties"][name] for node in nodes if name in node.get("properties", {})]
            below = below or [node["additionalProperties"] for node in nodes if node.get("additionalProperties")]
            yield from _find_leaves(below, inner, (*path, name), defs)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            below = [node.get("items") or node["prefixItems"][place] for node in nodes if node.get("type") == "array"]
            yield from _find_leaves(below, inner, (*path, place), defs)
    elif value is not None:
        yield Leaf(path, nodes)


def _flatten(node: Node, defs: dict[str, Node]) -> Iterator[Node]:
    if "$ref" in node:
        yield from _flatten(defs[node["$ref"].rpartition("/")[2]], defs)
    elif alternatives := node.get("anyOf") or node.get("oneOf"):
        for one in alternatives:
            yield from _flatten(one, defs)
    else:
        yield node


def draw_wrong(leaf: Leaf) -> st.SearchStrategy[Any]:
    """Values that the leaf must not take: beyond its bounds, not finite, of another kind."""
    wrong: list[Any] = [FAR, -FAR, 1e308, -1e308, {"no": "such thing"}, ["neither"]]
    kinds = {node.get("type") for node in leaf.nodes}
    if "string" not in kinds:
        wrong += ["NaN", "Infinity", "\x00", "", "1", "true"]
    elif len(leaf.nodes) == 1:
        (node,) = leaf.nodes
        if "maxLength" in node and node["maxLength"] < 10**5:
            wrong.append("x" * (node["maxLength"] + 1))
        if node.get("minLength") or "pattern" in node or "enum" in node:
            wrong += ["", "\u202e"]
        if node.get("format") == "date-time":
            wrong += ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", "now"]
    if "boolean" not in kinds:
        wrong += [True, False]
    if not kinds & {"integer", "number"}:
        wrong += [1, 0.5]
    if kinds == {"integer"} and len(leaf.nodes) == 1:
        wrong += [_most(leaf.nodes[0]) + 1, _least(leaf.nodes[0]) - 1, 0.5]
    return st.sampled_from(wrong)


def replace_leaf(document: Any, path: Path, value: Any) -> Any:
    """The document with another value at the path."""
    first, *rest = path
    changed = list(document) if isinstance(document, list) else dict(document)
    changed[first] = replace_leaf(changed[first], tuple(rest), value) if rest else value
    return changed


def names_path(where: Path | list[str], path: Path) -> bool:
    """Whether an error's place names each part of the path, in this order; unions add parts of their own."""
    parts = iter([str(part) for part in where])
    return all(any(part == found for found in parts) for part in map(str, path))
