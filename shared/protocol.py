"""Base class and field types of the wire models, and the version of the protocol."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from unicodedata import category

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

PROTOCOL_VERSION = 6  # raised when workers send a field that older coordinators refuse, or learn a kind of job
OLDEST_PROTOCOL = 6  # that this side still understands
# In each request of a worker. Headers, because they can be read where the body has an unknown form.
PROTOCOL_HEADER, VERSION_HEADER = "Swarm-Protocol", "Swarm-Version"
API_PREFIX = "/api/v1"
PROBLEM_MEDIA_TYPE = "application/problem+json"

MAX_COUNT = 2**53
"""Largest whole number: up to it, those that read JSON's numbers as doubles know each."""

MAX_READING = 1e12
"""Largest absolute value of a number that is reported; what is computed from such numbers stays below MAX_NUMBER."""

MAX_NUMBER = 1e39  # more than any 32-bit float, so that a loss may be any
MAX_SECONDS = 1e7
MAX_TEXT = 2**26
"""Characters of the longest text that is sent: the diff of a commit's files."""

MAX_FILE = 2**20
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)

_UNWANTED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
"""Control characters but tab and line ends; overrides, embeddings and isolates of direction, by which a text shows
other words than it holds; characters that nobody sees and agents read, but those that scripts and emoji are joined by;
halves of surrogate pairs, which no encoding knows."""


def clean_text(value: Any) -> Any:
    """A text without unwanted characters. They are removed, not refused: a program's log may hold any."""
    return _UNWANTED.sub("", value) if isinstance(value, str) else value


def _refuse_number(given: Any) -> Any:
    """A number, also in a text, would be taken for seconds since 1970."""
    if isinstance(given, int | float) or (isinstance(given, str) and re.fullmatch(r"[-+.\de]+", given, re.IGNORECASE)):
        raise ValueError("must be a time such as 2026-03-01T12:00:00Z")
    return given


def _check_moment(moment: datetime) -> datetime:
    if not EARLIEST <= moment < LATEST:
        raise ValueError(f"a time lies from {EARLIEST.year} on and before {LATEST.year}")
    return moment.astimezone(UTC)


def _refuse_unclean(text: str) -> str:
    if _UNWANTED.search(text):
        raise ValueError("control characters and overrides of direction are not allowed")
    return text


def _refuse_unseen(text: str) -> str:
    if all(category(letter) in ("Cc", "Cf") or category(letter)[0] in "MZ" for letter in text):
        raise ValueError("must hold something that people can see")
    return text


CLEAN_ALREADY = AfterValidator(_refuse_unclean)
"""For texts that have a hash, so that nothing can be removed from them."""

CLEAN = BeforeValidator(clean_text)
"""For texts that people, agents or programs wrote. The field says how long they may be."""

Count = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]
Reading = Annotated[float, Field(strict=True, ge=-MAX_READING, le=MAX_READING)]
Number = Annotated[float, Field(strict=True, ge=-MAX_NUMBER, le=MAX_NUMBER)]
Duration = Annotated[float, Field(strict=True, ge=0, le=MAX_SECONDS)]  # in seconds
Text = Annotated[str, Field(max_length=MAX_TEXT), CLEAN]
ExactText = Annotated[str, Field(max_length=MAX_TEXT)]  # a diff, which somebody may apply
SourceText = Annotated[str, Field(max_length=MAX_FILE)]  # kept as it is: it has a hash
Secret = Annotated[str, Field(max_length=100), CLEAN_ALREADY]
HoldoutKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]  # a name that stands in a URL
ShortText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), CLEAN, AfterValidator(_refuse_unseen)
]
LongText = Annotated[str, StringConstraints(strip_whitespace=True, max_length=4000), CLEAN]
Name = Annotated[str, Field(max_length=80), CLEAN]  # of an agent
# See also `shared.commits.check_path`.
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=255), CLEAN_ALREADY]
Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_refuse_number),
    AfterValidator(_check_moment),
    Field(json_schema_extra={"formatMinimum": EARLIEST.isoformat(), "formatExclusiveMaximum": LATEST.isoformat()}),
]

Row = TypeVar("Row")


class Message(BaseModel):
    """Base of everything that crosses the wire: unknown fields are refused, values do not change.

    Its numbers and truth values are strict: no text, and neither in the other's place.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Page(Message, Generic[Row]):
    """One page of a listing. `next_cursor` is opaque; None where the listing ends."""

    items: list[Row]
    next_cursor: Text | None = None


class Versions(Message):
    version: ShortText
    protocol: Count
    oldest_protocol: Count
    oldest_worker: ShortText  # that gets jobs


def version_key(version: str) -> tuple[int, ...]:
    """Sort key of a version: the numbers that it begins with, `0.10.1` after `0.9`."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


_clocks: list[Callable[[], datetime]] = [lambda: datetime.now(UTC)]  # a test's datetime, where it sets one


def now() -> datetime:
    return _clocks[-1]()


@contextmanager
def use_clock(clock: Callable[[], datetime]) -> Iterator[None]:
    """Let `now` tell a simulation's time, in all threads of this process."""
    _clocks.append(clock)
    try:
        yield
    finally:
        _clocks.pop()


class Problem(BaseModel):
    """A problem document. `type` is `/problems/<code>`, a page that explains it; `detail` says what to do."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str = ""
    errors: list[dict[str, Any]] | None = None

    @property
    def code(self) -> str:
        return self.type.rsplit("/", 1)[-1]
