"""All routes, and who may use them: a new route without a row here fails."""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.accounts.permissions import ALLOWED, Permission
from coordinator.db.database import Database
from shared.protocol import API_PREFIX, PROBLEM_MEDIA_TYPE
from shared.workers import Role, TokenScope
from tests.support.accounts import Browsing, Person, browse_as, code_of, make_person
from tests.support.databases import SqliteFolder
from tests.support.messages import HARDWARE, claim_request, make_proposal, make_run
from tests.support.volunteers import MiniWorker

OPEN = frozenset(
    f"GET {path}"
    for path in (
        "/", "/docs", "/docs/messages/{message}", "/docs/{tag}", "/experiments/{experiment_id}",
        "/experiments/{experiment_id}.json",
        "/experiments/{experiment_id}/live", "/findings",
        "/findings/{finding_id}", "/findings/{finding_id}.json", "/findings/{finding_id}/report",
        "/git/{project}.bundle",
        "/git/{project}.git/info/refs", "/git/{project}.pack", "/healthz", "/metrics", "/openapi.json", "/problems",
        "/problems/{code}", "/projects/{name}", "/projects/{name}.json", "/projects/{name}/live",
        "/projects/{name}/digests", "/projects/{name}/digests.atom", "/projects/{name}/digests/{week}",
        "/projects/{name}/digests/{week}.md",
        "/projects/{name}/plot", "/projects/{name}/branches", "/projects/{name}/branches/{branch}",
        "/projects/{name}/commits/{sha}", "/projects/{name}/experiments",
        "/projects/{name}/experiments.{form}", "/compare", "/projects/{name}/settings",
        "/projects/{name}/tree", "/projects/{name}/tree.json", "/projects/{name}/importance",
        "/projects/{name}/topics", "/readyz", "/robots.txt", "/runs/{run_id}", "/live",
        "/workers", "/workers/{worker_id}", "/projects/{name}/workers", "/volunteers/{name}",
        "/volunteers/{name}/{worker:path}", "/leaderboard",
        "/sign-in", "/status", "/topics/{project}/{slug}", "/topics/{project}/{slug}.json",
        *(
            API_PREFIX + path
            for path in (
                "/compare", "/curves", "/events", "/experiments", "/experiments/{experiment_id}",
                "/experiments/{experiment_id}/evidence", "/findings", "/findings/search", "/findings/{finding_id}",
                "/findings/{finding_id}/bibtex", "/findings/{finding_id}/versions/{number}", "/hardware-classes",
                "/leases", "/leases/{lease_id}/context", "/lineage/{sha}", "/projects", "/projects/{name}",
                "/projects/{name}/branches", "/projects/{name}/branches/{branch}/log",
                "/projects/{name}/commits/editable", "/projects/{name}/commits/{sha}/files",
                "/projects/{name}/early-stops", "/projects/{name}/export/results.tsv",
                "/projects/{name}/export/{table}.{format}", "/projects/{name}/findings-value",
                "/projects/{name}/export/history.jsonl", "/projects/{name}/history/checkpoint",
                "/projects/{name}/history/inclusion/{run_id}", "/projects/{name}/history/consistency",
                "/projects/{name}/digests", "/projects/{name}/digests/{week}",
                "/projects/{name}/progress", "/projects/{name}/settings", "/projects/{name}/shares", "/records",
                "/runs", "/runs/{run_id}",
                "/topics", "/topics/{project}/{slug}", "/versions", "/volunteers", "/workers",
                "/leaderboard",
            )
        ),
    )
) | {"POST /git/{project}.git/git-upload-pack", f"POST {API_PREFIX}/findings/tried",
    f"POST {API_PREFIX}/findings/{{finding_id}}/reports", "MOUNT /static"}  # fmt: skip
"""Reading, which needs no account where it is public."""

WAYS_IN = frozenset({f"POST {API_PREFIX}/accounts", f"POST {API_PREFIX}/sign-in"})


class Visitor(StrEnum):
    """The kinds of people who come by. The author is a volunteer whose own finding or token it is."""

    ANONYMOUS = "anonymous"
    VOLUNTEER = "volunteer"
    AUTHOR = "author"
    MODERATOR = "moderator"
    MAINTAINER = "maintainer"


EVERYBODY = frozenset(Visitor)
ACCOUNTS = EVERYBODY - {Visitor.ANONYMOUS}
STAFF = frozenset({Visitor.MODERATOR, Visitor.MAINTAINER})
MAINTAINERS = frozenset({Visitor.MAINTAINER})

PAGES: dict[str, frozenset[Visitor]] = {
    "POST /sign-in": EVERYBODY,
    "POST /sign-out": EVERYBODY,
    "GET /join": EVERYBODY,
    "POST /join": EVERYBODY,
    "GET /me": ACCOUNTS,
    "POST /me/login-code": ACCOUNTS,
    "POST /me/password": ACCOUNTS,
    "POST /me/profile": ACCOUNTS,
    "POST /me/sign-out-everywhere": ACCOUNTS,
    "POST /me/tokens": ACCOUNTS,
    "POST /me/tokens/{token_id}/label": frozenset({Visitor.AUTHOR}),
    "POST /me/tokens/{token_id}/revocation": frozenset({Visitor.AUTHOR}),
    "GET /admin/queue": STAFF,
    "POST /admin/queue": STAFF,
    "GET /audit": STAFF,
    "GET /audit.csv": STAFF,
    "POST /audit/{entry_id}/undo": STAFF,
    "POST /findings/{finding_id}/report": EVERYBODY,
    "POST /findings/{finding_id}/retraction": STAFF | {Visitor.AUTHOR},
    "POST /findings/{finding_id}/restoration": STAFF | {Visitor.AUTHOR},
    "POST /projects/{name}/branches": ACCOUNTS,
    "POST /projects/{name}/branches/{branch}/{change}": STAFF,
    "POST /workers/{worker_id}/{change}": STAFF,
    "POST /projects/{name}/settings": MAINTAINERS,
    "POST /projects/{name}/settings/preview": MAINTAINERS,
    "GET /admin/invitations": STAFF,
    "POST /admin/invitations": STAFF,
    "POST /admin/invitations/{invitation_id}/revocation": STAFF,
    "POST /volunteers/{name}/papers/retraction": STAFF,
    "GET /admin/accounts": STAFF,
    "GET /admin/accounts/{name}": STAFF,
    "POST /admin/accounts/{name}/approval": STAFF,
    "POST /admin/accounts/{name}/suspension": STAFF,
    "POST /admin/accounts/{name}/reinstatement": STAFF,
    "POST /admin/accounts/{name}/quarantine": STAFF,
    "POST /admin/accounts/{name}/release": STAFF,
    "POST /admin/accounts/{name}/role": MAINTAINERS,
    "POST /admin/accounts/{name}/sign-in-link": MAINTAINERS,
    "POST /admin/accounts/{name}/tokens/{token_id}/revocation": MAINTAINERS,
}
"""Pages that are not for reading alone, and forms: a route -> those who may use it. Forms are sent with a reason."""

WHY = {"reason": "because"}
NOTE = {"text": "A note."}
DRAFT = {"claim": "Other words.", "agent": "scripted"}
BRANCH = "/projects/none/branches/none"
LEASE = uuid4()
PROPOSAL = {"token": "t", "proposal": make_proposal().model_dump(mode="json"), "files": {"train.py": "LR = 1\n"}}
RUN = make_run("0" * 40)
OWN = {
    "token": "t" * 20, "worker": "w1", "agent": "search", "hardware": HARDWARE.model_dump(mode="json"),
    "project": "none", "base_sha": "0" * 40, "seed": 5, "issued_at": RUN.started_at.isoformat(),
}  # fmt: skip

GUARDED: dict[str, tuple[str, object, Permission]] = {
    "POST /leases": ("/leases", claim_request().model_dump(mode="json"), Permission.WORK),
    "PUT /leases/{lease_id}": (f"/leases/{LEASE}", OWN, Permission.WORK),
    "POST /leases/{lease_id}/heartbeat": (
        f"/leases/{LEASE}/heartbeat", {"token": "t", "phase": "training"}, Permission.WORK
    ),
    "POST /leases/{lease_id}/proposal": (f"/leases/{LEASE}/proposal", PROPOSAL, Permission.WORK),
    "POST /leases/{lease_id}/release": (f"/leases/{LEASE}/release", {"token": "t", "reason": "r"}, Permission.WORK),
    "POST /leases/{lease_id}/result": (
        f"/leases/{LEASE}/result", {"run": RUN.model_dump(mode="json")}, Permission.WORK
    ),
    "POST /workers/receipts": ("/workers/receipts", {"worker": "w1", "number": 1}, Permission.WORK),
    "POST /workers/notices": ("/workers/notices", {"worker": "w1", "state": "paused"}, Permission.WORK),
    "POST /projects/{name}/branches": (
        "/projects/none/branches", {"name": "warmup", "theme": "Warm up."}, Permission.WORK
    ),
    "POST /findings/{finding_id}/versions": ("/findings/99/versions", DRAFT, Permission.WORK),
    "POST /findings/{finding_id}/notes": ("/findings/1/notes", NOTE, Permission.ANNOTATE),
    "POST /findings/{finding_id}/retraction": ("/findings/1/retraction", NOTE, Permission.ANNOTATE),
    "POST /findings/{finding_id}/restoration": ("/findings/1/restoration", NOTE, Permission.ANNOTATE),
    "GET /audit": ("/audit", None, Permission.LOOK),
    "POST /audit/{entry_id}/undo": ("/audit/999/undo", WHY, Permission.LOOK),
    "GET /accounts": ("/accounts", None, Permission.LOOK),
    "POST /accounts/{name}/role": ("/accounts/none/role", WHY | {"role": "moderator"}, Permission.ADMINISTER),
    "POST /accounts/{name}/suspension": ("/accounts/none/suspension", WHY, Permission.SANCTION),
    "POST /accounts/{name}/reinstatement": ("/accounts/none/reinstatement", WHY, Permission.SANCTION),
    "POST /accounts/{name}/approval": ("/accounts/none/approval", WHY, Permission.APPROVE),
    "POST /accounts/{name}/quarantine": ("/accounts/none/quarantine", WHY, Permission.SANCTION),
    "POST /accounts/{name}/release": ("/accounts/none/release", WHY, Permission.SANCTION),
    "POST /accounts/{name}/papers/retraction": ("/accounts/none/papers/retraction", WHY, Permission.ANNOTATE),
    "POST /accounts/{name}/anchor": ("/accounts/none/anchor", WHY | {"worker": "w1"}, Permission.ADMINISTER),
    "POST /accounts/{name}/pause": ("/accounts/none/pause", WHY | {"worker": "w1"}, Permission.SANCTION),
    "POST /accounts/{name}/message": (
        "/accounts/none/message", {"worker": "w1", "text": "Please update."}, Permission.SANCTION
    ),
    "POST /projects/{name}/settings": ("/projects/none/settings", WHY | {"weight": 2}, Permission.ADMINISTER),
    "POST /projects/{name}/settings/preview": (
        "/projects/none/settings/preview", {"weight": 2}, Permission.ADMINISTER
    ),
    "POST /projects/{name}/settings/restoration": (
        "/projects/none/settings/restoration", WHY | {"version": 0}, Permission.ADMINISTER
    ),
    "GET /account": ("/account", None, Permission.WORK),
    "POST /login-codes": ("/login-codes", None, Permission.WORK),
    "GET /accounts/{name}/tokens": ("/accounts/none/tokens", None, Permission.ADMINISTER),
    "POST /accounts/{name}/profile": ("/accounts/none/profile", WHY | {"is_listed": False}, Permission.ADMINISTER),
    "POST /accounts/{name}/tokens": ("/accounts/none/tokens", {"label": "box"}, Permission.ADMINISTER),
    "POST /accounts/{name}/sign-in-link": ("/accounts/none/sign-in-link", WHY, Permission.ADMINISTER),
    "POST /tokens/{token_id}/label": ("/tokens/1/label", {"label": "box"}, Permission.ADMINISTER),
    "POST /tokens/{token_id}/revocation": ("/tokens/1/revocation", WHY, Permission.ADMINISTER),
    "GET /held": ("/held", None, Permission.LOOK),
    "POST /projects/{name}/held/{sha}/decision": (
        f"/projects/none/held/{'0' * 40}/decision", WHY | {"hardware_class": "c", "decision": "accept"},
        Permission.DECIDE,
    ),
    **{
        f"POST /projects/{{name}}/branches/{{branch}}/{change}": (f"{BRANCH}/{change}", WHY | more, Permission.STEER)
        for change, more in {
            "pause": {}, "resumption": {}, "approval": {}, "name": {"name": "other"}, "share": {"share": 0.2},
            "head": {"head_sha": "0" * 40}, "deletion": {},
        }.items()
    },
    "GET /queue": ("/queue", None, Permission.LOOK),
    "POST /queue/actions": (
        "/queue/actions", WHY | {"items": ["account:none"], "action": "approve"}, Permission.LOOK
    ),
    "GET /invitations": ("/invitations", None, Permission.LOOK),
    "POST /invitations": ("/invitations", WHY, Permission.APPROVE),
    "POST /invitations/{invitation_id}/revocation": ("/invitations/99/revocation", WHY, Permission.APPROVE),
}  # fmt: skip
"""Route -> an address of it, a body, and the permission that it asks for."""

ADDRESSES = {name.replace(" ", f" {API_PREFIX}", 1): row for name, row in GUARDED.items()}


@pytest.fixture
def database_url(sqlite_folder: SqliteFolder, tmp_path: Path) -> str:
    """SQLite alone: what is asked here does not depend on the engine."""
    return sqlite_folder.create_migrated(tmp_path)


def list_routes(app: FastAPI) -> Iterator[str]:
    for route in app.routes:
        for method in sorted(getattr(route, "methods", None) or {"MOUNT"}):
            if method != "HEAD":
                yield f"{method} {getattr(route, 'path', '')}"


def test_every_route_has_a_row(app: FastAPI) -> None:
    assert set(list_routes(app)) == OPEN | WAYS_IN | PAGES.keys() | ADDRESSES.keys()


@pytest.fixture
def finding(worker: MiniWorker) -> int:
    """A finding of ada's."""
    worker.measure_root()
    worker.experiment("LR = 0.5\n")
    return 1


def ask(person: Person, name: str, finding: int = 99) -> httpx.Response:
    address, body, _ = ADDRESSES[name]
    address = address.replace("/findings/99", f"/findings/{finding}")
    key = {"Idempotency-Key": str(RUN.id)} if name.endswith("/result") else {}
    return person.send(name.partition(" ")[0], API_PREFIX + address, body, **key)


AUTHORED = {
    f"POST {API_PREFIX}/findings/{{finding_id}}/versions": frozenset({Visitor.AUTHOR}),
    f"POST {API_PREFIX}/findings/{{finding_id}}/retraction": STAFF | {Visitor.AUTHOR},
    f"POST {API_PREFIX}/findings/{{finding_id}}/restoration": STAFF | {Visitor.AUTHOR},
    f"POST {API_PREFIX}/tokens/{{token_id}}/label": MAINTAINERS | {Visitor.AUTHOR},
    f"POST {API_PREFIX}/tokens/{{token_id}}/revocation": MAINTAINERS | {Visitor.AUTHOR},
}
"""Routes about a finding or token that is the author's own."""


def list_allowed(name: str) -> frozenset[Visitor]:
    """The row of a route in the matrix."""
    if name in OPEN | WAYS_IN:
        return EVERYBODY
    if name in PAGES:
        return PAGES[name]
    permission = ADDRESSES[name][2]
    by_role = {Visitor(role) for role in ALLOWED[permission] if role is not Role.RESEARCHER}
    return AUTHORED.get(name, frozenset(by_role | ({Visitor.AUTHOR} if Visitor.VOLUNTEER in by_role else set())))


def is_refused(app: FastAPI, person: Person, name: str) -> bool:
    """Whether a visitor may not use a route at all."""
    method, _, path = name.partition(" ")
    if name in ADDRESSES:
        return bool(refusal_of(ask(person, name, finding=1)))
    path = re.sub(r"\{(project|name)\}", "tiny", path).replace("{entry_id}", "999")  # the first is a maintainer's
    path = re.sub(r"\{[^}]+\}", "1", path)
    if name in OPEN | WAYS_IN:
        return bool(refusal_of(person.send("HEAD" if method == "GET" else method, path, {})))
    browser = browse_as(app, person.name, None) if person.name else Browsing(app)
    browser.http.headers["Accept"] = "application/json"
    if not person.name:
        browser.get("/sign-in")  # which gives a stranger's forms their token
    answer = browser.get(path) if method == "GET" else browser.post(path, reason="because", label="box")
    return bool(refusal_of(answer))


@pytest.mark.usefixtures("finding")
@pytest.mark.parametrize("visitor", list(Visitor))
def test_each_route_is_open_to_those_in_its_row_and_to_nobody_else(
    app: FastAPI, http: TestClient, database: Database, visitor: Visitor
) -> None:
    role = Role(visitor) if visitor in set(Role) else Role.VOLUNTEER
    name = {Visitor.ANONYMOUS: "", Visitor.AUTHOR: "ada"}.get(visitor, f"the-{visitor}")
    person = make_person(database, http, name, role) if name else Person(http, "", "")
    names = sorted(set(list_routes(app)) - {"MOUNT /static"}, key=lambda name: "restoration" in name)
    wrong = {
        name: visitor in list_allowed(name)
        for name in names
        if is_refused(app, person, name) == (visitor in list_allowed(name))
    }
    assert wrong == {}


def refusal_of(response: httpx.Response) -> str:
    """The kind of a refusal for what somebody is; empty where the request was let through."""
    if response.status_code not in (401, 403) or response.request.method == "HEAD":
        return str(response.status_code) if response.status_code in (401, 403) else ""
    if not response.headers["content-type"].startswith(PROBLEM_MEDIA_TYPE):
        return ""  # a form that is shown again
    code = code_of(response)[1]
    is_ours = code in ("unauthorized", "not-allowed", "sign-in-needed", "form-invalid") or code.startswith("account-")
    return code if is_ours else ""


@pytest.mark.usefixtures("finding")
@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_do_what_it_may(http: TestClient, database: Database, role: Role) -> None:
    person = make_person(database, http, f"the-{role}", role)
    refused = {name for name in ADDRESSES if refusal_of(ask(person, name)) == "not-allowed"}
    assert refused == {name for name, (*_, permission) in ADDRESSES.items() if role not in ALLOWED[permission]}


@pytest.mark.usefixtures("finding")
def test_a_workers_token_carries_no_duties(http: TestClient, database: Database) -> None:
    person = make_person(database, http, "boss", Role.MAINTAINER, TokenScope.WORK)
    refused = {name for name in ADDRESSES if refusal_of(ask(person, name)) == "not-allowed"}
    assert refused == {name for name, (*_, permission) in ADDRESSES.items() if permission is not Permission.WORK}


@pytest.mark.usefixtures("finding")
def test_without_a_token_nothing_is_done(http: TestClient) -> None:
    nobody = Person(http, "", "")
    assert {refusal_of(ask(nobody, name)) for name in ADDRESSES} == {"unauthorized"}


@pytest.mark.usefixtures("finding")
@pytest.mark.parametrize(
    ("sanction", "code"),
    [
        ({"suspension": "spam"}, "account-suspended"),
        ({"quarantine": "lies"}, "account-quarantined"),
        ({"is_pending": True}, "account-pending"),
    ],
)
def test_an_account_that_is_stopped_has_no_role(
    http: TestClient, database: Database, sanction: dict[str, object], code: str
) -> None:
    person = make_person(database, http, "boss", Role.MAINTAINER, **sanction)
    answers = {name: ask(person, name) for name in ADDRESSES}
    claim = answers.pop(f"POST {API_PREFIX}/leases")
    assert claim.json()["lease"] is None and "maintainer" in claim.json()["reason"]
    assert {refusal_of(answer) for answer in answers.values()} == {code}
