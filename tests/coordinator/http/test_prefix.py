"""A coordinator below a path: no link of a page, an answer or a header leaves it, however the proxy passes requests."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

import coordinator.web
from coordinator.app import create_app
from coordinator.projects.service import create_project
from coordinator.settings import RESERVED_PATHS, CoordinatorSettings
from swarm.client import Client
from tests.support.crawler import PathProxy, crawl, list_addresses
from tests.support.databases import SqliteFolder
from tests.support.seeds import write_seed
from tests.support.servers import serve
from tests.support.swarm_data import EarlierHistory
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker

HOST = "http://testserver"
WEB = Path(coordinator.web.__file__).parent
Behind = Callable[..., TestClient]


@pytest.fixture
def behind(tmp_path: Path, sqlite_folder: SqliteFolder) -> Iterator[Behind]:
    """Make a client of a coordinator with a history, behind a proxy that serves it below `/swarm/`."""
    clients: list[TestClient] = []

    def make(*, removes: bool = True, public_url: str = f"{HOST}/swarm", **settings: Any) -> TestClient:
        url = sqlite_folder.create_filled(tmp_path, EarlierHistory(70, others=("other",)))
        app = create_app(CoordinatorSettings(database_url=url, public_url=public_url, **settings))
        client = TestClient(PathProxy(app, "/swarm", removes=removes), raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.mark.parametrize("removes", [True, False], ids=["removed by the proxy", "left by the proxy"])
def test_no_link_of_any_page_leaves_the_prefix(behind: Behind, removes: bool) -> None:
    seen = crawl(behind(removes=removes), f"{HOST}/swarm/", f"{HOST}/swarm/runs/1", f"{HOST}/swarm/runs/2")
    outside = {address: by for address, (_, by) in seen.items() if not address.startswith(f"{HOST}/swarm/")}
    assert outside == {}
    assert {address: found for address, found in seen.items() if found[0] not in (0, 200, 303, 307)} == {}
    kinds = {address.removeprefix(f"{HOST}/swarm/").partition("?")[0].split("/")[0] for address in seen}
    assert {"projects", "experiments", "findings", "topics", "static", "problems", "docs", "git", "api"} <= kinds


def test_templates_and_scripts_name_no_address_without_the_prefix() -> None:
    """Those that only a script uses, or that no crawled page shows."""
    raw = re.compile(r"""(?:href|src|action|data-[a-z-]+)="/|[`"']/(?:[a-z]|\$\{)""")
    for path in (*WEB.rglob("*.html"), *(WEB / "static").glob("*.js")):
        if path.name.endswith(".min.js"):  # others' code, which knows no address of ours
            continue
        text = path.read_text()
        allowed = text.replace("dataset.root}/", "").replace("${root}/", "").replace("root + (", "")
        allowed = allowed.replace("ask(`/", "")  # a function that puts the prefix before it
        allowed = allowed.replace('root() ~ "/', "")
        leaking = [line for line in allowed.splitlines() if raw.search(line) and "location.assign" not in line]
        assert leaking == [], path.name


def test_the_crawler_would_notice_links_that_leave_it(behind: Behind) -> None:
    seen = crawl(behind(public_url=""), f"{HOST}/swarm/")
    assert any(status == 418 for status, _ in seen.values())


def test_links_of_headers_stay_below_the_prefix(behind: Behind) -> None:
    http = behind()
    document = http.get("/swarm/openapi.json").json()
    assert document["servers"] == [{"url": "/swarm"}]
    sha = http.get("/swarm/api/v1/experiments?project=tiny").json()["items"][0]["sha"]
    linked = 0
    for path, methods in document["paths"].items():
        operation = methods.get("get", {})
        if "cursor" not in {parameter["name"] for parameter in operation.get("parameters", [])}:
            continue
        if "security" in operation:  # these ask for an account, and page like the others
            continue
        path = path.replace("{project}", "tiny").replace("{name}", "tiny").replace("{sha}", sha)
        assert "{" not in path, "name an example for this parameter"
        names = {parameter["name"] for parameter in operation["parameters"]}
        response = http.get(f"/swarm{path}", params={"limit": 1} | ({"project": "tiny"} if "project" in names else {}))
        assert response.status_code == 200, path
        if response.json()["next_cursor"]:
            linked += 1
            address = response.links["next"]["url"]
            assert address.startswith(f"/swarm{path}?") and http.get(address).status_code == 200
    assert linked >= 3


@pytest.mark.parametrize("path", ["docs/", "projects/", "projects/tiny/", "static", "experiments/1/", "runs/2", "git/"])
def test_redirects_stay_below_the_prefix(behind: Behind, path: str) -> None:
    response = behind().get(f"/swarm/{path}", follow_redirects=False)
    if "location" in response.headers:
        assert response.headers["location"].removeprefix(HOST).startswith("/swarm/")


def test_the_meaning_of_a_problem_is_a_page_below_the_prefix(behind: Behind) -> None:
    http = behind(max_body_bytes=1_000)
    problems = [
        http.get("/swarm/api/v1/experiments/9999"),
        http.get("/swarm/api/v1/nothing"),
        http.get("/swarm/api/v1/runs/x"),
        http.post("/swarm/api/v1/accounts", content=b"x" * 2_000),
        http.delete("/swarm/api/v1/projects"),
        http.post("/swarm/api/v1/leases", json={}),
    ]
    for response in problems:
        kind = response.json()["type"]
        assert response.status_code >= 400 and kind.startswith("/swarm/problems/")
        assert http.get(kind).status_code == 200
    page = http.get("/swarm/nothing", headers={"Accept": "text/html"}).text
    assert all(address.startswith(f"{HOST}/swarm/") for address in list_addresses(page, f"{HOST}/swarm/nothing"))


def test_closed_reading_is_closed_below_a_prefix_too(behind: Behind) -> None:
    for removes in (True, False):
        http = behind(removes=removes, public_reading=False)
        assert http.get("/swarm/projects/tiny").status_code == 401
        assert http.get("/swarm/api/v1/runs").status_code == 401
        assert http.get("/swarm/api/v1/versions").status_code == 200
        assert http.get("/swarm/robots.txt").text == "User-agent: *\nDisallow: /swarm/\n"


def test_workers_clients_and_git_work_below_a_prefix(tmp_path: Path, sqlite_folder: SqliteFolder) -> None:
    url = sqlite_folder.create_migrated(tmp_path)
    app = create_app(CoordinatorSettings(database_url=url, public_url="http://127.0.0.1/swarm"))
    with app.state.database.write() as session:
        create_project(session, write_seed(tmp_path / "seed"))
        token = create_token(session, "ada", "test")
    with serve(app) as server:
        with httpx.Client(base_url=f"{server.url}/swarm", timeout=60) as http:
            worker = MiniWorker(http, token)
            worker.measure_root()
            assert worker.experiment("DEPTH = 5\n")[1].url == "/experiments/1", "relative to the coordinator's address"
        with Client(f"{server.url}/swarm") as client:
            assert [project.name for project in client.list_projects()] == ["tiny"]
            assert b"".join(client.download_history("tiny")).startswith(b"# v2 git bundle")
        cloned = subprocess.run(
            ["git", "clone", "-q", f"{server.url}/swarm/git/tiny.git", str(tmp_path / "clone")], capture_output=True
        )
        assert cloned.returncode == 0, cloned.stderr
        assert (tmp_path / "clone" / "train.py").exists()


def test_a_prefix_that_could_be_a_page_is_refused(tmp_path: Path) -> None:
    for path in ("/projects", "/api/v1", "/static/x"):
        with pytest.raises(ValidationError, match="choose another path"):
            CoordinatorSettings(public_url=f"https://example.org{path}")
    app = create_app(CoordinatorSettings(database_url=f"sqlite:///{tmp_path}/coordinator.db"))
    first = {getattr(route, "path", "/").split("/")[1] for route in app.routes} - {""}
    assert first <= RESERVED_PATHS, "add the new first parts of paths to RESERVED_PATHS"
    app.state.database.close()


@pytest.mark.parametrize(
    "url",
    ["swarm.example.org", "/swarm", "https://example.org/a?b=c", "ftp://example.org", "https://a@b.org", "https:// x"],
)
def test_a_public_url_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="must be an address"):
        CoordinatorSettings(public_url=url)


@pytest.mark.parametrize(
    ("url", "prefix"),
    [("", ""), ("https://example.org", ""), ("https://example.org/", ""), ("https://example.org/a/b/", "/a/b"),
     ("http://[::1]:8000/swarm", "/swarm"), ("https://example.org/swarms-of.2", "/swarms-of.2")],
)  # fmt: skip
def test_the_prefix_is_the_path_of_the_public_address(url: str, prefix: str) -> None:
    assert CoordinatorSettings(public_url=url).path_prefix == prefix
