"""The OpenAPI document: what FastAPI derives from handlers and models, and what holds for all of them besides."""

import tomllib
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from coordinator.http.reading import JSON
from shared.protocol import API_PREFIX, PROBLEM_MEDIA_TYPE, Problem

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
    app.openapi = partial(_describe, app, Lock())  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _describe(app: FastAPI, making: Lock) -> Json:
    with making:  # FastAPI raises KeyError where two threads do
        if app.openapi_schema is None:
            app.openapi_schema = _make_document(app)
    return app.openapi_schema


def _make_document(app: FastAPI) -> Json:
    document = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes,
        license_info=app.license_info, contact=app.contact,
    )  # fmt: skip
    schemas = document["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    words = tomllib.loads(WORDS_FILE.read_text(encoding="utf-8"))
    examples = Examples(words["examples"], schemas)
    for name, schema in schemas.items():
        _explain(words, name, schema)
        for field, described in schema.get("properties", {}).items():
            if (example := examples.find(name, field, described)) is not None:
                described.setdefault("examples", [example])
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", []):
                parameter.setdefault("description", words["parameters"].get(parameter["name"], ""))
                parameter.setdefault("example", examples.find(path, parameter["name"], parameter["schema"]))
            _complete(method, operation)
    _link(document["paths"])
    return document


def _explain(words: Json, name: str, schema: Json) -> None:
    """Say of a model and of its fields what they mean."""
    what, fields = words["models"].get(name), words["fields"]
    if what or name.startswith("Page_"):
        schema.setdefault("description", what or "A page of a list.")
    for field, described in schema.get("properties", {}).items():
        described.setdefault("description", fields.get(f"{name}.{field}") or fields.get(field, ""))


class Examples:
    """A value of each field and parameter: one that `fields.toml` gives, else one that follows from its type."""

    def __init__(self, given: Json, schemas: Json) -> None:
        self._given, self._schemas = given, schemas

    def find(self, place: str, name: str, schema: Json) -> Any:
        """The example of a field of a model, or of a parameter of an address; None for what is a model itself."""
        given = self._given.get(f"{place}.{name}", self._given.get(name))
        kinds = {part.get("type") for part in (schema, *schema.get("anyOf", ()))}
        if given is not None and kinds & _KINDS[type(given)]:
            return given
        return self._derive(place, name, schema)

    def _derive(self, place: str, name: str, schema: Json) -> Any:
        if "$ref" in schema:
            return next(iter(self._schemas[schema["$ref"].removeprefix(_REFERENCE)].get("enum", [])), None)
        if "anyOf" in schema:
            found = (self._derive(place, name, part) for part in schema["anyOf"] if part.get("type") != "null")
            return next((one for one in found if one is not None), None)
        if schema.get("type") == "array":
            one = self.find(place, name, schema.get("items", {}))
            return None if one is None else [one]
        if "enum" in schema or "const" in schema:
            return schema.get("const", next(iter(schema.get("enum", [])), None))
        if schema.get("type") in ("integer", "number"):
            return min(max(_OF_TYPE[schema["type"]], schema.get("minimum", -1e39)), schema.get("maximum", 1e39))
        return _OF_FORMAT.get(schema.get("format", "")) or _OF_TYPE.get(schema.get("type", ""))


_KINDS = {
    bool: {"boolean"}, dict: {"object"}, float: {"number"}, int: {"integer", "number"}, list: {"array"},
    str: {"string"},
}  # fmt: skip
_OF_TYPE: Json = {"integer": 3, "number": 0.012, "boolean": False}
_OF_FORMAT = {"date-time": "2026-11-30T12:00:00Z", "uuid": "0f8b7a52-6d41-4f0e-9c3b-5a1d2e7c9b10"}

LINKS = (
    ("/projects", "name", "/projects/{name}", "name"), ("/projects", "name", "/projects/{name}/branches", "name"),
    ("/experiments", "id", "/experiments/{experiment_id}", "experiment_id"),
    ("/experiments", "id", "/experiments/{experiment_id}/evidence", "experiment_id"),
    ("/experiments", "sha", "/lineage/{sha}", "sha"), ("/experiments", "project", "/records", "project"),
    ("/findings", "id", "/findings/{finding_id}", "finding_id"),
    ("/findings", "id", "/findings/{finding_id}/bibtex", "finding_id"),
    ("/findings", "experiment_id", "/experiments/{experiment_id}", "experiment_id"),
    ("/runs", "id", "/runs/{run_id}", "run_id"), ("/curves", "run_id", "/runs/{run_id}", "run_id"),
    ("/workers", "volunteer", "/findings", "volunteer"),
)  # fmt: skip
"""Links of a list's first entry: the list, the entry's field, the address, and its parameter."""


def _link(paths: Json) -> None:
    """Say of lists where their entries are told in full."""
    for source, field, target, parameter in LINKS:
        found = paths[f"{API_PREFIX}{source}"]["get"]
        operation = paths[f"{API_PREFIX}{target}"]["get"]["operationId"]
        link = {"operationId": operation, "parameters": {parameter: f"$response.body#/items/0/{field}"}}
        found["responses"]["200"].setdefault("links", {})[f"{field}: {operation}"] = link


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
