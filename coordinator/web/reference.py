"""The API's reference, from the OpenAPI document. FastAPI's own page loads its script from another host."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
"""A part of the OpenAPI document, as FastAPI makes it."""

_SCHEMAS = "#/components/schemas/"


@dataclass(frozen=True)
class Field:
    """A parameter, a field of a schema, or a body. `schema` is the schema to link to, or empty."""

    name: str
    place: str
    type: str
    schema: str
    required: bool
    description: str


@dataclass(frozen=True)
class Operation:
    """One method of one address."""

    method: str
    path: str
    summary: str
    parameters: list[Field]
    body: Field | None
    answer: Field | None


@dataclass(frozen=True)
class Schema:
    """A message with its fields, or an enum with its values."""

    name: str
    description: str
    fields: list[Field]
    values: list[str]


def list_operations(document: Json) -> dict[str, list[Operation]]:
    """The operations of an OpenAPI document by tag."""
    groups: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
            summary = operation.get("description") or operation.get("summary", "")
            parameters = [_view_field(p["name"], p["in"], p["schema"], p) for p in operation.get("parameters", [])]
            body, answer = _view_content(operation.get("requestBody", {})), _view_content(*answers[:1] or [{}])
            group = groups.setdefault(operation.get("tags", ["other"])[0], [])
            group.append(Operation(method.upper(), path, summary, parameters, body, answer))
    return groups


def list_schemas(document: Json) -> list[Schema]:
    """The schemas of an OpenAPI document by name."""
    schemas = []
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        required = schema.get("required", [])
        fields = [
            _view_field(field, "", kind, {"required": field in required, "description": kind.get("description", "")})
            for field, kind in schema.get("properties", {}).items()
        ]
        schemas.append(Schema(name, schema.get("description", ""), fields, schema.get("enum", [])))
    return schemas


def _view_content(content: Json) -> Field | None:
    for media_type, body in content.get("content", {}).items():
        return _view_field("", media_type, body.get("schema") or body.get("itemSchema") or {}, {})
    return None


def _view_field(name: str, place: str, kind: Json, given: Json) -> Field:
    text, schema = _describe(kind)
    return Field(name, place, text, schema, given.get("required", False), given.get("description", ""))


def _describe(kind: Json) -> tuple[str, str]:
    """A type in words, and the schema in it, if any: `list of Run`, `Run`."""
    if "$ref" in kind:
        name = kind["$ref"].removeprefix(_SCHEMAS)
        return name, name
    if "anyOf" in kind:
        parts = [_describe(part) for part in kind["anyOf"]]
        return " or ".join(text for text, _ in parts), next((schema for _, schema in parts if schema), "")
    if kind.get("type") == "array":
        text, schema = _describe(kind.get("items", {}))
        return f"list of {text}", schema
    return kind.get("format") or kind.get("type", "any"), ""
