"""All pages by their routes, with addresses to visit: a route without a row fails the tests that go through them."""

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.routing import APIRoute

from shared.protocol import API_PREFIX

NO_PAGES = frozenset(
    (
        "/audit.csv", "/experiments/{experiment_id}.json", "/experiments/{experiment_id}/live",
        "/findings/{finding_id}.json", "/healthz", "/live", "/metrics", "/openapi.json", "/projects/{name}.json",
        "/projects/{name}/commits/{sha}", "/projects/{name}/digests.atom", "/projects/{name}/digests/{week}.md",
        "/projects/{name}/experiments.{form}",
        "/projects/{name}/live", "/projects/{name}/plot", "/projects/{name}/tree.json",
        "/readyz", "/robots.txt", "/topics/{project}/{slug}.json", "/volunteers/{name}/{worker:path}",
    )
)  # fmt: skip
"""Routes that answer with data, streams or a part of a page, or lead to one; so do all of the API and of git."""

PAGES: dict[str, tuple[str, ...]] = {
    "/": ("/",),
    "/admin/accounts": ("/admin/accounts", "/admin/accounts?name=a"),
    "/admin/accounts/{name}": ("/admin/accounts/{volunteer}", "/admin/accounts/{sanctioned}"),
    "/admin/invitations": ("/admin/invitations",),
    "/admin/queue": ("/admin/queue", "/admin/queue?item={queue_item}"),
    "/audit": ("/audit",),
    "/compare": ("/compare", "/compare?ids={experiment_id},{other_experiment_id}"),
    "/docs": ("/docs",),
    "/docs/messages/{message}": ("/docs/messages/RunView",),
    "/docs/{tag}": ("/docs/leases",),
    "/experiments/{experiment_id}": ("/experiments/{experiment_id}", "/experiments/{crashed_experiment_id}"),
    "/findings": ("/findings", "/findings?project={project}", "/findings?project={project}&q=learning+rate"),
    "/findings/{finding_id}": ("/findings/{finding_id}",),
    "/findings/{finding_id}/report": ("/findings/{finding_id}/report",),
    "/join": ("/join",),
    "/leaderboard": ("/leaderboard", "/leaderboard?period=all&order=hours"),
    "/me": ("/me",),
    "/problems": ("/problems",),
    "/problems/{code}": ("/problems/not-found",),
    "/projects/{name}": ("/projects/{project}", "/projects/{project}?first=5&last=30"),
    "/projects/{name}/branches": ("/projects/{project}/branches",),
    "/projects/{name}/branches/{branch}": ("/projects/{project}/branches/{branch}",),
    "/projects/{name}/digests": ("/projects/{project}/digests",),
    "/projects/{name}/digests/{week}": ("/projects/{project}/digests/{week}",),
    "/projects/{name}/experiments": (
        "/projects/{project}/experiments",
        "/projects/{project}/experiments?text=learning&verdict=improved",
    ),
    "/projects/{name}/importance": ("/projects/{project}/importance",),
    "/projects/{name}/settings": ("/projects/{project}/settings", "/projects/{project}/settings?version=0"),
    "/projects/{name}/topics": ("/projects/{project}/topics",),
    "/projects/{name}/tree": ("/projects/{project}/tree",),
    "/projects/{name}/workers": ("/projects/{project}/workers",),
    "/runs/{run_id}": ("/runs/{run_id}",),
    "/sign-in": ("/sign-in",),
    "/status": ("/status",),
    "/topics/{project}/{slug}": ("/topics/{project}/{topic}",),
    "/volunteers/{name}": ("/volunteers/{volunteer}",),
    "/workers": ("/workers",),
    "/workers/{worker_id}": ("/workers/{worker_id}",),
}
"""Route -> its addresses, the first of which is its usual one; names in braces are fields of `Things`."""

NOT_PUBLIC = frozenset(
    ("/admin/accounts", "/admin/accounts/{name}", "/admin/invitations", "/admin/queue", "/audit", "/me")
)
"""Pages that lead strangers to the sign-in."""


class Things(NamedTuple):
    """The things of a database that pages are about. The run is one of a root: others' pages are their experiment's."""

    project: str
    experiment_id: int
    other_experiment_id: int
    crashed_experiment_id: int
    finding_id: int
    run_id: int
    worker_id: int
    volunteer: str
    sanctioned: str
    topic: str
    branch: str
    week: str
    queue_item: str


def list_page_routes(app: FastAPI) -> list[str]:
    """Routes that answer a GET with a page, as far as `NO_PAGES` knows."""
    paths = (route.path for route in app.routes if isinstance(route, APIRoute) and "GET" in route.methods)
    return sorted(path for path in paths if path not in NO_PAGES and not path.startswith((f"{API_PREFIX}/", "/git/")))


def list_addresses(things: Things, routes: Iterable[str] = PAGES, *, first: bool = False) -> list[str]:
    """The routes' addresses; only the `first` of each, if told so."""
    return [fill_in(each, things) for route in sorted(routes) for each in PAGES[route][: 1 if first else None]]


def fill_in(address: str, things: Things) -> str:
    return address.format_map({name: quote(str(value), safe="") for name, value in things._asdict().items()})
