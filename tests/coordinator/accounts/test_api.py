"""Making an account over HTTP."""

import httpx
import pytest
from fastapi.testclient import TestClient

from coordinator.settings import CoordinatorSettings
from tests.support.volunteers import MiniWorker


def sign_up(http: TestClient, name: str) -> httpx.Response:
    return http.post("/api/v1/accounts", json={"name": name, "label": "box"})


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


def test_an_account_comes_with_a_token_that_works(http: TestClient, project: str) -> None:
    response = sign_up(http, "ada")
    assert response.status_code == 201
    account = response.json()
    assert account["volunteer"] == "ada" and account["token"].startswith("swt_")
    assert MiniWorker(http, account["token"]).claim().lease is not None


@pytest.mark.parametrize("name", ["", "Ada", "a b", "-ada", "x" * 64])
def test_a_name_that_cannot_stand_in_an_address_is_refused(http: TestClient, name: str) -> None:
    assert code_of(sign_up(http, name)) == (422, "request-invalid")


def test_a_name_is_given_once(http: TestClient) -> None:
    assert sign_up(http, "ada").status_code == 201
    assert code_of(sign_up(http, "ada")) == (409, "name-taken")


class TestFewAccounts:
    @pytest.fixture
    def settings(self, database_url: str) -> CoordinatorSettings:
        return CoordinatorSettings(database_url=database_url, sign_ups_per_hour=2)

    def test_so_many_an_hour_and_no_more(self, http: TestClient) -> None:
        assert [sign_up(http, name).status_code for name in ("a", "b", "c")] == [201, 201, 429]
        refused = sign_up(http, "d")
        assert code_of(refused) == (429, "sign-up-busy") and refused.headers["Retry-After"] == "600"


class TestClosed:
    @pytest.fixture
    def settings(self, database_url: str) -> CoordinatorSettings:
        return CoordinatorSettings(database_url=database_url, sign_ups_per_hour=0)

    def test_maintainers_make_the_accounts(self, http: TestClient) -> None:
        refused = sign_up(http, "ada")
        assert code_of(refused) == (403, "sign-up-closed")
        assert "create-token" in refused.json()["detail"]
