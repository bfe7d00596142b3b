"""How many jobs an account and an address hold at once."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from coordinator.accounts.queries import find_volunteer
from coordinator.db.database import Database
from coordinator.evidence.quarantine import set_anchor, set_quarantine
from coordinator.leases.claim import ACCOUNTS_PER_ADDRESS, FIRST_LEASES
from coordinator.models import TrustRecord
from shared.protocol import now
from tests.support.databases import ON_ONE_ENGINE
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker

HOME, ELSEWHERE = "203.0.113.7", "203.0.113.8"
FAR = "2001:db8:1:2::"


@pytest.fixture
def claim(app: FastAPI, http: TestClient, database: Database, project: str) -> Callable[..., str | None]:
    """Claim a job as a volunteer's new worker from an address; returns why there was none."""
    tokens: dict[str, str] = {}
    count = iter(range(10_000))

    def claim_from(volunteer: str, address: str = HOME, worker: str | None = None) -> str | None:
        if volunteer not in tokens:
            with database.write() as session:
                tokens[volunteer] = create_token(session, volunteer, "test")
        client = TestClient(app, client=(address, 50_000))  # the application runs already
        reply = MiniWorker(client, tokens[volunteer], worker or f"w{next(count)}").claim()
        return None if reply.lease else reply.reason

    return claim_from


def count_granted(claim: Callable[..., str | None], volunteers: list[str], address: str = HOME, tries: int = 24) -> int:
    return sum(claim(volunteer, address) is None for volunteer in volunteers for _ in range(tries))


def test_one_account_holds_no_more_however_many_workers_it_names(claim: Callable[..., str | None]) -> None:
    assert count_granted(claim, ["mallory"], tries=40) == FIRST_LEASES
    assert "This account holds 16 jobs" in (claim("mallory", ELSEWHERE) or "")
    assert claim("ada") is None, "another one of that house"


def test_one_address_holds_no_more_however_many_accounts_it_has(claim: Callable[..., str | None]) -> None:
    sybils = [f"sybil-{number}" for number in range(4)]
    assert count_granted(claim, sybils) == ACCOUNTS_PER_ADDRESS * FIRST_LEASES
    assert "This address holds 32 jobs" in (claim("sybil-9") or "")
    assert claim("sybil-9", ELSEWHERE) is None


@ON_ONE_ENGINE
def test_a_network_of_ipv6_is_one_address(claim: Callable[..., str | None]) -> None:
    granted = sum(claim(f"sybil-{n % 4}", f"{FAR}{n + 1:x}") is None for n in range(40))
    assert granted == ACCOUNTS_PER_ADDRESS * FIRST_LEASES
    assert claim("ada", "2001:db8:1:3::1") is None


@ON_ONE_ENGINE
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "testclient"])
def test_this_machine_is_no_address(claim: Callable[..., str | None], address: str) -> None:
    volunteers = [f"volunteer-{number}" for number in range(4)]
    assert count_granted(claim, volunteers, address, tries=12) == 48


@ON_ONE_ENGINE
def test_the_limit_grows_with_agreement_and_an_anchor_has_none(
    claim: Callable[..., str | None], database: Database
) -> None:
    assert count_granted(claim, ["ada"]) == FIRST_LEASES
    with database.write() as session:
        session.add(make_record(session, "ada", agreements=3))
    assert count_granted(claim, ["ada"]) == 6
    with database.write() as session:
        set_anchor(session, "ada", "w0", is_anchor=True, who="maintainer")
    assert count_granted(claim, ["ada"], tries=30) == 30
    with database.write() as session:
        set_quarantine(session, "ada", "w0", "its fan is broken", "maintainer")
    assert count_granted(claim, ["ada"]) == 0


@ON_ONE_ENGINE
def test_strangers_who_agree_with_each_other_at_will_hold_no_more_than_the_most(
    claim: Callable[..., str | None], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.leases.claim.MOST_LEASES", FIRST_LEASES + 3)
    assert count_granted(claim, ["mallory"], tries=1) == 1
    with database.write() as session:
        session.add(make_record(session, "mallory", agreements=10**6))
    assert count_granted(claim, ["mallory"], tries=24) == FIRST_LEASES + 2
    assert "agree" not in (claim("mallory") or "agree")


def make_record(session: Session, name: str, agreements: int) -> TrustRecord:
    volunteer = find_volunteer(session, name)
    assert volunteer is not None
    return TrustRecord(
        project_id=1, volunteer_id=volunteer.id, agreements=agreements, contradictions=0, claims=0, replications_due=0,
        updated_at=now(),
    )  # fmt: skip
