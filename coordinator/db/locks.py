"""Advisory locks of PostgreSQL: every number that the coordinator uses. SQLite has one writer and needs none.

Numbers from zero on are named here. Negative numbers stand for hashes (`lock_hashes`), so the two never meet.
"""

from collections.abc import Iterable
from enum import IntEnum, unique

from sqlalchemy import func, select, text

from coordinator.db.engine import Conn, engine_of


@unique
class AdvisoryLock(IntEnum):
    """The numbers of the named locks."""

    MIGRATION = 7_305_802_113
    """Processes migrate the schema one after the other."""
    REPACKING = 7_305_802_114
    """Stored objects are encoded anew by one transaction at a time."""
    VECTOR_INDEX = 7_305_802_115
    """pgvector's index is made and filled by one process at a time."""
    PROGRESS = 7_305_802_116
    """Counts and bins of runs are brought up to date by one transaction at a time."""
    DIGESTS = 7_305_802_117
    """Digests are made by one transaction at a time."""
    HISTORY = 7_305_802_118
    """Entries of histories get their places by one transaction at a time."""
    EPOCHS = 7_305_802_119
    """The estimates of an epoch are made by one process at a time."""
    ACTIONS = 7_305_802_120
    """Actions of people are carried out one after the other: their rules look at more rows than they change."""
    BRANCHES = 7_305_802_121
    """Whether there is room for one more active branch is asked by one transaction at a time."""
    JOB_MIX = 7_305_802_122
    """Shares of the kinds of job are adapted by one transaction at a time."""


_LOCK = text("select pg_advisory_xact_lock(number) from unnest(cast(:numbers as bigint[])) as number")
"""Takes locks in the order of the list."""


def lock_until_commit(session: Conn, lock: AdvisoryLock) -> None:
    """Wait for a lock and hold it until the transaction ends."""
    _lock(session, [lock])


def try_lock_until_commit(session: Conn, lock: AdvisoryLock) -> bool:
    """Hold a lock until the transaction ends, if no other does; returns whether it is held now."""
    if engine_of(session).dialect.name != "postgresql":
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(int(lock)))))


def lock_hashes(session: Conn, hashes: Iterable[str]) -> None:
    """Hold a lock for each hash (hexadecimal) until the transaction ends. The order is fixed, so none deadlock."""
    _lock(session, sorted({-1 - int(name[:15], 16) for name in hashes}))


def _lock(session: Conn, numbers: Iterable[int]) -> None:
    if engine_of(session).dialect.name == "postgresql":
        session.execute(_LOCK, {"numbers": [int(number) for number in numbers]})
