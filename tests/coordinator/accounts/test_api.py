"""Making an account over HTTP, and its tokens."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.events.audit import Actor
from coordinator.moderation import service
from coordinator.settings import CoordinatorSettings, Joining
from shared.leases import Phase
from shared.protocol import now, use_clock
from shared.workers import Role, TokenScope
from tests.support.accounts import Person, code_of, dump, make_person
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import claim_request
from tests.support.volunteers import MiniWorker


def sign_up(http: TestClient, name: str) -> httpx.Response:
    return http.post("/api/v1/accounts", json={"name": name, "label": "box"})


def test_an_account_comes_with_a_token_that_works(http: TestClient, project: str) -> None:
    response = sign_up(http, "ada")
    assert response.status_code == 201
    account = response.json()
    assert account["volunteer"] == "ada" and account["token"].startswith("swt_")
    assert MiniWorker(http, account["token"]).claim().lease is not None


@pytest.mark.parametrize("name", ["", "Ada", "a b", "-ada", "x" * 64])
@ON_ONE_ENGINE
def test_a_name_that_cannot_stand_in_an_address_is_refused(http: TestClient, name: str) -> None:
    assert code_of(sign_up(http, name)) == (422, "request-invalid")


def test_a_name_is_given_once(http: TestClient) -> None:
    assert sign_up(http, "ada").status_code == 201
    assert code_of(sign_up(http, "ada")) == (409, "name-taken")


def test_a_name_that_looks_like_those_who_run_the_swarm_is_refused(http: TestClient) -> None:
    assert {code_of(sign_up(http, name)) for name in ("admin", "research-swarm", "maintainer")} == {
        (409, "name-reserved")
    }
    assert sign_up(http, "admiral").status_code == 201


def test_a_long_label_is_kept_as_far_as_it_goes(http: TestClient) -> None:
    made = http.post("/api/v1/accounts", json={"name": "ada", "label": "x" * 200})
    assert made.status_code == 201


class TestFewAccounts:
    @pytest.fixture
    def settings(self, database_url: str) -> CoordinatorSettings:
        return CoordinatorSettings(database_url=database_url, sign_ups_per_hour=2)

    def test_so_many_an_hour_and_no_more(self, http: TestClient) -> None:
        assert [sign_up(http, name).status_code for name in ("a", "b", "c")] == [201, 201, 429]
        refused = sign_up(http, "d")
        assert code_of(refused) == (429, "sign-up-busy") and refused.headers["Retry-After"] == "600"

    def test_one_address_uses_up_its_own_sign_ups_and_nobody_elses(self, app: FastAPI, http: TestClient) -> None:
        assert http.get("/api/v1/versions").status_code == 200
        flood = TestClient(app, client=("203.0.113.7", 50_000))
        assert [sign_up(flood, f"m{number}").status_code for number in range(4)] == [201, 201, 429, 429]
        network = [TestClient(app, client=(f"2001:db8:1:2::{n}", 50_000)) for n in range(1, 5)]
        codes = [sign_up(client, f"n{number}").status_code for number, client in enumerate(network)]
        assert codes == [201, 201, 429, 429], "a network of IPv6 is one address"
        assert sign_up(TestClient(app, client=("203.0.113.8", 50_000)), "ada").status_code == 201

    def test_those_of_when_the_clock_was_ahead_shut_nobody_out(self, http: TestClient) -> None:
        with use_clock(lambda: datetime.now(UTC) + timedelta(days=30)):
            assert [sign_up(http, name).status_code for name in ("a", "b", "c")] == [201, 201, 429]
        assert [sign_up(http, name).status_code for name in ("d", "e", "f")] == [201, 201, 429]

    def test_many_at_once_are_no_more(self, app: FastAPI, http: TestClient) -> None:
        assert http.get("/api/v1/versions").status_code == 200
        client = TestClient(app, client=("203.0.113.7", 50_000))
        with ThreadPoolExecutor(8) as threads:
            codes = list(threads.map(lambda n: sign_up(client, f"m{n}").status_code, range(8)))
        assert sorted(codes) == [201, 201, *[429] * 6]


class TestClosed:
    @pytest.fixture
    def settings(self, database_url: str) -> CoordinatorSettings:
        return CoordinatorSettings(database_url=database_url, sign_ups_per_hour=0)

    def test_maintainers_make_the_accounts(self, http: TestClient) -> None:
        refused = sign_up(http, "ada")
        assert code_of(refused) == (403, "sign-up-closed")
        assert "create-token" in refused.json()["detail"]


class TestByApproval:
    @pytest.fixture
    def settings(self, database_url: str) -> CoordinatorSettings:
        return CoordinatorSettings(database_url=database_url, joining=Joining.APPROVAL, public_reading=False)

    def test_an_account_does_nothing_until_it_is_approved(
        self, http: TestClient, database: Database, project: str
    ) -> None:
        assert project
        token = sign_up(http, "ada").json()["token"]
        reads = {"Authorization": f"Bearer {token}"}
        assert code_of(MiniWorker(http, token).post("/leases", claim_request())) == (403, "account-pending")
        assert code_of(http.get("/api/v1/projects", headers=reads)) == (403, "account-pending")
        boss = make_person(database, http, "boss", Role.MAINTAINER)
        assert boss.get("/accounts").json()["items"][-1] | {"created_at": ""} == {
            "id": 1, "name": "ada", "role": "volunteer", "is_pending": True, "is_approved": False, "suspension": None,
            "quarantine": None, "created_at": "",
        }  # fmt: skip
        assert boss.post("/accounts/ada/approval", {"reason": "known to us"}).status_code == 200
        assert http.get("/api/v1/projects", headers=reads).status_code == 200
        assert code_of(boss.post("/accounts/ada/approval", {"reason": "again"})) == (409, "nothing-changes")


class TestByInvitation:
    @pytest.fixture
    def settings(self, database_url: str) -> CoordinatorSettings:
        return CoordinatorSettings(database_url=database_url, joining=Joining.INVITATION)

    def test_an_invitation_opens_so_many_accounts_for_so_long(self, http: TestClient, database: Database) -> None:
        boss = make_person(database, http, "boss", Role.MODERATOR)
        asked = {"reason": "for the class", "uses": 2, "days": 3}
        secret = boss.post("/invitations", asked).json()["secret"]

        def join(name: str, invitation: str | None) -> int:
            return http.post("/api/v1/accounts", json={"name": name, "invitation": invitation}).status_code

        assert [join("a", None), join("a", "swi_guessed"), join("a", secret), join("a", secret)] == [403, 403, 201, 409]
        assert [join("b", secret), join("c", secret)] == [201, 403], "a refused sign-up used nothing up"
        short = boss.post("/invitations", asked).json()
        revoked = boss.post("/invitations", asked).json()
        assert boss.post(f"/invitations/{revoked['id']}/revocation", {"reason": "leaked"}).status_code == 200
        assert join("d", revoked["secret"]) == 403
        later = now() + timedelta(days=4)
        with use_clock(lambda: later):
            assert join("e", short["secret"]) == 403
        assert join("e", short["secret"]) == 201
        listed = boss.get("/invitations").json()["items"]
        assert [(one["uses"], one["max_uses"], one["revoked_at"] is None) for one in listed] == [
            (0, 2, False), (1, 2, True), (2, 2, True),
        ]  # fmt: skip
        assert secret not in boss.get("/invitations").text


def test_a_sign_in_link_works_once_and_not_for_long(http: TestClient, database: Database) -> None:
    with database.write() as session:
        links = [service.create_maintainer(session, Actor("root"), name, "a test") for name in ("ada", "ben")]

    def sign_in(secret: str) -> httpx.Response:
        return http.post("/api/v1/sign-in", json={"secret": secret, "label": "laptop"})

    now_at = now()
    with use_clock(lambda: now_at + timedelta(days=2)):
        assert code_of(sign_in(links[0])) == (403, "sign-in-invalid")
    made = sign_in(links[1])
    assert made.status_code == 201 and code_of(sign_in(links[1])) == (403, "sign-in-invalid")
    ben = Person(http, "ben", made.json()["token"])
    assert ben.get("/audit").status_code == 200, "it carries the duties of a maintainer"
    with use_clock(lambda: now_at + timedelta(days=31)):
        assert code_of(ben.get("/audit")) == (401, "unauthorized"), "for a month"
    stored = "".join(str(row) for row in dump(database).values())
    assert not any(secret in stored for secret in (*links, ben.token)), "hashes only"


def test_a_token_is_listed_ends_and_is_revoked_at_once(http: TestClient, database: Database, project: str) -> None:
    boss = make_person(database, http, "boss", Role.MAINTAINER)
    ada = make_person(database, http, "ada", scope=TokenScope.WORK)
    made = boss.post("/accounts/ada/tokens", {"label": "gpu box", "days": 2}).json()
    box = MiniWorker(http, made["secret"])
    lease = box.claim_job()
    assert lease.project == project and box.beat(lease, Phase.STARTING).status_code == 200
    listed = ada.get("/accounts/ada/tokens").json()["items"]
    assert [(one["label"], one["expires_at"] is None) for one in listed] == [("gpu box", False), ("test", True)]
    assert made["secret"] not in ada.get("/accounts/ada/tokens").text
    assert code_of(ada.get("/accounts/boss/tokens")) == (403, "not-allowed")
    now_at = now()
    with use_clock(lambda: now_at + timedelta(days=3)):
        assert box.beat(lease, Phase.STARTING).status_code == 401
    assert box.beat(lease, Phase.STARTING).status_code == 200
    stranger = make_person(database, http, "eve", scope=TokenScope.DUTIES)
    revoke = f"/tokens/{made['id']}/revocation"
    assert code_of(stranger.post(revoke, {"reason": "mischief"})) == (403, "not-allowed")
    done = ada.post(revoke, {"reason": "sold the box"})
    assert done.status_code == 200
    assert [box.beat(lease, Phase.STARTING).status_code, box.release(lease).status_code] == [401, 401]
    assert box.post("/leases", claim_request("w1")).status_code == 401
    assert code_of(ada.post(f"/audit/{done.json()['id']}/undo", {"reason": "found it"})) == (403, "not-allowed")
    assert boss.post(f"/audit/{done.json()['id']}/undo", {"reason": "found it"}).status_code == 201
    assert box.beat(lease, Phase.STARTING).status_code == 200


def test_a_code_logs_another_machine_in_once_within_minutes_and_without_duties(
    http: TestClient, database: Database
) -> None:
    boss = make_person(database, http, "boss", Role.MAINTAINER)
    codes = [boss.post("/login-codes").json()["secret"] for _ in range(2)]

    def sign_in(code: str) -> httpx.Response:
        return http.post("/api/v1/sign-in", json={"secret": code, "label": "laptop"})

    later = now() + timedelta(minutes=11)
    with use_clock(lambda: later):
        late = sign_in(codes[0])
    assert code_of(late) == (403, "sign-in-invalid") and "swarm-worker tokens code" in late.json()["detail"]
    made = sign_in(f" {codes[1].lower().replace('-', ' ')}")
    assert made.json()["volunteer"] == "boss" and sign_in(codes[1]).status_code == 403
    laptop = Person(http, "boss", made.json()["token"])
    assert laptop.get("/account").json() == {"volunteer": "boss", "role": "maintainer", "token_id": 2, "scope": "work"}
    assert code_of(laptop.get("/audit")) == (403, "not-allowed"), "the code came from a token with duties"
    assert laptop.get("/accounts/boss/tokens").json()["items"][0]["made_with_id"] == 1
    assert not any(code in str(dump(database)) for code in (*codes, codes[1].replace("-", "")))


def test_what_was_made_with_a_token_ends_with_it_unless_it_is_revoked_alone(
    http: TestClient, database: Database
) -> None:
    ada = make_person(database, http, "ada", scope=TokenScope.WORK)

    def grow(person: Person, label: str) -> tuple[int, Person]:
        made = person.post("/accounts/ada/tokens", {"label": label}).json()
        return made["id"], Person(http, "ada", made["secret"])

    number, first = grow(ada, "first")
    _, second = grow(first, "second")
    code = second.post("/login-codes").json()["secret"]
    own, apart = grow(ada, "apart")
    assert apart.post(f"/tokens/{number}/revocation", {"reason": "stolen"}).status_code == 200
    refused = first.get("/account")
    assert code_of(refused) == (401, "unauthorized") and "was revoked on" in refused.json()["detail"]
    assert code_of(second.get("/account")) == (401, "unauthorized"), "a thief could have made it"
    assert http.post("/api/v1/sign-in", json={"secret": code}).status_code == 403, "nor does its code count"
    new, successor = grow(apart, "apart")
    assert successor.post(f"/tokens/{own}/revocation", {"reason": "replaced", "alone": True}).status_code == 200
    assert (apart.get("/account").status_code, successor.get("/account").status_code) == (401, 200)
    assert successor.post(f"/tokens/{new}/label", {"label": "the attic"}).status_code == 200
    labels = {one["id"]: one["label"] for one in ada.get("/accounts/ada/tokens").json()["items"]}
    assert labels[new] == "the attic"
    eve = make_person(database, http, "eve", scope=TokenScope.WORK)
    assert code_of(eve.post("/accounts/ada/tokens", {"label": "mine"})) == (403, "not-allowed")
    assert code_of(eve.post(f"/tokens/{new}/label", {"label": "mine"})) == (403, "not-allowed")
