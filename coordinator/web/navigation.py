"""The navigation: every page's links to the parts of the site, and within a project its tabs."""

from typing import NamedTuple

from fastapi import Request
from sqlalchemy.orm import Session

from coordinator.accounts.permissions import STAFF, Caller
from coordinator.db.cache import TimedCache
from coordinator.http.prefix import read_path
from coordinator.moderation.queue import list_items


class Place(NamedTuple):
    """A link. It is the current one on its own address, and on those that lie below it or one of `below`."""

    label: str
    address: str
    below: tuple[str, ...] = ()


SITE = (
    Place("Projects", "/", below=("/projects", "/experiments", "/runs", "/topics", "/compare")),
    Place("Findings", "/findings"),
    Place("Workers", "/workers"),
    Place("People", "/leaderboard", below=("/volunteers",)),
    Place("Status", "/status"),
)
DESK = Place("Desk", "/admin/queue", below=("/admin",))
STAFF_PLACES = (DESK, Place("Audit", "/audit"))
TABS = (
    Place("Overview", "/projects/{name}"),
    Place("Experiments", "/projects/{name}/experiments"),
    Place("Findings", "/findings?project={name}"),
    Place("Topics", "/projects/{name}/topics"),
    Place("Branches", "/projects/{name}/branches"),
    Place("Tree", "/projects/{name}/tree"),
    Place("Workers", "/projects/{name}/workers"),
    Place("Settings", "/projects/{name}/settings"),
)
"""The tabs of a project. A page names its own by `{% set tab = "Topics" %}`."""


class Link(NamedTuple):
    """A link as a page shows it, with the number of things that wait behind it."""

    label: str
    address: str
    is_current: bool
    waiting: int = 0


COUNTED_SECONDS = 5.0
_counts = TimedCache[str, int](1)


def count_waiting(session: Session) -> int:
    """Things that wait for moderators but background tasks, counted anew when the last count is older than
    COUNTED_SECONDS."""
    return _counts.read(session, "queue", COUNTED_SECONDS, lambda: len(list_items(session)))


def list_places(request: Request, visitor: Caller | None, waiting: int) -> list[Link]:
    """The links to the site's parts that this visitor sees."""
    path = read_path(request.scope)
    places = SITE + (STAFF_PLACES if visitor and visitor.role in STAFF else ())
    return [Link(place.label, place.address, _is_at(path, place), waiting if place is DESK else 0) for place in places]


def list_tabs(project: str, current: str) -> list[Link]:
    """The tabs of a project."""
    return [Link(tab.label, tab.address.replace("{name}", project), tab.label == current) for tab in TABS]


def _is_at(path: str, place: Place) -> bool:
    if place.address == path:
        return True
    above = place.below if place.address == "/" else (place.address, *place.below)
    return any(f"{path}/".startswith(f"{part}/") for part in above)
