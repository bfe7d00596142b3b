"""Passwords: what they open, how often one may be tried, and what answers give away."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from coordinator.accounts import passwords
from coordinator.accounts.passwords import (
    LATELY,
    PasswordAttempts,
    PasswordUnsuitableError,
    SignInBusyError,
    change_password,
    hash_password,
    set_password,
)
from coordinator.accounts.permissions import AccountSuspendedError
from coordinator.accounts.service import (
    JoinRules,
    NameTakenError,
    SignInInvalidError,
    add_token,
    find_or_add_volunteer,
)
from coordinator.accounts.sessions import Visit, find_visit, list_sessions, start_session
from coordinator.db.database import Database
from coordinator.models import Password
from coordinator.settings import Joining
from shared.protocol import now, use_clock
from shared.workers import SignUp, TokenScope

GOOD, OTHER = "correct horse battery", "staple of another kind"
AT_HOME, AWAY = "203.0.113.7", "198.51.100.9"


@pytest.fixture
def attempts() -> PasswordAttempts:
    return PasswordAttempts()


@pytest.fixture(scope="session")
def good_hash() -> str:
    return hash_password("ada", GOOD)


@pytest.fixture
def ada(database: Database, good_hash: str) -> int:
    """An account with a password."""
    with database.write() as session:
        account = find_or_add_volunteer(session, "ada")
        set_password(session, account.id, good_hash, TokenScope.DUTIES)
        return account.id


def sign_in(
    database: Database, attempts: PasswordAttempts, password: str, name: str = "ada", address: str = AT_HOME
) -> Visit:
    visit = find_visit(database, passwords.sign_in(database, attempts, name, password, address, "test"))
    assert visit is not None
    return visit


def test_a_password_signs_its_account_in(database: Database, attempts: PasswordAttempts, ada: int) -> None:
    visit = sign_in(database, attempts, GOOD)
    assert (visit.account.name, visit.account.scope, visit.is_by_token) == ("ada", "duties", False)
    with database.read() as session:
        assert GOOD not in session.get_one(Password, ada).password_hash


FAILURES = (
    ("ada", "wrong"), ("ada", ""), ("grace", GOOD), ("nobody", GOOD), ("Ada\0", GOOD), ("", ""), ("a" * 99, GOOD),
)  # fmt: skip


@pytest.mark.usefixtures("ada")
def test_each_failure_has_the_same_words(database: Database, attempts: PasswordAttempts) -> None:
    with database.write() as session:
        find_or_add_volunteer(session, "grace")  # who has no password
    for number, (name, password) in enumerate(FAILURES):
        with pytest.raises(SignInInvalidError) as raised:
            passwords.sign_in(database, attempts, name, password, f"203.0.113.{number}", "test")
        assert raised.value.detail == passwords.FAILURE, name


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The hashes that were compared with, without the time that it takes."""
    seen: list[str] = []
    monkeypatch.setattr(passwords._hasher, "verify", lambda _, known: seen.append(known) or False)  # type: ignore[func-returns-value]
    yield seen


@pytest.mark.usefixtures("ada")
def test_an_account_that_does_not_exist_takes_as_long(
    database: Database, attempts: PasswordAttempts, hashed: list[str]
) -> None:
    for name in ("ada", "nobody"):
        with pytest.raises(SignInInvalidError):
            passwords.sign_in(database, attempts, name, GOOD, AT_HOME, "test")
    shapes = {known.rsplit("$", 2)[0] for known in hashed}
    assert len(hashed) == 2 and len(shapes) == 1, "the same work with the same parameters"


@pytest.mark.usefixtures("ada")
def test_a_password_of_a_name_that_is_taken_counts_as_tried(
    database: Database, attempts: PasswordAttempts, good_hash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(passwords._hasher, "hash", lambda given: made.append(given) or good_hash)  # type: ignore[func-returns-value]
    asked, rules = SignUp(name="ada"), JoinRules(Joining.OPEN, 20)

    def join(password: str = GOOD) -> None:
        passwords.join(database, attempts, asked, rules, AWAY, password, "test")

    for _ in range(10):
        with pytest.raises(NameTakenError):
            join()
    with pytest.raises(SignInBusyError):
        join()
    assert len(made) == 10
    with pytest.raises(NameTakenError):
        join(password="")


def test_one_address_does_not_lock_an_account_for_another(attempts: PasswordAttempts) -> None:
    for _ in range(10):
        attempts.count("ada", AWAY)
    with pytest.raises(SignInBusyError):
        attempts.count("ada", AWAY)
    attempts.count("ada", AT_HOME)
    attempts.count("grace", AWAY)


def test_many_addresses_may_not_try_one_account_for_ever(attempts: PasswordAttempts) -> None:
    with pytest.raises(SignInBusyError):
        for number in range(61):
            attempts.count("ada", f"203.0.113.{number}")
    attempts.count("grace", AT_HOME)


def test_one_address_may_not_try_many_accounts(attempts: PasswordAttempts) -> None:
    with pytest.raises(SignInBusyError):
        for number in range(121):
            attempts.count(f"name-{number}", AWAY)
    attempts.count("name-1", AT_HOME)


@pytest.mark.usefixtures("ada")
def test_the_right_password_forgets_the_wrong_ones(database: Database, attempts: PasswordAttempts) -> None:
    for _ in range(3):
        for _ in range(9):
            attempts.count("ada", AT_HOME)
        sign_in(database, attempts, GOOD)


def test_a_new_password_ends_the_other_sessions(database: Database, attempts: PasswordAttempts, ada: int) -> None:
    first, second = sign_in(database, attempts, GOOD), sign_in(database, attempts, GOOD)
    change_password(database, attempts, first, "", OTHER, AT_HOME)
    with database.read() as session:
        assert [one.id for one in list_sessions(session, ada)] == [first.session_id]
    assert second.session_id != first.session_id
    with pytest.raises(SignInInvalidError):
        sign_in(database, attempts, GOOD)
    sign_in(database, attempts, OTHER)


@pytest.mark.usefixtures("ada")
def test_later_the_old_password_is_asked_for(database: Database, attempts: PasswordAttempts) -> None:
    visit, later = sign_in(database, attempts, GOOD), now() + LATELY + timedelta(minutes=1)
    with use_clock(lambda: later):
        with pytest.raises(SignInInvalidError, match="not your password"):
            change_password(database, attempts, visit, "wrong", OTHER, AT_HOME)
        change_password(database, attempts, visit, GOOD, OTHER, AT_HOME)


@pytest.mark.usefixtures("ada")
def test_a_workers_token_changes_no_password_and_gains_no_duties(
    database: Database, attempts: PasswordAttempts
) -> None:
    def visit_by_token(name: str) -> Visit:
        with database.write() as session:
            account = find_or_add_volunteer(session, name)
            token, _ = add_token(session, account, "box", TokenScope.WORK, None)
            secret = start_session(session, account.id, TokenScope.WORK, "test", token.id)
        visit = find_visit(database, secret)
        assert visit is not None
        return visit

    with pytest.raises(SignInInvalidError):
        change_password(database, attempts, visit_by_token("ada"), "", OTHER, AT_HOME)
    change_password(database, attempts, visit_by_token("grace"), "", OTHER, AT_HOME)
    assert sign_in(database, attempts, OTHER, "grace").account.scope == "work", "not even if she becomes a maintainer"


def test_a_suspended_account_is_told_why_but_only_its_owner(
    database: Database, attempts: PasswordAttempts, ada: int
) -> None:
    with database.write() as session:
        find_or_add_volunteer(session, "ada").suspension = "spam"
    with pytest.raises(AccountSuspendedError, match="spam"):
        sign_in(database, attempts, GOOD)
    with pytest.raises(SignInInvalidError):
        sign_in(database, attempts, "wrong")


@pytest.mark.parametrize(
    "password", ["short", "a" * 30, "ada" * 10, "my-name-is-ada-ok", "x" * 5000, "ababababababababab"]
)
def test_passwords_that_are_easy_to_guess_are_refused(password: str) -> None:
    with pytest.raises(PasswordUnsuitableError):
        hash_password("ada", password)


@pytest.mark.parametrize("password", [GOOD, "пароль из слов", "🐎🔋 horse battery", "q8#Zm2!vTx0p"])
def test_others_are_not(password: str) -> None:
    assert hash_password("ada", password).startswith("$argon2id$")
