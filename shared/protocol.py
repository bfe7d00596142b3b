"""Base class and field types of the wire models, and the version of the protocol."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL = 1  # that this side still understands
# In each request of a worker. Headers, because they can be read where the body has an unknown form.
PROTOCOL_HEADER, VERSION_HEADER = "Swarm-Protocol", "Swarm-Version"
API_PREFIX = "/api/v1"
PROBLEM_MEDIA_TYPE = "application/problem+json"

Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]  # a name that stands in a URL
ShortText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
LongText = Annotated[str, StringConstraints(strip_whitespace=True, max_length=4000)]
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=255)]  # see `shared.commits.check_path`
Timestamp = AwareDatetime

Row = TypeVar("Row")


class Message(BaseModel):
    """Base of everything that crosses the wire: unknown fields are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Page(Message, Generic[Row]):
    """One page of a listing. `next_cursor` is opaque; None where the listing ends."""

    items: list[Row]
    next_cursor: str | None = None


class Versions(Message):
    version: str
    protocol: int
    oldest_protocol: int
    oldest_worker: str  # that gets jobs


def version_key(version: str) -> tuple[int, ...]:
    """Sort key of a version: the numbers that it begins with, `0.10.1` after `0.9`."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def now() -> datetime:
    return datetime.now(UTC)


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
