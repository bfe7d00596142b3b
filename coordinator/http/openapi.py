"""The OpenAPI document: what FastAPI derives from handlers and models, and what holds for all of them besides."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from coordinator.http.middleware import JSON, SPARSE_JSON
from shared.protocol import PROBLEM_MEDIA_TYPE, Problem

Json = dict[str, Any]

DESCRIPTION = """\
Branches, experiments, runs and findings of a volunteer research swarm. Reading needs no account, unless the maintainers
closed it. `/api/v1` is stable: fields and addresses are added, never changed or removed within a version; clients
ignore what they do not know. Errors are problem documents (RFC 9457).
"""
_REFERENCE = "#/components/schemas/"


def describe_api(app: FastAPI) -> None:
    """Have the application make its document here, at the first request for it."""
    app.openapi = partial(_describe, app)  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _describe(app: FastAPI) -> Json:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        schemas = document["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for methods in document["paths"].values():
            for method, operation in methods.items():
                _complete(method, operation, schemas)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(method: str, operation: Json, schemas: Json) -> None:
    """Say of an operation how it fails, and for one that reads JSON which headers and fields it knows."""
    responses = operation["responses"]
    responses.pop("422", None)
    problem = {"$ref": f"{_REFERENCE}Problem"}
    responses["default"] = {"description": "A problem", "content": {PROBLEM_MEDIA_TYPE: {"schema": problem}}}
    found = responses.get("200", {})
    content = found.get("content", {})
    if method != "get" or JSON not in content:
        return
    parameters = operation.setdefault("parameters", [])
    names = list(_list_fields(content[JSON]["schema"], schemas))
    parameters.append(
        {
            "name": "fields", "in": "query", "required": False, "style": "form", "explode": False,
            "description": "only these fields of each document, separated by commas",
            "schema": {"type": "array", "items": {"type": "string", "enum": names}, "minItems": 1},
        }
    )  # fmt: skip
    content[SPARSE_JSON] = {"schema": {"type": "object", "description": "The same with the chosen fields only."}}
    responses["304"] = {"description": "Unchanged: `If-None-Match` holds its `ETag`"}
    text = {"schema": {"type": "string"}}
    found["headers"] = {"ETag": text | {"description": "of this body"}}
    if "cursor" in {parameter["name"] for parameter in parameters}:
        found["headers"]["Link"] = text | {"description": 'the next page, `rel="next"`; missing on the last one'}


def _list_fields(schema: Json, schemas: Json, prefix: str = "") -> Iterator[str]:
    """The fields of a document, or of a page's items, and those one level below: `posterior.effect_mean`."""
    properties = _resolve(schema, schemas).get("properties", {})
    if not prefix and set(properties) == {"items", "next_cursor"}:
        yield from _list_fields(properties["items"]["items"], schemas)
        return
    for name, kind in properties.items():
        yield prefix + name
        if not prefix:
            yield from _list_fields(kind, schemas, f"{name}.")


def _resolve(schema: Json, schemas: Json) -> Json:
    """A schema itself, that which it refers to, or the one of `X or null`."""
    for part in schema.get("anyOf", [schema]):
        if "$ref" in part:
            resolved: Json = schemas[part["$ref"].removeprefix(_REFERENCE)]
            return resolved
    return schema
