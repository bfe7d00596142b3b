"""Every problem that the coordinator may answer with has a page."""

import re
from pathlib import Path

from fastapi.testclient import TestClient

import coordinator


def test_every_error_class_and_every_literal_type_is_explained(http: TestClient) -> None:
    sources = [path.read_text() for path in Path(coordinator.__file__).parent.rglob("*.py")]
    codes = {code for text in sources for code in re.findall(r'^    code = "([a-z-]+)"', text, re.MULTILINE)}
    codes |= {code for text in sources for code in re.findall(r'type="/problems/([a-z-]+)"', text)}
    assert {"lease-unknown", "request-invalid", "internal"} <= codes
    overview = http.get("/problems").text
    for code in sorted(codes):
        assert f'href="/problems/{code}"' in overview
        page = http.get(f"/problems/{code}")
        assert page.status_code == 200 and f"<code>{code}</code>" in page.text
