"""Putting the pages into the application."""

from functools import cache

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from coordinator.http.headers import SecurityHeaders
from coordinator.web import assets, finding_pages, pages
from coordinator.web.error_pages import install_error_pages


def install_pages(app: FastAPI) -> None:
    """Add static files, pages, error pages and security headers. Comes after `install_error_handlers`."""
    app.router.routes.extend(_gather_routes())  # one of them lies below the folder of static files, so they come first
    app.mount("/static", assets.CachedStaticFiles(directory=assets.STATIC_FOLDER), name="static")
    install_error_pages(app)
    app.add_middleware(SecurityHeaders)


@cache
def _gather_routes() -> list[BaseRoute]:
    """What people look at, shared by the applications of one process."""
    root = APIRouter()
    for router in (assets.router, pages.router, finding_pages.router):
        root.include_router(router, include_in_schema=False)
    return root.routes
