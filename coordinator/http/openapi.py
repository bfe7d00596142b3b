"""The OpenAPI document: what FastAPI derives from handlers and models, and what holds for all of them besides."""

import tomllib
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from coordinator.http.reading import JSON
from shared.protocol import PROBLEM_MEDIA_TYPE, Problem

Json = dict[str, Any]

DESCRIPTION = """\
Branches, experiments, runs and findings of a volunteer research swarm. Reading needs no account, unless the maintainers
closed it. `/api/v1` is stable: fields and addresses are added, never changed or removed within a version; clients
ignore what they do not know. Errors are problem documents (RFC 9457).
"""
WORDS_FILE = Path(__file__).with_name("fields.toml")
"""The meaning of models, fields and parameters that do not state it in the code."""

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
        words = tomllib.loads(WORDS_FILE.read_text(encoding="utf-8"))
        for name, schema in schemas.items():
            _explain(words, name, schema)
        for methods in document["paths"].values():
            for method, operation in methods.items():
                for parameter in operation.get("parameters", []):
                    parameter.setdefault("description", words["parameters"].get(parameter["name"], ""))
                _complete(method, operation)
        app.openapi_schema = document
    return app.openapi_schema


def _explain(words: Json, name: str, schema: Json) -> None:
    """Say of a model and of its fields what they mean."""
    what, fields = words["models"].get(name), words["fields"]
    if what or name.startswith("Page_"):
        schema.setdefault("description", what or "A page of a list.")
    for field, described in schema.get("properties", {}).items():
        described.setdefault("description", fields.get(f"{name}.{field}") or fields.get(field, ""))


def _complete(method: str, operation: Json) -> None:
    """Say of an operation how it fails, and for one that reads JSON which headers it knows."""
    responses = operation["responses"]
    responses.pop("422", None)
    problem = {"$ref": f"{_REFERENCE}Problem"}
    responses["default"] = {"description": "A problem", "content": {PROBLEM_MEDIA_TYPE: {"schema": problem}}}
    found = responses.get("200", {})
    content = found.get("content", {})
    if method != "get" or JSON not in content:
        return
    parameters = operation.get("parameters", [])
    responses["304"] = {"description": "Unchanged: `If-None-Match` holds its `ETag`"}
    text = {"schema": {"type": "string"}}
    found["headers"] = {"ETag": text | {"description": "of this body"}}
    if "cursor" in {parameter["name"] for parameter in parameters}:
        found["headers"]["Link"] = text | {"description": 'the next page, `rel="next"`; missing on the last one'}
