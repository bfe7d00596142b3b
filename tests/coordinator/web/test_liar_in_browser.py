"""With a browser only, a maintainer finds a liar, stops it, hides its papers, undoes it, and reads who did that."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from coordinator.accounts.service import create_link, find_or_add_volunteer
from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.models import Project
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from shared.workers import Role
from tests.bench import pages_store
from tests.coordinator.web.conftest import PATIENCE_MS
from tests.support.liar import BRAG, LIAR, write_swarm_with_liar
from tests.support.seeds import write_seed
from tests.support.servers import serve

PAPERS = 40
LARGE = 100_000
"""Experiments of the large swarm, whose workers are 1,200."""


class Place(NamedTuple):
    """A swarm's address, a maintainer's sign-in link, and the number of one of the liar's papers."""

    url: str
    link: str
    paper: int


@pytest.fixture(
    scope="module", params=[0, pytest.param(LARGE, marks=[pytest.mark.large, pytest.mark.timeout(7_200)])],
    ids=["small", "100,000 experiments"],
)  # fmt: skip
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Filled before it is served, and without tasks that would estimate everything anew."""
    folder, never = tmp_path_factory.mktemp("liar"), 1e6
    url = f"sqlite:///{folder}/coordinator.db"
    database = Database(url)
    database.migrate()
    if request.param:
        pages_store.fill(database, folder, request.param)
    with database.write() as session:
        if not request.param:
            create_project(session, write_seed(folder / "seed"))
        project_id = session.scalars(select(Project.id)).one()
        boss = find_or_add_volunteer(session, "boss")
        boss.role = Role.MAINTAINER
        _, link = create_link(session, boss)
    papers = write_swarm_with_liar(database, project_id, honest=10, papers=PAPERS).papers
    database.close()
    settings = CoordinatorSettings(
        database_url=url, event_poll_seconds=0.1, epoch_check_seconds=never, meaning_check_seconds=never
    )
    with serve(create_app(settings)) as server:
        yield Place(server.url, link, papers[1])


def count_papers(page: Page, url: str) -> int:
    """The liar's papers that a reader finds in lists."""
    found = page.request.get(f"{url}/api/v1/findings?project=tiny&limit=200").json()["items"]
    return sum(one["volunteer"] == LIAR for one in found)


def test_a_maintainer_finds_a_liar_stops_it_undoes_it_and_reads_who_did_that(page: Page, place: Place) -> None:
    url, link, paper = place
    page.set_default_timeout(10 * PATIENCE_MS)  # beside other work a quarantine among 100,000 experiments takes long
    page.goto(f"{url}/sign-in?link={link}")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Desk").click()

    # It is found: a held result and three contradictions, all of one author, with the runs beside them.
    waiting = page.locator("[data-row]")
    expect(waiting.filter(has_text=LIAR)).to_have_count(5)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    waiting.filter(has_text="contradiction").first.get_by_role("link").click()
    evidence = page.locator("#evidence")
    expect(evidence).to_contain_text("contradiction")
    expect(evidence).to_contain_text(f"Of {PAPERS}: 1 held, 3 contradicted, 3 measured by others")
    expect(evidence.get_by_role("row").filter(has_text="ada/gpu-0")).to_have_count(1)
    expect(evidence.get_by_role("row").filter(has_text=f"{LIAR}/m1")).to_contain_text("3.20000")
    assert count_papers(page, url) == PAPERS

    # It is stopped, and its papers are gone from lists and from the search.
    page.get_by_label("Reason", exact=True).last.fill("three anchors cannot repeat it")
    page.get_by_role("button", name="Quarantine the author").click()
    expect(page.get_by_role("status").filter(has_text="Done: quarantine 1 thing")).to_be_visible()
    expect(waiting.filter(has_text=LIAR)).to_have_count(0)
    assert count_papers(page, url) == 0
    page.goto(f"{url}/findings?project=tiny&q=miracle+learning+rate")
    expect(page.get_by_text(BRAG)).to_have_count(0)
    told = page.request.get(f"{url}/api/v1/findings/{paper}", headers={"Authorization": ""})
    assert told.status == 410 and "three anchors cannot repeat it" in told.text()

    # What it did says on its own pages that it does not count, and nothing calls it a failure.
    page.goto(f"{url}/projects/tiny/experiments?volunteer={LIAR}")
    expect(page.locator("td.verdict").filter(has_text="not counted")).to_have_count(PAPERS - 3)  # others measured these
    page.locator("tbody th a").first.click()
    expect(page.locator("#verdict")).to_contain_text("no measurement counts")
    expect(page.locator("#experiment")).to_contain_text("Hidden while its author is in quarantine")
    page.goto(f"{url}/volunteers/{LIAR}")
    expect(page.locator(".found")).to_have_text("None is shown while the account is in quarantine.")

    # One step undoes it.
    page.get_by_role("link", name="Desk").click()
    lately = page.locator(".lately li").filter(has_text=f"quarantine {LIAR}")
    lately.get_by_text("Undo", exact=True).click()
    lately.get_by_label("Reason to undo").fill("it was the wrong clock")
    lately.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("status").filter(has_text="is undone")).to_be_visible()
    expect(waiting.filter(has_text=LIAR)).to_have_count(5)
    assert count_papers(page, url) == PAPERS

    # The log says who did what, and why.
    page.get_by_role("link", name="Audit").click()
    rows = page.locator("table.audit tbody tr")
    expect(rows.nth(1)).to_contain_text("boss")
    expect(rows.nth(1)).to_contain_text("three anchors cannot repeat it")
    expect(rows.nth(1)).to_contain_text("undone by 2")
    expect(rows.nth(0)).to_contain_text("it was the wrong clock")
    expect(rows.nth(0)).to_contain_text("page")
