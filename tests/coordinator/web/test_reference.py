"""The API's reference."""

import re

from fastapi.testclient import TestClient

from tests.support.databases import ON_ONE_ENGINE


@ON_ONE_ENGINE
def test_every_operation_and_message_is_described(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    page = http.get("/docs").text
    parts = [http.get(address).text for address in set(re.findall(r'<h2 id="\w+"><a href="(/docs/[^"]+)"', page))]
    for path, methods in document["paths"].items():
        assert page.count(f"<code>{path}</code>") == len(methods)
        assert sum(part.count(f"<code>{path}</code>") for part in parts) == len(methods)
    linked = set(re.findall(r'href="/docs/messages/(\w+)"', page))
    assert linked == set(document["components"]["schemas"])
    assert set(re.findall(r'href="/docs/messages/(\w+)"', "".join(parts))) <= linked
    assert http.get("/docs/none").status_code == http.get("/docs/messages/None").status_code == 404


@ON_ONE_ENGINE
def test_types_are_said_in_words(http: TestClient) -> None:
    page = http.get("/docs/messages/RunView").text
    assert '<code>metric</code> <span class="muted"></span> number or null' in page
    assert '<a href="/docs/messages/RunView">RunView</a>' in http.get("/docs/experiments").text
    assert "the last id you know; default: only what happens from now on" in http.get("/docs/activity").text
