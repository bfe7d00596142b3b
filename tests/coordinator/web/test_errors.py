"""Every problem that the coordinator may answer with has a page, and keeps its type."""

from fastapi.testclient import TestClient

from coordinator.web.errors import map_problem_types
from tests.support.databases import ON_ONE_ENGINE

pytestmark = ON_ONE_ENGINE  # no answer needs data

CODES = """
account-pending account-quarantined account-stopped account-suspended action-unfit already-decided bad-request
body-too-large body-too-slow branch-exists branch-not-empty branch-state changed-meanwhile code-lost commit-invalid
commit-mismatch comparison-invalid cursor-invalid database-unavailable feed-busy feed-closed fetch-refused
file-not-editable file-too-large finding-hidden finding-state form-invalid http-error internal invitation-invalid
item-settled last-maintainer lease-ended lease-foreign lease-token-wrong lease-transition lease-unknown
method-not-allowed name-invalid name-reserved name-taken not-allowed not-found not-held not-undoable nothing-changes
order-invalid password-unsuitable path-not-allowed project-archived project-exists protocol-unsupported reports-busy
repository-invalid request-invalid result-conflict result-unfit results-invalid seed-invalid session-changed
settings-invalid settings-outdated sha-ambiguous shares-exceeded sign-in-busy sign-in-invalid sign-in-needed
sign-up-busy sign-up-closed snapshot-impossible snapshot-read-only steps-not-told too-many-branches unauthorized
wrong-commit
"""
"""Programs tell problems by them (docs/api.md), so none is renamed. New ones are added here."""


def test_every_problem_keeps_its_type_and_is_explained(http: TestClient) -> None:
    ours = {code for code, error in map_problem_types().items() if error.__module__.startswith("coordinator.")}
    assert ours == {*CODES.split()}
    overview = http.get("/problems").text
    for code in sorted(ours):
        assert f'href="/problems/{code}"' in overview
        page = http.get(f"/problems/{code}")
        assert page.status_code == 200 and f"<code>{code}</code>" in page.text
