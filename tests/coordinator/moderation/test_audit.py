"""The audit log: every action stands there in its own transaction, and is taken back by it. On both engines."""

from collections.abc import Callable

import pytest
from click.testing import Result
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from coordinator.cli import app as command_line
from coordinator.db.database import Database
from shared.moderation import AuditAction
from shared.protocol import API_PREFIX
from shared.workers import Role
from tests.support.accounts import Person, code_of, dump, make_person
from tests.support.databases import ON_ONE_ENGINE
from tests.support.volunteers import MiniWorker


@pytest.fixture
def boss(http: TestClient, database: Database) -> Person:
    return make_person(database, http, "boss", Role.MAINTAINER)


@pytest.fixture
def run(database: Database) -> Callable[..., Result]:
    """Runs a command of `swarm-coordinator` on the database."""
    url = database.url.render_as_string(hide_password=False)
    return lambda *arguments: CliRunner().invoke(command_line, arguments, env={"SWARM_DATABASE_URL": url})


def test_who_what_why_before_and_after(boss: Person, http: TestClient, database: Database) -> None:
    make_person(database, http, "mallory")
    boss.post("/accounts/mallory/suspension", {"reason": "spam in its notes"})
    entry = boss.get("/audit").json()["items"][0]
    assert entry | {"at": "", "id": 0} == {
        "id": 0, "by": "boss", "source": "api", "action": "suspend", "subject": "account", "key": "mallory",
        "reason": "spam in its notes", "before": {"suspension": None}, "after": {"suspension": "spam in its notes"},
        "undoes": None, "undone_by": None, "at": "",
    }  # fmt: skip
    undone = boss.post(f"/audit/{entry['id']}/undo", {"reason": "the wrong account"}).json()
    assert (undone["undoes"], undone["after"]) == (entry["id"], {"suspension": None})
    listed = boss.get(
        "/audit",
    ).json()["items"]
    assert [one["undone_by"] for one in listed] == [None, undone["id"]]
    again = boss.post(f"/audit/{entry['id']}/undo", {"reason": "once more"})
    assert code_of(again) == (409, "not-undoable")
    assert boss.post(f"/audit/{undone['id']}/undo", {"reason": "it was right"}).status_code == 201, "redone"
    assert boss.get("/accounts").json()["items"][0]["suspension"] == "spam in its notes"


@pytest.mark.parametrize("reason", ["", "  ", "x", None])
@ON_ONE_ENGINE
def test_an_action_without_a_reason_is_refused_and_leaves_nothing(
    boss: Person, http: TestClient, database: Database, reason: str | None
) -> None:
    make_person(database, http, "mallory")
    before = dump(database)
    assert boss.post("/accounts/mallory/suspension", {"reason": reason}).status_code == 422
    assert dump(database) == before


def test_what_was_changed_since_is_not_undone(boss: Person, http: TestClient, database: Database) -> None:
    make_person(database, http, "ada")
    first = boss.post("/accounts/ada/role", {"reason": "helps a lot", "role": "moderator"}).json()
    second = boss.post("/accounts/ada/role", {"reason": "even more", "role": "maintainer"}).json()
    assert code_of(boss.post(f"/audit/{first['id']}/undo", {"reason": "no more"})) == (409, "not-undoable")
    assert boss.post(f"/audit/{second['id']}/undo", {"reason": "too much"}).status_code == 201
    assert boss.post(f"/audit/{first['id']}/undo", {"reason": "no more"}).status_code == 201
    assert boss.get("/accounts").json()["items"][0]["role"] == "volunteer"


def test_an_action_that_fails_leaves_no_entry(boss: Person, http: TestClient, database: Database) -> None:
    make_person(database, http, "ada")
    before = dump(database)
    assert code_of(boss.post("/accounts/ada/quarantine", {"reason": "lies", "worker": "none"}))[0] == 404
    assert code_of(boss.post("/accounts/boss/role", {"reason": "I leave", "role": "volunteer"}))[0] == 409
    assert dump(database) == before


def test_a_link_or_code_ends_when_it_is_undone_unless_somebody_used_it(
    boss: Person, http: TestClient, database: Database
) -> None:
    make_person(database, http, "ada")
    for address in ("/accounts/ada/sign-in-link", "/login-codes"):
        secret = boss.post(address, {"reason": "forgot it"}).json()["secret"]
        number = boss.get("/audit").json()["items"][0]["id"]
        for is_open in (False, True):
            number = boss.post(f"/audit/{number}/undo", {"reason": "sent to a stranger, or not"}).json()["id"]
            used = http.post(f"{API_PREFIX}/sign-in", json={"secret": secret, "label": "test"})
            assert used.status_code == (201 if is_open else 403), address
        assert code_of(boss.post(f"/audit/{number}/undo", {"reason": "too late"})) == (409, "not-undoable")


def test_a_moderator_undoes_what_a_moderator_may_do_only(boss: Person, http: TestClient, database: Database) -> None:
    moderator = make_person(database, http, "mo", Role.MODERATOR)
    make_person(database, http, "ada")
    role = boss.post("/accounts/ada/role", {"reason": "helps a lot", "role": "maintainer"}).json()
    assert code_of(moderator.post(f"/audit/{role['id']}/undo", {"reason": "envy"})) == (403, "not-allowed")
    make_person(database, http, "eve")
    stop = boss.post("/accounts/eve/suspension", {"reason": "spam"}).json()
    assert moderator.post(f"/audit/{stop['id']}/undo", {"reason": "it was me"}).status_code == 201


def test_entries_are_filtered_and_paged(boss: Person, http: TestClient, database: Database) -> None:
    for name in ("a", "b", "c"):
        make_person(database, http, name)
        boss.post(f"/accounts/{name}/suspension", {"reason": f"spam by {name}"})
    boss.post("/accounts/b/reinstatement", {"reason": "it was not b"})
    assert len(boss.get("/audit?action=suspend").json()["items"]) == 3
    assert [one["action"] for one in boss.get("/audit?key=b").json()["items"]] == ["unsuspend", "suspend"]
    assert boss.get("/audit?by=nobody").json()["items"] == []
    first = boss.get("/audit?limit=3").json()
    rest = boss.get(f"/audit?limit=3&cursor={first['next_cursor']}").json()
    assert [one["key"] for one in (*first["items"], *rest["items"])] == ["b", "c", "b", "a"]


@pytest.mark.usefixtures("project")
def test_a_maintainers_duties_on_the_command_line(
    run: Callable[..., Result], http: TestClient, database: Database, worker: MiniWorker
) -> None:
    """Every command, each with its inverse."""
    worker.measure_root()
    worker.experiment("LR = 0.5\n")
    done = run("create-maintainer", "grace")
    assert (done.exit_code, done.stdout[:4]) == (0, "swl_")
    signed_in = http.post("/api/v1/sign-in", json={"secret": done.stdout.strip()}).json()["token"]
    grace = Person(http, "grace", signed_in)
    why = ("--reason", "a test of it")
    for command in (
        ("set-role", "ada", "moderator"), ("suspend", "ada"), ("unsuspend", "ada"), ("quarantine", "ada"),
        ("release", "ada"), ("quarantine", "ada", "--worker", "w1"), ("release", "ada", "--worker", "w1"),
        ("pause-worker", "ada", "w1"), ("resume-worker", "ada", "w1"), ("retract-finding", "1"),
        ("anchor", "ada", "w1"), ("revoke-token", "1"), ("revoke-invitation", "1"),
    ):  # fmt: skip
        if command[0] == "revoke-invitation":
            assert run("invite", "--uses", "3", *why).stdout.startswith("swi_")
        done = run(*command, *why)
        assert done.exit_code == 0 and done.stdout.rstrip().endswith("because: a test of it"), done.stderr
    done = run("approve-account", "ada", *why)
    assert (done.exit_code, done.stdout) == (0, "") and "is like that already" in done.stderr, "it waits for nothing"
    assert run("suspend", "ada").exit_code == 2, "an action needs a reason"
    entries = grace.get("/audit").json()["items"]
    actions = [entry["action"] for entry in reversed(entries)]
    assert actions[:3] == [AuditAction.SET_ROLE, AuditAction.CREATE_LINK, AuditAction.SET_ROLE]
    assert {entry["source"] for entry in entries} == {"command_line"}
    assert entries[0]["action"] == "revoke-invitation" and "is_revoked: False -> True" in run("audit").stdout
    done = run("undo", str(entries[0]["id"]), *why)
    assert done.exit_code == 0 and f"(undoes {entries[0]['id']})" in done.stdout
    assert run("tokens", "ada").stdout.split()[:3] == ["1", "test", "work"]
    assert "ada  moderator" in run("accounts").stdout and "0 of 3 used" in run("invitations").stdout
