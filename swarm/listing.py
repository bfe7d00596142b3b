"""A list of the coordinator's as the client hands it on: read page by page, and as a table of pandas or polars."""

from collections.abc import Callable, Iterator
from enum import Enum
from importlib import import_module
from itertools import islice
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, overload
from uuid import UUID

from pydantic import BaseModel

from shared.protocol import Page

Row = TypeVar("Row", bound=BaseModel)
FRAMES = ("pandas", "polars")
MAX_LIMIT = 200


class CommandError(Exception):
    """An expected error; the message states the cause and the remedy."""


class Listing(Generic[Row]):
    """All entries of a list, or the first `limit`. Pages are read while one iterates, each time from the first."""

    def __init__(
        self, model: type[Row], read: Callable[[int, str | None], Page[Row]], limit: int | None = None
    ) -> None:
        self.model, self._read, self._limit = model, read, limit

    def __iter__(self) -> Iterator[Row]:
        return islice(self._iterate(), self._limit)

    def _iterate(self) -> Iterator[Row]:
        left, cursor = self._limit, None
        while True:
            page = self._read(MAX_LIMIT if left is None else max(1, min(left, MAX_LIMIT)), cursor)
            yield from page.items
            left = None if left is None else left - len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, int) and place >= 0:
            found = list(islice(self, place, place + 1))
            if not found:
                raise IndexError(f"the list has no entry {place}")
            return found[0]
        return list(self)[place]

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def to_frame(self) -> Any:
        """A data frame of pandas, or of polars if that alone is installed. Raises CommandError without either.

        Fields of what stands in an entry are columns of their own: `posterior.effect_mean`.
        """
        frames, fields = _import_frames(), list_fields(self.model)
        rows = [{name: _read(row, name) for name in fields} for row in self]
        if frames.__name__ == "polars":  # it drops keys that the first dictionaries of a column do not have, else
            return frames.DataFrame(rows, schema=None if rows else fields, infer_schema_length=None)
        return frames.DataFrame(rows, columns=fields)


def _import_frames() -> Any:
    for name in FRAMES:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    raise CommandError("to_frame() needs pandas or polars: pip install pandas")


def list_fields(model: type[BaseModel], above: str = "") -> list[str]:
    """Names of a model's fields, and instead of one that is a model those of its own: `posterior.effect_mean`."""
    names = []
    for name, field in model.model_fields.items():
        is_union = get_origin(field.annotation) in (Union, UnionType)
        kinds = get_args(field.annotation) if is_union else (field.annotation,)
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        names += list_fields(inner, f"{above}{name}.") if inner else [f"{above}{name}"]
    return names


def _read(row: BaseModel, name: str) -> Any:
    """A field of a row, or one within another; None within what is None."""
    value: Any = row
    for part in name.split("."):
        value = None if value is None else getattr(value, part)
    if isinstance(value, Enum | UUID):
        return value.value if isinstance(value, Enum) else str(value)
    if isinstance(value, list):
        return [one.model_dump(mode="json") if isinstance(one, BaseModel) else one for one in value]
    return value
