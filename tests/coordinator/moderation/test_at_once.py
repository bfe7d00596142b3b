"""Two actions at the same moment on PostgreSQL, where both look before either has stored. SQLite has one writer."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from coordinator.accounts import passwords, sessions
from coordinator.accounts import service as accounts
from coordinator.accounts.service import JoinRules, read_sign_up, sign_up
from coordinator.db.database import Database
from coordinator.events.audit import Actor
from coordinator.models import Password
from coordinator.moderation import branches, queue, service
from coordinator.projects.service import request_branch
from coordinator.settings import Joining
from shared.moderation import QueueAction, QueueRequest
from shared.projects import BranchRequest
from shared.workers import Role, TokenScope
from tests.support.accounts import Browsing, Person, code_of, make_person
from tests.support.databases import IS_WAITED_FOR

WHY = {"reason": "because"}
CONSOLE = Actor("root")

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


class AtOnce:
    """Carries out an action, and another one before the first is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __call__(self, first: Callable[[Session], object], second: Callable[[], httpx.Response]) -> httpx.Response:
        """The answer to the second, which has ended or waits for the first when that is committed."""
        with ThreadPoolExecutor() as threads:
            with self._database.write() as session:
                first(session)
                session.flush()
                answer = threads.submit(second)
                while not (answer.done() or session.scalar(IS_WAITED_FOR)):
                    sleep(0.01)
            return answer.result()


@pytest.fixture
def at_once(database: Database) -> AtOnce:
    return AtOnce(database)


@pytest.fixture
def boss(database: Database, http: TestClient) -> Person:
    return make_person(database, http, "boss", Role.MAINTAINER)


def test_two_maintainers_at_once_leave_one(at_once: AtOnce, database: Database, http: TestClient, boss: Person) -> None:
    other = make_person(database, http, "other", Role.MAINTAINER)
    with database.read() as session:
        acting = Actor("other", accounts.get_account(session, "other").id)
    refused = at_once(
        lambda session: service.set_role(session, CONSOLE, "other", Role.VOLUNTEER, "because"),
        lambda: boss.post("/accounts/boss/role", WHY | {"role": "volunteer"}),
    )
    assert code_of(refused) == (409, "last-maintainer")
    assert boss.post("/accounts/other/role", WHY | {"role": "maintainer"}).status_code == 200
    for stop, undo in (("suspension", "reinstatement"), ("quarantine", "release")):
        is_suspension = stop == "suspension"
        refused = at_once(
            lambda session, is_suspension=is_suspension: (  # type: ignore[misc]
                service.set_suspension(session, acting, "boss", "because", is_on=True)
                if is_suspension
                else service.set_quarantine(session, acting, "boss", None, "because", is_on=True)
            ),
            lambda stop=stop: boss.post(f"/accounts/other/{stop}", WHY),  # type: ignore[misc]
        )
        assert code_of(refused) == (403, "not-allowed"), "each would stop the other"
        assert other.post(f"/accounts/boss/{undo}", WHY).status_code == 200


def test_who_loses_a_role_at_that_moment_does_nothing_with_it(
    at_once: AtOnce, database: Database, http: TestClient, boss: Person
) -> None:
    """Whoever is stopped must not make another maintainer, or a way back in, by what waits for that decision."""
    make_person(database, http, "friend")
    asked: dict[str, dict[str, object]] = {
        "/accounts/friend/role": {"role": "maintainer"}, "/accounts/boss/sign-in-link": {},
        "/accounts/friend/tokens": {"label": "x"}, "/invitations": {"uses": 1, "days": 1},
        "/accounts/friend/quarantine": {}, "/queue/actions": {"items": ["account:friend"], "action": "suspend"},
    }  # fmt: skip
    for path, body in asked.items():
        rogue = make_person(database, http, "rogue", Role.MAINTAINER)
        refused = at_once(
            lambda session: service.set_role(session, CONSOLE, "rogue", Role.VOLUNTEER, "because"),
            lambda rogue=rogue, path=path, body=body: rogue.post(path, body if "label" in body else WHY | body),  # type: ignore[misc]
        )
        assert code_of(refused) == (403, "not-allowed"), path
    with database.read() as session:
        assert accounts.get_account(session, "friend").role == Role.VOLUNTEER


def test_two_people_at_once_settle_a_thing_once(
    at_once: AtOnce, database: Database, http: TestClient, boss: Person
) -> None:
    for name in ("new", "newer"):
        make_person(database, http, name, is_pending=True)

    def act(action: QueueAction, *names: str, **more: str) -> Callable[[Session], object]:
        asked = QueueRequest(items=[f"account:{name}" for name in names], action=action, reason="because", **more)
        return lambda session: queue.act(session, CONSOLE, asked)

    def send(action: str, *names: str, **more: str) -> Callable[[], httpx.Response]:
        items = [f"account:{name}" for name in names]
        return lambda: boss.post("/queue/actions", WHY | {"items": items, "action": action} | more)

    assigned = at_once(act(QueueAction.ASSIGN, "new", assignee="boss"), send("assign", "newer", "new", assignee="boss"))
    assert code_of(assigned) == (409, "nothing-changes"), "the first mark of a thing is made once"
    settled = at_once(act(QueueAction.APPROVE, "new"), send("suspend", "newer", "new"))
    assert code_of(settled) == (404, "item-settled")


def test_limits_of_a_project_hold_for_two_at_once(
    at_once: AtOnce, database: Database, http: TestClient, project: str, boss: Person
) -> None:
    path = f"/projects/{project}/branches"
    for name in ("a", "b"):
        assert boss.post(path, {"name": name, "theme": "A way."}).status_code == 201
    over = at_once(
        lambda session: branches.set_share(session, CONSOLE, project, "a", 0.5, "because"),
        lambda: boss.post(f"{path}/b/share", WHY | {"share": 0.5}),
    )
    assert code_of(over) == (409, "shares-exceeded")
    with database.read() as session:
        account = accounts.get_account(session, "boss").id
    for name in ("a", "b"):
        assert boss.post(f"{path}/{name}/pause", WHY).status_code == 200

    def name_branch(name: str) -> Callable[[Session], object]:
        return lambda session: request_branch(session, account, project, BranchRequest(name=name, theme="A way."))

    def send(name: str) -> Callable[[], httpx.Response]:
        return lambda: boss.post(path, {"name": name, "theme": "Another way."})

    assert code_of(at_once(name_branch("c"), send("c"))) == (409, "branch-exists")
    assert code_of(at_once(name_branch("d"), send("e"))) == (409, "too-many-branches"), "two an account"


def test_a_name_is_given_once_to_two_at_once(at_once: AtOnce, project: str, boss: Person) -> None:
    rules = JoinRules(Joining.OPEN, 20)
    taken = at_once(
        lambda session: sign_up(session, read_sign_up("ada", None), rules, "203.0.113.5"),
        lambda: boss.post("/accounts", {"name": "ada"}),
    )
    assert code_of(taken) == (409, "name-taken")
    path = f"/projects/{project}/branches"
    assert boss.post(path, {"name": "a", "theme": "A way."}).status_code == 201
    taken = at_once(
        lambda session: branches.rename(session, CONSOLE, project, "a", "b", "because"),
        lambda: boss.post(path, {"name": "b", "theme": "A way."}),
    )
    assert code_of(taken) == (409, "changed-meanwhile") and taken.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/sign-in", "/me/password"])
def test_a_password_that_is_replaced_at_that_moment_lets_nobody_in(
    at_once: AtOnce, app: FastAPI, database: Database, path: str
) -> None:
    """A thief with the old one would keep a session that the change has not seen, or set another password after it."""
    old, new = (passwords.hash_password("ada", f"correct horse {word}") for word in ("battery", "staple"))
    with database.write() as session:
        account = accounts.find_or_add_volunteer(session, "ada").id
        passwords.set_password(session, account, old, TokenScope.DUTIES)
        own, stolen = (sessions.start_session(session, account, TokenScope.DUTIES, "test") for _ in range(2))
    visit = sessions.find_visit(database, own)
    assert visit is not None
    thief = Browsing(app, stolen if path == "/me/password" else "of nobody")
    at_once(
        lambda session: passwords.replace_password(session, visit, old, new),
        lambda: thief.post(path, name="ada", password="correct horse battery"),
    )
    with database.read() as session:
        assert [one.id for one in sessions.list_sessions(session, account)] == [visit.session_id]
        assert session.get_one(Password, account).password_hash == new
