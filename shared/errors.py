"""Problem documents (RFC 9457): the one form in which the coordinator says that something went wrong."""

from typing import Any

from pydantic import BaseModel, ConfigDict

PROBLEM_MEDIA_TYPE = "application/problem+json"


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
        """The problem's short name, for example `lease-unknown`."""
        return self.type.rsplit("/", 1)[-1]
