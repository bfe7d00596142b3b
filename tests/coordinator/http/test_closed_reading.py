"""A swarm that only those with a token may read."""

from base64 import b64encode
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from coordinator.accounts.service import create_token
from coordinator.app import create_app
from coordinator.http.middleware import read_token
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from tests.support.databases import SqliteFolder
from tests.support.seeds import write_seed

CLOSED = ["/", "/projects/tiny", "/api/v1/projects", "/api/v1/events", "/git/tiny.bundle", "/docs",
          "/api/v1/projects/tiny/export/runs.csv"]  # fmt: skip


def test_everything_but_the_way_in_asks_for_a_token(tmp_path: Path, sqlite_folder: SqliteFolder) -> None:
    settings = CoordinatorSettings(database_url=sqlite_folder.create_migrated(tmp_path), public_reading=False)
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False) as http:
        with app.state.database.write() as session:
            create_project(session, write_seed(tmp_path / "seed"))
            token = create_token(session, "ada", "test")
        for address in CLOSED:
            refused = http.get(address)
            assert refused.status_code == 401, address
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.headers["www-authenticate"].startswith("Basic")
        assert http.get("/api/v1/projects", headers={"Authorization": "Bearer swt_wrong"}).status_code == 401
        basic = b64encode(f"anybody:{token}".encode()).decode()
        for allowed in (f"Bearer {token}", f"Basic {basic}"):
            for address in (name for name in CLOSED if name != "/api/v1/events"):
                assert http.get(address, headers={"Authorization": allowed}).status_code == 200, address
        assert http.get("/api/v1/versions").status_code == 200
        assert http.post("/api/v1/accounts", json={"name": "grace"}).status_code == 201


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer  ", "Basic %%%", "Basic /w==", "Digest x", "Basic YWRhOg=="])
def test_what_is_no_token(header: str) -> None:
    assert read_token(header) is None
