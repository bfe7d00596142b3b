"""Static files and how long they may be kept."""

import re
from hashlib import sha256

from fastapi.testclient import TestClient

from coordinator.web import assets


def test_an_address_names_its_contents_version(http: TestClient, project: str) -> None:
    addresses = re.findall(r'(?:href|src)="(/static/[^"]+)"', http.get("/").text)
    assert len(addresses) == 4, "style, icon, script and plotly"
    for address in addresses:
        response = http.get(address)
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"], address
    version = sha256((assets.STATIC_FOLDER / "swarm.css").read_bytes()).hexdigest()[:12]
    assert f"/static/swarm.css?v={version}" in addresses


def test_what_a_script_imports_is_asked_about(http: TestClient) -> None:
    response = http.get("/static/feed.js")
    assert response.headers["cache-control"] == "no-cache"
    assert http.get("/static/feed.js", headers={"If-None-Match": response.headers["etag"]}).status_code == 304


def test_plotly_is_served_from_the_installed_package(http: TestClient) -> None:
    plain = http.get(assets.PLOTLY_PATH, headers={"Accept-Encoding": "identity"})
    packed = http.get(assets.PLOTLY_PATH, headers={"Accept-Encoding": "gzip"})
    assert plain.text.startswith("/**\n* plotly.js v")
    assert packed.headers["content-encoding"] == "gzip" and packed.text == plain.text
    assert int(packed.headers["content-length"]) < len(plain.content) / 3


def test_nothing_outside_the_folder_is_served(http: TestClient) -> None:
    for path in ("/static/../pages.py", "/static/%2e%2e/pages.py", "/static/none.js"):
        assert http.get(path).status_code == 404
