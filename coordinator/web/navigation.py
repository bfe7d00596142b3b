"""The navigation: every page's links to the parts of the site, and within a project its tabs.

All parts are named here; a link shows as soon as the application has a route of its path.
"""

from typing import NamedTuple

from fastapi import Request
from sqlalchemy.orm import Session

from coordinator.accounts.permissions import STAFF, Caller
from coordinator.db.cache import TimedCache
from coordinator.http.prefix import read_path
from coordinator.moderation.queue import count_items


class Place(NamedTuple):
    """A link: its label, the route that must exist, and the address where that is not the route. An address starts
    with one of `below` where the place is the current one."""

    label: str
    route: str
    address: str = ""
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
    Place("Findings", "/findings", "/findings?project={name}"),
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
    """Things that wait for moderators, counted anew when the last count is older than COUNTED_SECONDS."""
    return _counts.read(session, "queue", COUNTED_SECONDS, lambda: count_items(session))


def list_places(request: Request, visitor: Caller | None, waiting: int) -> list[Link]:
    """The links to the site's parts that this visitor sees."""
    path = read_path(request.scope)
    places = SITE + (STAFF_PLACES if visitor and visitor.role in STAFF else ())
    return [
        Link(place.label, place.route, _is_at(path, place), waiting if place is DESK else 0)
        for place in places
        if place.route in _list_routes(request)
    ]


def list_tabs(request: Request, project: str, current: str) -> list[Link]:
    """The tabs of a project."""
    return [
        Link(tab.label, (tab.address or tab.route).replace("{name}", project), tab.label == current)
        for tab in TABS
        if tab.route in _list_routes(request)
    ]


def _is_at(path: str, place: Place) -> bool:
    return path == place.route or any(path == part or path.startswith(f"{part}/") for part in _parts_of(place))


def _parts_of(place: Place) -> tuple[str, ...]:
    return place.below if place.route == "/" else (place.route, *place.below)


def _list_routes(request: Request) -> frozenset[str]:
    """The paths of the application's routes, gathered once."""
    state = request.app.state
    if not hasattr(state, "page_routes"):
        state.page_routes = frozenset(getattr(route, "path", "") for route in request.app.routes)
    routes: frozenset[str] = state.page_routes
    return routes
