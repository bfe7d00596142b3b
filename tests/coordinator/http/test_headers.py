"""Headers of every response."""

from fastapi.testclient import TestClient


def test_only_our_own_scripts_run(http: TestClient, project: str) -> None:
    for path in ("/", "/docs", "/api/v1/projects", "/nothing"):
        headers = http.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
