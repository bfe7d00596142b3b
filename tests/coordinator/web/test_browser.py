"""The pages in a real browser on a real server, with live updates."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect

from coordinator.app import create_app
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from tests.coordinator.web.conftest import EXPERIMENTS, Swarm
from tests.support.seeds import write_seed
from tests.support.servers import serve
from tests.support.swarm_data import HOSTILE_TITLE

PLOT = "#progress-plot"
COUNT_MARKS = "plot => plot.data.filter(t => t.mode === 'markers').reduce((sum, t) => sum + t.x.length, 0)"
FIND_MARK = """(plot, id) => {
  for (const trace of plot.data) {
    const i = (trace.customdata ?? []).findIndex((mark) => mark.experiment === id);
    if (i < 0) continue;
    const box = plot.getBoundingClientRect();
    const { xaxis, yaxis, yaxis2, margin } = plot._fullLayout;
    const y = trace.yaxis === "y2" ? yaxis2 : yaxis;
    return [box.left + xaxis._offset + xaxis.l2p(trace.x[i]), box.top + y._offset + y.l2p(trace.y[i])];
  }
}"""


def open_project(page: Page, swarm: Swarm) -> None:
    """Open the front page and wait until it listens."""
    page.goto(swarm.url)
    expect(page.locator("#link-state")).to_have_text("live")
    page.evaluate("window.sameDocument = true")


def wait_for_plot(page: Page) -> int:
    """Wait until the progress plot is drawn; returns how many runs it shows."""
    page.wait_for_selector(f"{PLOT}[data-runs]")
    return int(page.locator(PLOT).get_attribute("data-runs") or 0)


def assert_not_reloaded(page: Page) -> None:
    assert page.evaluate("window.sameDocument") is True


def point_at(page: Page, experiment_id: int) -> None:
    """Move the mouse to an experiment's mark."""
    wait_for_plot(page)
    x, y = page.locator(PLOT).evaluate(FIND_MARK, experiment_id)
    page.mouse.move(x - 3, y - 2)
    page.mouse.move(x, y)


def test_every_run_is_a_mark_and_pointing_at_it_names_it(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    runs = wait_for_plot(page)
    progress: dict[str, Any] = page.request.get(f"{swarm.url}/api/v1/projects/tiny/progress").json()
    assert len(progress["points"]) == runs > EXPERIMENTS
    assert page.locator(PLOT).evaluate(COUNT_MARKS) == runs
    measured = next(point for point in progress["points"] if point["experiment_id"] == 8)
    point_at(page, 8)
    label = page.locator(f"{PLOT} .hoverlayer .hovertext")
    expect(label).to_contain_text(measured["title"])
    expect(label).to_contain_text(f"{measured['metric']:.4f}")
    expect(label).to_contain_text("n = 1")
    point_at(page, 11)
    expect(label).to_contain_text("crashed: RuntimeError")


def test_a_click_on_a_mark_opens_its_experiment(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    point_at(page, 8)
    expect(page.locator(f"{PLOT} .hoverlayer .hovertext")).to_be_visible()
    page.mouse.down()
    page.mouse.up()
    expect(page).to_have_url(re.compile("/experiments/8$"))
    expect(page.locator("h1")).to_contain_text("#8")
    page.wait_for_selector("#loss-plot .scatterlayer .trace")
    names = page.locator("#loss-plot").evaluate("plot => plot.data.map((trace) => trace.name)")
    assert len(names) == 2 and names[0].startswith("parent") and names[1].startswith("run")
    expect(page.locator(".diff .added")).to_have_count(1)


def test_a_click_counts_while_something_new_waits_to_be_drawn(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    runs = wait_for_plot(page)
    point_at(page, 8)
    swarm.add_experiment("BEFORE_A_CLICK")
    expect(page.locator("#experiment-rows tr").first).to_contain_text("BEFORE_A_CLICK")
    page.wait_for_timeout(500)  # the new points are fetched after the rows, and then nothing is to be seen
    expect(page.locator(PLOT)).to_have_attribute("data-runs", str(runs))
    page.mouse.down()
    page.mouse.up()
    expect(page).to_have_url(re.compile("/experiments/8$"))


def test_a_plot_is_drawn_anew_after_a_zoom_that_ends_outside(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    runs = wait_for_plot(page)
    point_at(page, 8)
    page.mouse.down()
    page.mouse.move(400, 400)
    swarm.add_experiment("WHILE_ZOOMING")
    expect(page.locator("#experiment-rows tr").first).to_contain_text("WHILE_ZOOMING")
    page.wait_for_timeout(500)
    expect(page.locator(PLOT)).to_have_attribute("data-runs", str(runs))
    page.mouse.move(5, 5)
    page.mouse.up()
    expect(page.locator(PLOT)).to_have_attribute("data-runs", str(runs + 1))


def test_a_new_experiment_appears_without_a_reload(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    runs = wait_for_plot(page)
    page.mouse.move(5, 5)
    experiment_id = swarm.add_experiment("TRIED_LIVE 1 → 2")
    first = page.locator("#experiment-rows tr").first
    expect(first).to_contain_text("TRIED_LIVE 1 → 2")
    expect(first.locator("a").first).to_have_attribute("href", f"/experiments/{experiment_id}")
    expect(page.locator(PLOT)).to_have_attribute("data-runs", str(runs + 1))
    assert page.locator("#experiment-rows tr:not(.nothing)").count() == 50, "the page keeps its length"
    assert_not_reloaded(page)
    page.locator("#pages a[rel=next]").click()
    oldest_shown = experiment_id - 50
    expect(page.locator("#experiment-rows tr").first).to_contain_text(str(oldest_shown))


def test_nothing_moves_under_the_pointer(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    row = page.locator("#experiment-rows tr").nth(1)
    key = row.get_attribute("data-key")
    row.hover()
    before = row.bounding_box()
    swarm.add_experiment("WHILE_POINTING")
    expect(page.locator("#held-back")).to_contain_text("1 new")
    same = page.locator(f"#experiment-rows tr[data-key='{key}']")
    assert same.bounding_box() == before
    expect(page.locator("#experiment-rows")).not_to_contain_text("WHILE_POINTING")
    page.mouse.move(5, 5)
    expect(page.locator("#experiment-rows tr").first).to_contain_text("WHILE_POINTING")
    expect(page.locator("#held-back")).to_have_text("")
    assert_not_reloaded(page)


def test_what_one_reads_stays_when_rows_come_in_above(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    row = page.locator("#experiment-rows tr").nth(30)
    key = row.get_attribute("data-key")
    row.evaluate("row => row.scrollIntoView({block: 'center'})")
    page.mouse.move(1275, 5)
    same = page.locator(f"#experiment-rows tr[data-key='{key}']")
    before = same.evaluate("row => row.getBoundingClientRect().top")
    swarm.add_experiment("FROM_ABOVE")
    expect(page.locator("#experiment-rows")).to_contain_text("FROM_ABOVE")
    assert abs(same.evaluate("row => row.getBoundingClientRect().top") - before) < 2


def hide(page: Page, hidden: bool) -> None:
    page.evaluate(
        """hidden => {
          Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_a_hidden_tab_pauses_and_catches_up(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    page.mouse.move(5, 5)
    hide(page, True)
    expect(page.locator("#link-state")).to_have_text("paused")
    page.wait_for_load_state("networkidle")  # what was asked for before is answered
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    swarm.add_experiment("WHILE_HIDDEN")
    page.wait_for_timeout(1000)
    assert requests == []
    hide(page, False)
    expect(page.locator("#experiment-rows tr").first).to_contain_text("WHILE_HIDDEN")
    expect(page.locator("#link-state")).to_have_text("live")
    assert_not_reloaded(page)


def test_hostile_text_is_shown_and_not_obeyed(page: Page, swarm: Swarm) -> None:
    progress = page.request.get(f"{swarm.url}/api/v1/projects/tiny/progress").json()
    (hostile,) = {p["experiment_id"] for p in progress["points"] if p["title"] == HOSTILE_TITLE}
    page.goto(f"{swarm.url}/experiments/{hostile}")
    page.wait_for_selector("#loss-plot .scatterlayer .trace")
    expect(page.locator("h1")).to_contain_text(HOSTILE_TITLE)
    assert page.locator("main img, main script:not([type='application/json'])").count() == 0
    links = page.locator(".prose a")
    assert {link.get_attribute("href") for link in links.all()} == {"https://example.org/paper"}
    assert {link.get_attribute("rel") for link in links.all()} == {"nofollow noopener noreferrer"}
    open_project(page, swarm)
    point_at(page, hostile)
    expect(page.locator(f"{PLOT} .hoverlayer .hovertext")).to_contain_text("<script>window.hacked=1</script>")
    assert page.evaluate("window.hacked") is None


def test_pages_fit_a_phone(page: Page, swarm: Swarm) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/", "/experiments/33", "/runs/1", "/problems", "/docs"):
        page.goto(swarm.url + path)
        if page.locator(".plot").count():
            page.wait_for_selector(".plot .scatterlayer .trace")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_the_plot_takes_the_theme(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    wait_for_plot(page)
    title = page.locator(f"{PLOT} .ytitle")
    page.emulate_media(color_scheme="dark")
    expect(title).to_have_css("fill", "rgb(155, 165, 175)")
    page.emulate_media(color_scheme="light")
    expect(title).to_have_css("fill", "rgb(90, 98, 107)")


def test_scripts_work_below_a_path(page: Page, swarm: Swarm) -> None:
    settings = CoordinatorSettings(
        database_url=swarm.database.url.render_as_string(), public_url="http://127.0.0.1/swarm", event_poll_seconds=0.1
    )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    with serve(create_app(settings)) as server:
        open_project(page, replace(swarm, url=f"{server.url}/swarm/"))
        assert wait_for_plot(page) > EXPERIMENTS
        newest = swarm.add_experiment("BELOW A PATH")
        row = page.locator(f"#experiment-rows [data-key='{newest}']")
        expect(row).to_contain_text("BELOW A PATH")
        assert_not_reloaded(page)
        point_at(page, newest)
        page.mouse.down()
        page.mouse.up()
        expect(page).to_have_url(f"{server.url}/swarm/experiments/{newest}")
        page.wait_for_selector("#loss-plot .plot-container")
        expect(page.locator("#link-state")).to_have_text("live")
        page.goto("about:blank")
    assert asked and all(path.startswith("/swarm/") for path in asked if path != "blank")


def test_the_first_project_appears_by_itself(page: Page, bare_server: Swarm, tmp_path: Path) -> None:
    page.goto(bare_server.url)
    expect(page.locator("h1")).to_have_text("There is no project yet")
    expect(page.locator("#link-state")).to_have_text("live")
    with bare_server.database.write() as session:
        create_project(session, write_seed(tmp_path / "seed"))
    expect(page.locator("h1")).to_have_text("A small question")
    expect(page.locator("#summary")).to_contain_text("The baseline is not measured yet")
    expect(page.locator(PLOT)).to_contain_text("no run yet")
