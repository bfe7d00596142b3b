"""Mistakes in values are told in our words, in every command and answer."""

import re
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.mistakes import describe_first, describe_mistake

ROOT = Path(__file__).parents[2]
PRODUCT = ("coordinator", "worker", "swarm", "shared")
LIBRARY = re.compile(
    r"Input should|Field required|String should|Extra inputs|Value error|valid (integer|number|string)"
)


class Colour(StrEnum):
    RED = "red"


class Everything(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = Field(default=1, ge=1, le=9)
    size: float = Field(default=1.0, gt=0, lt=5)
    name: Annotated[str, Field(min_length=2, max_length=4, pattern="^[a-z]+$")] = "ab"
    colour: Colour = Colour.RED
    kind: Literal["a", "b"] = "a"
    is_on: bool = True
    parts: list[int] = Field(default=[1], min_length=1, max_length=2)
    table: dict[str, int] = {}
    key: UUID | None = None
    at: AwareDatetime | None = None
    day: datetime | None = None
    nested: "Everything | None" = None

    @field_validator("kind")
    @classmethod
    def _is_not_b(cls, kind: str) -> str:
        if kind == "b":
            raise ValueError("b is sold out")
        return kind


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"count": 0}, "count: must be at least 1"), ({"count": 99}, "count: must be at most 9"),
        ({"count": "x"}, "count: must be a whole number"), ({"count": 1.5}, "count: must be a whole number"),
        ({"size": 0}, "size: must be more than 0"), ({"size": "?"}, "size: must be a number"),
        ({"name": "a"}, "name: must have at least 2 characters"), ({"name": "A1"}, "name: is not of the allowed form"),
        ({"colour": "blue"}, "colour: must be 'red'"), ({"kind": "c"}, "kind: must be 'a' or 'b'"),
        ({"kind": "b"}, "kind: b is sold out"), ({"is_on": "maybe"}, "is_on: must be true or false"),
        ({"parts": []}, "parts: must have at least 1 entries"), ({"parts": 3}, "parts: must be a list"),
        ({"table": []}, "table: must be a table"), ({"key": "x"}, "key: must be a UUID"),
        ({"at": "2026-01-01T00:00:00"}, "at: must"), ({"day": "soon"}, "day: must be a time"),
        ({"other": 1}, "other: is not known here"), ({"nested": {"count": 0}}, "nested.count: must be at least 1"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_our_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as error:
        Everything.model_validate(given)
    said = describe_first(error.value)
    assert said.startswith(words) and not LIBRARY.search(said)


def test_what_is_not_foreseen_has_a_sentence_too() -> None:
    assert describe_mistake({"type": "something_new", "msg": "Input should be new"}) == "is not of the expected form"


def test_nothing_shows_the_librarys_words() -> None:
    """Only shared/mistakes.py reads a mistake's message; others ask it."""
    readers = [
        str(path.relative_to(ROOT))
        for folder in PRODUCT
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"""\[["']msg["']\]""", path.read_text())
    ]
    assert readers == ["shared/mistakes.py"]
