"""Statements that every job needs, prepared once: SQL text, parameters and columns are worked out at the first use.

SQLAlchemy does that work again for each execution, which takes ten times as long as SQLite needs for the rest
(docs/decisions/0011). A `Prepared` statement is made of the same expressions, types included, and runs in the session's
own transaction; only what lies between them is left out. So it does not flush: rows that were added to the session as
objects must have been flushed before it looks for them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ClauseElement, ColumnElement, Dialect, Executable, SelectBase, UpdateBase
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler

FLOAT8 = 701
"""PostgreSQL's number of the one type of numbers with a fraction that the models use; other types do not ask."""

Convert = Callable[[Any], Any]
Given = Mapping[str, Any]


@dataclass(frozen=True)
class _Text:
    """A statement for one engine, one set of parameters and one length of each list.

    `names` are the driver's parameters in their order; `fixed` are those that the statement itself gives. `adapters`
    turn parameters, by their place or name, into what the driver takes, and `converters` turn columns into what their
    types promise.
    """

    sql: str
    names: Sequence[str]
    fixed: Given
    lists: Mapping[str, Sequence[str]]
    adapters: Sequence[tuple[Any, Convert]]
    converters: Sequence[tuple[int, Convert]]
    is_positional: bool

    def bind(self, given: Given) -> Any:
        """Parameters as the driver wants them."""
        if self.fixed or self.lists:
            given = {**self.fixed, **given}
            for name, parts in self.lists.items():
                given.update(zip(parts, given.pop(name), strict=True))
        values: Any = [given[name] for name in self.names] if self.is_positional else dict(given)
        for at, adapt in self.adapters:
            values[at] = adapt(values[at])
        return values

    def convert(self, row: Sequence[Any]) -> tuple[Any, ...]:
        values = list(row)
        for at, convert in self.converters:
            values[at] = convert(values[at])
        return tuple(values)


class Prepared:
    """A statement. Parameters are its `bindparam`s, and for an insert or update also columns.

    A parameter that stands for several values (`expanding=True`) is given as a list. It stands behind IN, where it
    makes no difference that a value is there more than once.
    """

    def __init__(self, statement: Executable) -> None:
        assert isinstance(statement, ClauseElement)
        self._statement = statement
        binds = [part for part in visitors.iterate(statement) if isinstance(part, BindParameter)]
        self._lists = [bind.key for bind in binds if bind.expanding and bind.required]
        self._texts: dict[tuple[object, ...], _Text] = {}

    def all(self, session: Session, given: Given) -> list[tuple[Any, ...]]:
        """All rows."""
        text, cursor = self._execute(session, given)
        rows = cursor.fetchall()
        return [text.convert(row) for row in rows] if text.converters else rows

    def first(self, session: Session, given: Given) -> tuple[Any, ...] | None:
        """The first row, if there is one."""
        text, cursor = self._execute(session, given)
        row = cursor.fetchone()
        cursor.close()
        return None if row is None else text.convert(row)

    def scalar(self, session: Session, given: Given) -> Any:
        """The first column of the first row; None without one."""
        row = self.first(session, given)
        return None if row is None else row[0]

    def run(self, session: Session, given: Given) -> None:
        """Carry out what gives no rows."""
        self._execute(session, given)[1].close()

    def _execute(self, session: Session, given: Given) -> tuple[_Text, Any]:
        connection = session.connection()
        driver: Any = connection.connection.driver_connection
        dialect = connection.dialect
        if self._lists:
            given = {**given, **{name: _fill_up(given[name]) for name in self._lists}}
        key = (dialect.name, *given, *(len(given[name]) for name in self._lists))
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = _prepare(self._statement, dialect, given)
        values = text.bind(given)
        try:
            return text, driver.execute(text.sql, values)
        except dialect.loaded_dbapi.Error as error:
            base = dialect.loaded_dbapi.Error
            raise DBAPIError.instance(text.sql, values, error, base, dialect=dialect) from error


def _fill_up(values: Sequence[Any]) -> list[Any]:
    """The same set of values in a list whose length is a power of two, so that few lengths are prepared."""
    filled = list(values)
    missing = (1 << (len(filled) - 1).bit_length()) - len(filled)
    return filled + filled[-1:] * missing


def _prepare(statement: ClauseElement, dialect: Dialect, given: Given) -> _Text:
    columns = list(given) if isinstance(statement, UpdateBase) else None
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    assert isinstance(compiled, SQLCompiler)
    assert not compiled.prefetch, f"{compiled.prefetch} need a value: defaults of the models are not looked up here"
    expanded = compiled.construct_expanded_state(dict(given))
    names, parts = expanded.positiontup or [], expanded.parameter_expansion
    lists = {name: names for name, names in parts.items() if name in given}
    taken = given.keys() | {name for names in lists.values() for name in names}
    return _Text(
        sql=expanded.statement,
        names=names,
        fixed={name: value for name, value in expanded.parameters.items() if name not in taken},
        lists=lists,
        adapters=[
            (place, adapt)
            for name, adapt in _find_adapters(compiled, dialect, parts)
            for place in (_places(names, name) if compiled.positional else [name])
        ],
        converters=list(_find_converters(statement, dialect)),
        is_positional=compiled.positional,
    )


def _places(names: Sequence[str], name: str) -> list[int]:
    return [at for at, given in enumerate(names) if given == name]


def _find_adapters(
    compiled: SQLCompiler, dialect: Dialect, parts: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Convert]]:
    for name, bind in compiled.binds.items():
        adapt = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if adapt is not None:
            yield from ((part, adapt) for part in parts.get(name, [name]))


def _find_converters(statement: ClauseElement, dialect: Dialect) -> Iterator[tuple[int, Convert]]:
    assert isinstance(statement, SelectBase | UpdateBase)
    columns = statement.selected_columns if isinstance(statement, SelectBase) else statement.exported_columns
    for at, column in enumerate(list[ColumnElement[Any]](columns)):
        convert = column.type.dialect_impl(dialect).result_processor(dialect, FLOAT8)
        if convert is not None:
            yield at, convert
