"""The API's reference."""

import re

from fastapi.testclient import TestClient


def test_every_operation_and_schema_is_described(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    page = http.get("/docs").text
    for path, methods in document["paths"].items():
        assert f"<code>{path}</code>" in page
        assert page.count(f"<code>{path}</code>") == len(methods)
    anchors = set(re.findall(r'id="(\w+)"', page))
    assert set(document["components"]["schemas"]) <= anchors
    assert set(re.findall(r'href="#(\w+)"', page)) <= anchors


def test_types_are_said_in_words(http: TestClient) -> None:
    page = http.get("/docs").text
    assert '<code>metric</code> <span class="muted"></span> number or null' in page
    assert '<a href="#RunView">list of RunView</a>' in page
    assert "the last id you know; default: only what happens from now on" in page
