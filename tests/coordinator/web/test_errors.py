"""Every problem that the coordinator may answer with has a page."""

import ast
import re
from pathlib import Path

from fastapi.testclient import TestClient

import coordinator
from tests.support.databases import ON_ONE_ENGINE

pytestmark = ON_ONE_ENGINE  # no answer needs data


def test_every_error_class_and_every_literal_type_is_explained(http: TestClient) -> None:
    sources = [path.read_text() for path in Path(coordinator.__file__).parent.rglob("*.py")]
    classes = [node for text in sources for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    given = {node.name: {word.arg: word.value for word in node.keywords} for node in classes}
    codes = {
        ast.literal_eval(words["code"])
        if "code" in words
        else re.sub(r"\B(?=[A-Z])", "-", name[: -len("Error")]).lower()
        for name, words in given.items()
        if "title" in words
    }
    assert {"lease-unknown", "request-invalid", "internal"} <= codes
    overview = http.get("/problems").text
    for code in sorted(codes):
        assert f'href="/problems/{code}"' in overview
        page = http.get(f"/problems/{code}")
        assert page.status_code == 200 and f"<code>{code}</code>" in page.text
