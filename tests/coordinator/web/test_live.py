"""Streams of what changes on a page: the same message for all who show the same, and all of it for the others."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.events.feed import Feed
from coordinator.models import Project
from coordinator.web import project_page
from coordinator.web.live import FRONT, LivePages
from tests.support.messages import make_proposal
from tests.support.swarm_data import History

PATIENCE_SECONDS = 120.0


def add_experiment(database: Database, title: str) -> None:
    with database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        worker = history.add_worker()
        history.add_experiment(worker, history.project.root_sha, 3.25, make_proposal(title))


async def read_first(live: LivePages, feed: Feed, name: str, states: list[str]) -> list[str]:
    """The first message to each of several viewers, who look at the same time."""

    async def read(state: str) -> str:
        stream = live.follow(feed, (name, None) if name else FRONT, state)
        message = await anext(stream)
        await stream.aclose()
        return message

    return list(await asyncio.wait_for(asyncio.gather(*map(read, states)), PATIENCE_SECONDS))


@pytest.mark.usefixtures("http")
def test_viewers_of_one_state_share_a_message_that_holds_the_difference(database: Database, project: str) -> None:
    add_experiment(database, "BEFORE")
    live = LivePages(database)
    with database.read() as session:
        parts = project_page.read_parts(session, project_page.choose(session, project, None))
    live.keep(parts)
    add_experiment(database, "AFTER")
    first, second, unknown = asyncio.run(read_first(live, Feed(database), project, [parts.state, parts.state, "other"]))
    assert first is second
    changes: dict[str, Any] = json.loads(first)
    assert len(changes["rows"]["changed"]) == 1 and "AFTER" in next(iter(changes["rows"]["changed"].values()))
    assert changes["plot"]["skipped"] == 1 and len(changes["plot"]["best"]) == 1
    whole = json.loads(unknown)
    assert whole["state"] == changes["state"] != parts.state
    assert len(whole["rows"]["changed"]) == 2 and whole["plot"]["skipped"] == 0


def test_a_closed_feed_ends_the_streams(http: TestClient, database: Database, project: str) -> None:
    live = LivePages(database)
    with database.read() as session:
        _, parts = project_page.view_front(session)

    async def look() -> list[str]:
        feed = Feed(database)
        stream = live.follow(feed, FRONT, parts.state)
        reading = asyncio.create_task(anext(stream, "ended"))
        await asyncio.sleep(0)
        feed.close()
        return [await asyncio.wait_for(reading, PATIENCE_SECONDS)]

    assert asyncio.run(look()) == ["ended"]
    assert http.get("/").text.count(parts.state) == 1, "the page names the state that it shows"


def test_who_opens_a_page_within_a_second_gets_what_was_made_for_the_first(
    app: FastAPI, http: TestClient, database: Database, project: str
) -> None:
    add_experiment(database, "BEFORE")
    live: LivePages = app.state.live_pages
    made: list[str] = []

    def make() -> tuple[project_page.Context, project_page.Parts]:
        made.append(project)
        with database.read() as session:
            return project_page.view_page(session, project_page.choose(session, project, None), None)

    live.rest_factor = PATIENCE_SECONDS
    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(lambda _: live.open((project, None), make), range(8)))
    assert len(made) == 1 and all(page is pages[0] for page in pages)
    pages_of_project = [http.get(f"/projects/{project}").text for _ in range(2)]
    assert pages_of_project[0] == pages_of_project[1] and "BEFORE" in pages_of_project[0]
    live.open((project, "another class"), make)
    live.rest_factor = 0.0
    assert live.open((project, None), make) is not pages[0] and len(made) == 3


def test_a_page_that_takes_long_is_made_more_seldom_for_those_who_open_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty times as long as it takes, which on a busy machine is more than a second."""
    live, made = LivePages(database), [(project_page.Context(), project_page.make_parts({}, {}, {}))] * 2
    monkeypatch.setattr("coordinator.web.live.RENDER_SECONDS", 0.0)
    monkeypatch.setattr("coordinator.web.live.SELDOM_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr("coordinator.web.live.RENDER_SHARE", 1e-9)
    for _ in range(2):
        assert live.open(("a project", None), made.pop) is not None
    assert len(made) == 1
    monkeypatch.setattr("coordinator.web.live.SELDOM_SECONDS", 0.0)
    other = LivePages(database)
    made = [made[0]] * 2
    for _ in range(2):
        other.open(("a project", None), made.pop)
    assert not made


def test_a_page_is_rendered_once_for_viewers_who_come_one_after_another(
    http: TestClient, database: Database, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once for each, and never back to what it showed before somebody opened it anew."""
    live, renderings, read_parts = LivePages(database), [], project_page.read_parts
    live.rest_factor = 0.0
    monkeypatch.setattr("coordinator.web.live.RENDER_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(project_page, "read_parts", lambda *args: renderings.append(1) or read_parts(*args))

    def make() -> tuple[project_page.Context, project_page.Parts]:
        with database.read() as session:
            return project_page.view_page(session, project_page.choose(session, project, None), None)

    async def look() -> None:
        feed, key = Feed(database), (project, None)
        first = live.follow(feed, key, "unknown")
        await anext(first)
        others = [live.follow(feed, key, f"unknown {number}") for number in range(5)]
        for other in others:
            await anext(other)
        assert len(renderings) == 1
        add_experiment(database, "AFTER")
        parts = live.open(key, make)[1]
        late = live.follow(feed, key, "unknown")
        assert json.loads(await anext(late))["state"] == parts.state and len(renderings) == 1
        for stream in (first, late, *others):
            await stream.aclose()

    asyncio.run(asyncio.wait_for(look(), PATIENCE_SECONDS))
