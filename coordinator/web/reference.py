"""The API's reference as a page, from the OpenAPI document. FastAPI's own loads its script from another host."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
"""A piece of the OpenAPI document, as FastAPI makes it."""

_SCHEMAS = "#/components/schemas/"


@dataclass(frozen=True)
class Field:
    """A parameter, or a field of a schema. `schema` names the schema that the page links to, empty if none."""

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
    """A message: its fields, or the values of an enum."""

    name: str
    description: str
    fields: list[Field]
    values: list[str]


@dataclass(frozen=True)
class Reference:
    """All operations by tag, and all schemas by name."""

    groups: dict[str, list[Operation]]
    schemas: list[Schema]


def view_reference(document: Json) -> Reference:
    """Read an OpenAPI document."""
    groups: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            group = groups.setdefault(operation.get("tags", ["other"])[0], [])
            group.append(_view_operation(method.upper(), path, operation))
    schemas = document.get("components", {}).get("schemas", {})
    return Reference(groups, [_view_schema(name, schema) for name, schema in sorted(schemas.items())])


def _view_operation(method: str, path: str, operation: Json) -> Operation:
    answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    return Operation(
        method=method,
        path=path,
        summary=operation.get("description") or operation.get("summary", ""),
        parameters=[
            _view_field(p["name"], p["in"], p["schema"], p.get("required", False), p.get("description", ""))
            for p in operation.get("parameters", [])
        ],
        body=_view_content(operation.get("requestBody", {})),
        answer=_view_content(answers[0]) if answers else None,
    )


def _view_content(content: Json) -> Field | None:
    for media_type, body in content.get("content", {}).items():
        return _view_field("", media_type, body.get("schema") or body.get("itemSchema") or {}, True, "")
    return None


def _view_schema(name: str, schema: Json) -> Schema:
    required = schema.get("required", [])
    fields = [
        _view_field(field, "", kind, field in required, kind.get("description", ""))
        for field, kind in schema.get("properties", {}).items()
    ]
    return Schema(name, schema.get("description", ""), fields, schema.get("enum", []))


def _view_field(name: str, place: str, kind: Json, required: bool, description: str) -> Field:
    text, schema = _describe(kind)
    return Field(name, place, text, schema, required, description)


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
