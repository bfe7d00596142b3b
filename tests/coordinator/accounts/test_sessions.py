"""Sessions of people in a browser: their beginning, and the reasons for their end."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from coordinator.accounts.service import add_token, find_or_add_volunteer
from coordinator.accounts.sessions import (
    LONGEST_IDLE,
    LONGEST_LIFE,
    MOST_SESSIONS,
    end_session,
    end_sessions,
    find_visit,
    list_sessions,
    start_session,
)
from coordinator.db.database import Database
from coordinator.events.audit import Actor
from coordinator.moderation import service as moderation
from shared.protocol import now, use_clock
from shared.workers import Role, TokenScope

BOSS = Actor("test")


def start(database: Database, name: str = "ada", token_days: int | None = None) -> str:
    """A session that began with a token, which lasts for so many days; returns its secret."""
    with database.write() as session:
        account = find_or_add_volunteer(session, name)
        token, _ = add_token(session, account, "box", TokenScope.WORK, token_days)
        return start_session(session, account.id, TokenScope.WORK, "test", token.id)


def visit(database: Database, secret: str) -> str | None:
    found = find_visit(database, secret)
    return found.account.name if found else None


def end_by_suspension(database: Database) -> None:
    with database.write() as session:
        moderation.set_suspension(session, BOSS, "ada", "spam", is_on=True)


def end_by_role(database: Database) -> None:
    with database.write() as session:
        moderation.set_role(session, BOSS, "ada", Role.RESEARCHER, "knows a lot")


def end_by_token(database: Database) -> None:
    with database.write() as session:
        moderation.revoke_token(session, BOSS, 1, "it leaked")


@pytest.mark.parametrize("end", [end_by_suspension, end_by_role, end_by_token])
def test_what_changes_an_accounts_rights_ends_its_sessions_for_good(
    database: Database, end: Callable[[Database], None]
) -> None:
    ada, bob = start(database), start(database, "bob")
    assert visit(database, ada) == "ada"
    end(database)
    assert visit(database, ada) is None and visit(database, bob) == "bob"
    with database.write() as session:
        moderation.undo(session, BOSS, 1, "a mistake")
    assert visit(database, ada) is None, "undoing it signs nobody in"
    assert visit(database, start(database)) == "ada"


def test_a_session_ends_with_its_token_by_time_too(database: Database) -> None:
    ada, later = start(database, token_days=1), now() + timedelta(days=1, minutes=1)
    assert visit(database, ada) == "ada"
    with use_clock(lambda: later):
        assert visit(database, ada) is None


def test_a_session_ends_when_nobody_used_it_and_when_it_is_old(database: Database) -> None:
    idle, used, began = start(database), start(database), now()
    step = LONGEST_IDLE - timedelta(hours=1)
    for number in range(1, LONGEST_LIFE // step + 1):
        with use_clock(lambda number=number: began + number * step):  # type: ignore[misc]
            assert visit(database, used) == "ada"
    with use_clock(lambda: began + LONGEST_IDLE + timedelta(hours=1)):
        assert visit(database, idle) is None and visit(database, used) == "ada"
    with use_clock(lambda: began + LONGEST_LIFE + timedelta(minutes=1)):
        assert visit(database, used) is None
        with database.read() as session:
            assert list_sessions(session, 1) == []


def test_an_account_has_a_bounded_number_of_sessions(database: Database) -> None:
    secrets = [start(database) for _ in range(MOST_SESSIONS + 2)]
    assert [visit(database, secret) for secret in secrets[:3]] == [None, None, "ada"]


def test_one_or_all_of_an_accounts_sessions_end(database: Database) -> None:
    secrets, bob = [start(database) for _ in range(3)], start(database, "bob")
    with database.write() as session:
        end_session(session, 1)
    assert [visit(database, secret) for secret in secrets] == [None, "ada", "ada"]
    with database.write() as session:
        end_sessions(session, 1, but=3)
    assert [visit(database, secret) for secret in secrets] == [None, None, "ada"]
    assert visit(database, bob) == "bob" and visit(database, "") is None
