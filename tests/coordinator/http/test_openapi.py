"""The OpenAPI document, and whether a real server keeps to it: requests drawn by schemathesis."""

import json
import re
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator

from coordinator.app import create_app
from coordinator.http.openapi import WORDS_FILE
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from tests.support.databases import ON_ONE_ENGINE, SqliteFolder
from tests.support.examples import choose_examples
from tests.support.seeds import write_seed
from tests.support.servers import serve
from tests.support.swarm_data import write_history

ENDLESS = "/api/v1/events"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, sqlite_folder: SqliteFolder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("openapi")
    app = create_app(CoordinatorSettings(database_url=sqlite_folder.create_migrated(folder), sign_ups_per_hour=5))
    with serve(app) as server:
        with app.state.database.write() as session:
            write_history(session, create_project(session, write_seed(folder / "seed"))[0], 6)
        yield server.url


@ON_ONE_ENGINE
def test_two_first_readers_at_once_get_one_document(settings: CoordinatorSettings) -> None:
    app = create_app(settings)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: app.openapi(), range(2))
    assert first is second


def test_the_server_keeps_to_the_document(url: str) -> None:
    import schemathesis  # noqa: PLC0415 - takes seconds, in each process that gathers tests
    from schemathesis.checks import not_a_server_error  # noqa: PLC0415
    from schemathesis.specs.openapi import checks  # noqa: PLC0415

    expected = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.response_headers_conformance,
    ]
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == ENDLESS:
            continue

        @given(case=operation.as_strategy())
        @settings(max_examples=choose_examples(3, 300), database=None, suppress_health_check=list(HealthCheck))
        def keeps_to_it(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=expected, headers={"Authorization": "Bearer swt_nobody"})

        keeps_to_it()
        tried += 1
    assert tried > 30


def test_links_lead_from_lists_to_their_entries(url: str) -> None:
    import schemathesis  # noqa: PLC0415 - as above
    from schemathesis.checks import not_a_server_error  # noqa: PLC0415
    from schemathesis.specs.openapi import checks  # noqa: PLC0415

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json").exclude(path=ENDLESS)

    class Reader(schema.as_state_machine()):  # type: ignore[misc]
        """A client that follows the document's links."""

        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            return {"headers": {"Authorization": "Bearer swt_nobody"}}

        def validate_response(self, response: Any, case: schemathesis.Case, **given: Any) -> None:
            expected = [not_a_server_error, checks.status_code_conformance, checks.response_schema_conformance]
            case.validate_response(response, checks=expected)

    Reader.run(
        settings=settings(
            max_examples=choose_examples(4, 200), stateful_step_count=6, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        )
    )  # fmt: skip


def test_every_link_leads_somewhere(url: str) -> None:
    """The field that a link takes from a list's first entry is there, and the address answers."""
    with httpx.Client(base_url=url, timeout=60) as http:
        assert follow_links(http) > 10


def follow_links(http: httpx.Client) -> int:
    """The number of links."""
    document = http.get("/openapi.json").json()
    paths = {of["operationId"]: path for path, methods in document["paths"].items() for of in methods.values()}
    followed = 0
    for path, methods in document["paths"].items():
        for link in methods.get("get", {}).get("responses", {}).get("200", {}).get("links", {}).values():
            is_of_all = path.count("/") < 5 and "projects" not in path
            first = http.get(path, params={"project": "tiny"} if is_of_all else None).json()["items"][0]
            target, given = paths[link["operationId"]], {}
            for name, pointer in link["parameters"].items():
                value = first[pointer.rpartition("/")[2]]
                given |= {} if f"{{{name}}}" in target else {name: value}
                target = target.replace(f"{{{name}}}", str(value))
            assert http.get(target, params=given).status_code == 200, (path, target)
            followed += 1
    return followed


def list_without_example(document: dict[str, Any]) -> Iterator[str]:
    """Parameters, and fields that are no models, without an example or with one that is not of their form."""
    components = {"components": document["components"]}
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for one in operation.get("parameters", []):
                if not Draft202012Validator(one["schema"] | components).is_valid(one.get("example")):
                    yield f"{method} {path}: {one['name']}"
    for name, schema in schemas.items():
        for field, of in schema.get("properties", {}).items():
            examples = of.get("examples", [])
            checked = Draft202012Validator(of | components)
            is_plain = "properties" not in json.dumps(of) and not re.search(r"schemas/(\w+)", json.dumps(of))
            if (is_plain and not examples) or not all(checked.is_valid(example) for example in examples):
                yield f"{name}.{field}"


def list_undescribed(document: dict[str, Any]) -> Iterator[str]:
    """Operations, parameters, models and fields without as much as two words that say what they are."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            found = {f"{method} {path}": operation.get("description", "")}
            for parameter in operation.get("parameters", []):
                found[f"{method} {path}: {parameter['name']}"] = parameter.get("description", "")
            yield from (name for name, words in found.items() if len(words.split()) < 2)
    for name, schema in document["components"]["schemas"].items():
        described = {name: schema} | {f"{name}.{field}": of for field, of in schema.get("properties", {}).items()}
        yield from (place for place, of in described.items() if len(of.get("description", "").split()) < 2)


def test_the_document_says_what_everything_means() -> None:
    """And the words in fields.toml are all used: a field that goes takes its words along."""
    document, words = create_app().openapi(), tomllib.loads(WORDS_FILE.read_text())
    assert list(list_undescribed(document)) == []
    assert list(list_without_example(document)) == [], "give an example in fields.toml"
    assert document["info"]["license"]["name"] == "Apache-2.0" and document["info"]["contact"]["url"]
    schemas = document["components"]["schemas"]
    fields = {f"{name}.{field}" for name, schema in schemas.items() for field in schema.get("properties", {})}
    exact = {name for name in words["fields"] if "." in name}
    assert exact <= fields
    assert set(words["fields"]) - exact <= {place.partition(".")[2] for place in fields - exact}
    assert set(words["models"]) <= set(schemas)
    names = {
        one["name"]
        for methods in document["paths"].values()
        for of in methods.values()
        for one in of.get("parameters", [])
    }
    alone = {name for name in words["examples"] if "." not in name and not name.startswith("/")}
    assert alone <= {place.partition(".")[2] for place in fields} | names
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert set(words["parameters"]) <= {one["name"] for of in operations for one in of.get("parameters", [])}


def test_a_field_without_words_is_found() -> None:
    document = create_app().openapi()
    del document["components"]["schemas"]["RunView"]["properties"]["metric"]["description"]
    document["components"]["schemas"]["RunView"]["properties"]["metric"]["examples"] = ["a text"]
    document["components"]["schemas"]["RunView"]["description"] = "Run."
    assert list(list_undescribed(document)) == ["RunView", "RunView.metric"]
    assert list(list_without_example(document)) == ["RunView.metric"]
