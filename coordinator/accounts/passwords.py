"""Passwords of people who sign in with a browser, and how often one may be tried."""

from datetime import timedelta
from threading import BoundedSemaphore
from typing import NamedTuple

from limits import RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy.orm import Session

from coordinator.accounts import queries
from coordinator.accounts.permissions import check_not_suspended
from coordinator.accounts.service import JoinRules, SignInInvalidError, get_account, hash_token, is_name, sign_up
from coordinator.accounts.sessions import Visit, end_sessions, start_session
from coordinator.db.database import Database
from coordinator.db.locks import lock_hashes
from coordinator.http.addresses import hash_address
from coordinator.http.errors import SwarmError
from coordinator.models import Password
from shared.protocol import now
from shared.workers import Account, SignUp, TokenScope

SHORTEST, LONGEST = 12, 200
"""Characters of a password."""

HASHES_AT_ONCE = 4
"""Passwords that are hashed at the same time; each takes 19 MiB and a core for some hundredths of a second."""

LATELY = timedelta(minutes=15)
"""Time after a sign-in within which a password is set without the one before."""

# The least that OWASP's cheat sheet on storing passwords names for Argon2id.
_hasher = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1),))
_turns = BoundedSemaphore(HASHES_AT_ONCE)
_NOBODYS = "$argon2id$v=19$m=19456,t=2,p=1$RZy3ubCE8b6LL7J74em4bA$4WHRd5kboD7GGvqZZbly8/APklgrYBKaBsPA9h6ZK1U"
"""The hash that is compared with where an account has none, so that both take as long."""

HERE = "here"
FAILURE = "Name and password do not fit together, or nobody of that name has a password."


class PasswordUnsuitableError(SwarmError, status=422, title="That password is too easy to guess"):
    pass


class SignInBusyError(SwarmError, status=429, title="Too many passwords were tried", headers={"Retry-After": "900"}):
    pass


class PasswordAttempts:
    """Counts the passwords that were tried: for a name from an address, for a name, and from an address."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._of_both, self._of_name = RateLimitItemPerMinute(10, 15), RateLimitItemPerHour(60)
        self._of_address = RateLimitItemPerHour(120)

    def count(self, name: str, address: str | None) -> None:
        """Count an attempt, of a name that exists or not. Raises SignInBusyError."""
        place = hash_address(address)
        is_allowed = place is None or self._limiter.hit(self._of_address, place)
        is_allowed = is_allowed and self._limiter.hit(self._of_both, name, place or HERE)
        if not (is_allowed and self._limiter.hit(self._of_name, name)):
            raise SignInBusyError("Try again in a quarter of an hour, or sign in with a link from a maintainer.")

    def forget(self, name: str, address: str | None) -> None:
        """Forget the failures of a name from an address, after the right password."""
        self._limiter.clear(self._of_both, name, hash_address(address) or HERE)


def sign_in(
    database: Database, attempts: PasswordAttempts, name: str, password: str, address: str | None, browser: str
) -> str:
    """Begin a session for a password; returns the secret of its cookie.

    Raises SignInInvalidError, the same for each reason, SignInBusyError, AccountSuspendedError.
    """
    attempts.count(name, address)
    known_hash = _find_hash(database, name)
    if not _verify(password, known_hash):
        raise SignInInvalidError(FAILURE)
    attempts.forget(name, address)
    with database.write() as session:
        lock_hashes(session, [hash_token(name)])  # a new password ends the sessions that began by the one before
        account = queries.find_volunteer(session, name)
        known = queries.find_password(session, name)
        if account is None or known is None or known.password_hash != known_hash:
            raise SignInInvalidError(FAILURE)
        check_not_suspended(account)
        return start_session(session, account.id, TokenScope(known.scope), browser)


class Joined(NamedTuple):
    """A new account with its first token, whether it waits for approval, and the secret of its session's cookie."""

    account: Account
    is_pending: bool
    secret: str


def join(
    database: Database, attempts: PasswordAttempts, asked: SignUp, rules: JoinRules, address: str | None, password: str,
    browser: str,
) -> Joined:  # fmt: skip
    """Make an account for somebody with a browser, with a password if one is given, and begin a session.

    Raises as `accounts.service.sign_up`, and PasswordUnsuitableError, SignInBusyError.
    """
    if password:  # its hash costs as much as one that is tried, also where the name turns out to be taken
        attempts.count(asked.name, address)
    hashed = hash_password(asked.name, password) if password else None
    with database.write() as session:
        account = sign_up(session, asked, rules, address)
        row = get_account(session, account.volunteer)
        if hashed is not None:
            set_password(session, row.id, hashed, TokenScope.DUTIES)
        return Joined(account, row.is_pending, start_session(session, row.id, TokenScope.DUTIES, browser))


def change_password(
    database: Database, attempts: PasswordAttempts, visit: Visit, current: str, password: str, address: str | None
) -> None:
    """Set the password of the account that is signed in, and end its other sessions.

    The one before is asked for, if there is one, but lately after a sign-in with duties, as with a link.
    Raises SignInInvalidError, SignInBusyError, PasswordUnsuitableError.
    """
    account, known_hash = visit.account, _find_hash(database, visit.account.name)
    if known_hash is not None and not is_fresh(visit):
        attempts.count(account.name, address)
        if not _verify(current, known_hash):
            raise SignInInvalidError("That is not your password.")
    hashed = hash_password(account.name, password)
    with database.write() as session:
        replace_password(session, visit, known_hash, hashed)


def replace_password(session: Session, visit: Visit, known_hash: str | None, hashed: str) -> None:
    """Store a hash in place of the known one, and end the account's other sessions. Raises SignInInvalidError where
    another took its place meanwhile."""
    lock_hashes(session, [hash_token(visit.account.name)])
    known = queries.find_password(session, visit.account.name)
    if (known.password_hash if known else None) != known_hash:
        raise SignInInvalidError("Your password was changed meanwhile.")
    set_password(session, visit.account.id, hashed, TokenScope(visit.account.scope))
    end_sessions(session, visit.account.id, but=visit.session_id)


def is_fresh(visit: Visit) -> bool:
    """Whether somebody signed in lately, with duties: then a password is set without the one before."""
    return visit.account.scope == TokenScope.DUTIES and now() - visit.began_at < LATELY


def set_password(session: Session, volunteer_id: int, hashed: str, scope: TokenScope) -> None:
    """Store a hash. Sessions that begin with the password will have the scope."""
    session.merge(Password(volunteer_id=volunteer_id, password_hash=hashed, scope=scope, created_at=now()))
    session.flush()


def hash_password(name: str, password: str) -> str:
    """The hash of a password for the account of this name. Raises PasswordUnsuitableError."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise PasswordUnsuitableError(f"Choose one of {SHORTEST} to {LONGEST} characters, as several words.")
    if len(set(password)) < SHORTEST // 2 or name in password.lower():
        raise PasswordUnsuitableError("Choose one that does not hold your name, and has more different characters.")
    with _turns:
        return _hasher.hash(password)


def has_password(session: Session, name: str) -> bool:
    return queries.find_password(session, name) is not None


def _find_hash(database: Database, name: str) -> str | None:
    if not is_name(name):
        return None
    with database.read_one() as session:
        known = queries.find_password(session, name)
    return known.password_hash if known else None


def _verify(password: str, known_hash: str | None) -> bool:
    with _turns:
        is_right = _hasher.verify(password, known_hash or _NOBODYS)
    return is_right and known_hash is not None
