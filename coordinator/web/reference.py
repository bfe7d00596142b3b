"""The API's reference, from the OpenAPI document. FastAPI's own page loads its script from another host."""

from typing import Any

Json = dict[str, Any]
"""A part of the OpenAPI document, as FastAPI makes it."""

_SCHEMAS = "#/components/schemas/"


def list_operations(document: Json) -> dict[str, list[Json]]:
    """The operations of an OpenAPI document by tag: method, path, summary, parameters, body and answer."""
    groups: dict[str, list[Json]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "summary": operation.get("description") or operation.get("summary", ""),
                    "parameters": [
                        _view_field(given["name"], given["in"], given["schema"], given)
                        for given in operation.get("parameters", [])
                    ],
                    "body": _view_content(operation.get("requestBody", {})),
                    "answer": _view_content(*answers[:1] or [{}]),
                }
            )
    return groups


def list_schemas(document: Json) -> list[Json]:
    """The schemas of an OpenAPI document by name: messages with their fields, enums with their values."""
    schemas = []
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        required = schema.get("required", [])
        fields = [
            _view_field(field, "", kind, {"required": field in required, "description": kind.get("description", "")})
            for field, kind in schema.get("properties", {}).items()
        ]
        described = {"name": name, "description": schema.get("description", "")}
        schemas.append(described | {"fields": fields, "values": schema.get("enum", [])})
    return schemas


def _view_content(content: Json) -> Json | None:
    for media_type, body in content.get("content", {}).items():
        return _view_field("", media_type, body.get("schema") or body.get("itemSchema") or {}, {})
    return None


def _view_field(name: str, place: str, kind: Json, given: Json) -> Json:
    """A parameter, a field of a schema, or a body. `schema` is the name of the schema to link to, or empty."""
    text, schema = _describe(kind)
    return {
        "name": name, "place": place, "type": text, "schema": schema,
        "required": given.get("required", False), "description": given.get("description", ""),
    }  # fmt: skip


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
