"""Putting the pages into the application."""

from fastapi import FastAPI

from coordinator.web import assets, finding_pages, pages
from coordinator.web.error_pages import install_error_pages
from coordinator.web.headers import SecurityHeaders


def install_pages(app: FastAPI) -> None:
    """Add static files, pages, error pages and security headers. Comes after `install_error_handlers`."""
    app.include_router(assets.router, include_in_schema=False)
    app.mount("/static", assets.CachedStaticFiles(directory=assets.STATIC_FOLDER), name="static")
    app.include_router(pages.router, include_in_schema=False)
    app.include_router(finding_pages.router, include_in_schema=False)
    install_error_pages(app)
    app.add_middleware(SecurityHeaders)
