"""The pages for people: server-rendered, alive through the event feed, and served without any other host."""

from coordinator.web.installation import install_pages

__all__ = ["install_pages"]
