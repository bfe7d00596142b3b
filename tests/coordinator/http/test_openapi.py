"""The OpenAPI document, and whether a real server keeps to it: requests drawn by schemathesis."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from coordinator.app import create_app
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from tests.support.databases import SqliteFolder
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
        @settings(max_examples=choose_examples(6, 300), database=None, suppress_health_check=list(HealthCheck))
        def keeps_to_it(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=expected, headers={"Authorization": "Bearer swt_nobody"})

        keeps_to_it()
        tried += 1
    assert tried > 30
