"""The declarative base, and the column types that behave alike on SQLite and PostgreSQL."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from pydantic import BaseModel
from sqlalchemy import (
    JSON,
    BigInteger,
    BindParameter,
    ColumnElement,
    DateTime,
    Dialect,
    Integer,
    MetaData,
    SQLColumnExpression,
    String,
    Table,
    TypeDecorator,
    and_,
    bindparam,
    literal_column,
)
from sqlalchemy.orm import DeclarativeBase

View = TypeVar("View", bound=BaseModel)
NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite has no time zones, so they are dropped on the way in and put back.

    What SQLAlchemy does for SQLite's texts takes ten times as long, and every job writes and reads dozens of them.
    """

    impl = DateTime(timezone=True)
    cache_ok = True
    python_type = datetime

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any]:
        return _to_text if dialect.name == "sqlite" else _to_utc

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:  # noqa: ARG002
        return _from_text if dialect.name == "sqlite" else _to_utc


def _to_utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError("a naive datetime must not reach the database")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _to_text(value: datetime | None) -> str | None:
    moment = _to_utc(value)
    return None if moment is None else moment.replace(tzinfo=None).isoformat(" ", "microseconds")


def _from_text(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(f"{text}+00:00")  # which sets UTC faster than `replace`


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads this name from the class
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
    }


def view_of(model: type[View], row: object, **others: Any) -> View:
    """A wire model of `others` and, for all other fields, a row's attributes of the same names."""
    columns = {name: getattr(row, name) for name in model.model_fields if name not in others}
    return model.model_validate(columns | others)


def table_of(model: type[Base]) -> Table:
    """A model's table. Statements on tables cost less than those on models; the paths that every job takes use them."""
    return cast(Table, model.__table__)


_PROJECT_ID: BindParameter[Any] = bindparam("project_id")
_HARDWARE_CLASS: BindParameter[Any] = bindparam("hardware_class")
_SHA: BindParameter[Any] = bindparam("sha")


def is_of_class(row: Any, project_id: Any = _PROJECT_ID, hardware_class: Any = _HARDWARE_CLASS) -> ColumnElement[bool]:
    """Whether a row, as a table's columns or as a model, is of a project's hardware class: by default of the one that
    the statement's parameters name."""
    return and_(row.project_id == project_id, row.hardware_class == hardware_class)


def is_of_same_class(row: Any, other: Any) -> ColumnElement[bool]:
    """Whether two rows are of one project's hardware class."""
    return is_of_class(row, other.project_id, other.hardware_class)


def is_of_commit(row: Any, sha: Any = _SHA, hardware_class: Any = _HARDWARE_CLASS) -> ColumnElement[bool]:
    """Whether a row is of a commit in a hardware class: by default of those that the statement's parameters name."""
    return and_(row.commit_sha == sha, row.hardware_class == hardware_class)


def is_one_of(column: SQLColumnExpression[str], names: Iterable[str]) -> ColumnElement[bool]:
    """Whether a column has one of these names, as text of the statement: SQLAlchemy expands parameters of `IN` at each
    execution, which takes longer than a whole statement."""
    return column.in_([literal_column(f"'{name}'") for name in names])


DERIVED_PREFIX = "search_"
"""Tables of SQLite's index of words begin so. They follow from others, and are no models."""


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    """Whether Alembic compares a table with the models."""
    return kind != "table" or name is None or not name.startswith(DERIVED_PREFIX)


Sha = String(40)
"""A git object's name, or a SHA-1 in hexadecimal."""

Sha256 = String(64)

LargeCount = BigInteger().with_variant(Integer(), "sqlite")
"""Whole numbers up to `shared.protocol.MAX_COUNT`."""
