"""Compiled SQL that the engines of all tests of a process share: each test has engines of its own.

Compiling statements was a quarter of the CPU time of the coordinator's tests.
"""

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

SIZE = 4000

_compiled: LRUCache[Any, Any] = LRUCache(SIZE)


class _Sharing:
    """Dialects of one class are equal, so that SQLAlchemy finds what it compiled for another engine."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        engine.update_execution_options(compiled_cache=_compiled)


class SharingSqlite(_Sharing, SQLiteDialect_pysqlite):
    supports_statement_cache = True


class SharingPostgres(_Sharing, PGDialect_psycopg):
    supports_statement_cache = True


def share_statements() -> None:
    """From here on, engines are made with these dialects."""
    registry.register("sqlite", __name__, SharingSqlite.__name__)
    registry.register("postgresql.psycopg", __name__, SharingPostgres.__name__)
