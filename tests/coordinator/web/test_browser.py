"""The pages in a real browser on a real server, with live updates."""

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from coordinator.projects.service import create_project
from coordinator.web.project_page import PAGE_ROWS
from shared.formatting import format_run
from tests.coordinator.web.conftest import EXPERIMENTS, Swarm
from tests.support.seeds import write_seed
from tests.support.swarm_data import HOSTILE_TITLE

PLOT = "#progress-plot"
FIND_MARK = """async (plot, id) => {
  const root = document.documentElement.dataset.root;
  const marks = await (await fetch(`${root}/projects/tiny/plot`)).json();
  const index = marks.experiments.indexOf(id);
  const over = plot.querySelector(".u-over").getBoundingClientRect();
  const [low, high] = marks.range;
  const share = marks.best[index] === null ? 0 : (marks.best[index] - low) / (high - low);
  const y = over.top + over.height * (1 - Math.min(1, Math.max(0, share)));
  const x = over.left + (over.width * (index + 0.5)) / marks.total;
  return [x, Math.min(over.bottom - 7, Math.max(over.top + 7, y))];
}"""


def open_project(page: Page, swarm: Swarm) -> None:
    """Open the project's page and wait until it listens."""
    page.goto(f"{swarm.url}/projects/tiny")
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
    assert page.locator(PLOT).get_attribute("data-marks") == str(runs)
    measured = next(point for point in progress["points"] if point["experiment_id"] == 8)
    point_at(page, 8)
    label = page.locator(".plot-label")
    expect(label).to_contain_text(format_run(measured["metric"]))
    expect(label).to_contain_text(measured["title"])
    expect(label).to_contain_text("n = 1")
    point_at(page, 11)
    expect(label).to_contain_text("crashed: RuntimeError")


def test_a_range_is_asked_for_and_stands_in_the_address(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    runs = wait_for_plot(page)
    over = page.locator(f"{PLOT} .u-over").bounding_box()
    assert over is not None
    page.mouse.move(over["x"] + over["width"] * 0.25, over["y"] + 40)
    page.mouse.down()
    page.mouse.move(over["x"] + over["width"] * 0.5, over["y"] + 40, steps=5)
    page.mouse.up()
    expect(page.locator("#plot-covers")).to_contain_text(f"of {runs}")
    marks = int(page.locator(PLOT).get_attribute("data-marks") or 0)
    assert runs / 4 - 2 <= marks <= runs / 4 + 2
    assert "first=" in page.url and "last=" in page.url
    swarm.add_experiment("WHILE ZOOMED")
    expect(page.locator("#experiment-rows tr").first).to_contain_text("WHILE ZOOMED")
    expect(page.locator(PLOT)).to_have_attribute("data-marks", str(marks))
    page.reload()
    expect(page.locator(PLOT)).to_have_attribute("data-marks", str(marks))
    page.locator("#whole-history").click()
    expect(page.locator(PLOT)).to_have_attribute("data-marks", str(runs + 1))
    expect(page.locator("#plot-covers")).to_have_text(f"All {runs + 1} runs")


def test_a_click_on_a_mark_opens_its_experiment(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    point_at(page, 8)
    expect(page.locator(".plot-label")).to_be_visible()
    page.mouse.down()
    page.mouse.up()
    expect(page).to_have_url(re.compile("/experiments/8$"))
    expect(page.locator("h1")).to_contain_text("#8")
    expect(page.locator("#loss-plot")).to_have_attribute("data-curves", "2")
    names = page.locator("#loss-plot .u-series .u-label").all_inner_texts()
    assert len(names) == 3 and names[1].startswith("parent") and names[2].startswith("run")
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


def test_a_new_experiment_appears_without_a_reload(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    runs = wait_for_plot(page)
    page.mouse.move(5, 5)
    experiment_id = swarm.add_experiment("TRIED_LIVE 1 → 2")
    first = page.locator("#experiment-rows tr").first
    expect(first).to_contain_text("TRIED_LIVE 1 → 2")
    expect(first.locator("a").first).to_have_attribute("href", re.compile(f"/experiments/{experiment_id}$"))
    expect(page.locator(PLOT)).to_have_attribute("data-runs", str(runs + 1))
    assert page.locator("#experiment-rows tr:not(.nothing)").count() == PAGE_ROWS, "the page keeps its length"
    assert_not_reloaded(page)
    page.locator("#pages a[rel=next]").click()
    oldest_shown = experiment_id - PAGE_ROWS
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
    row = page.locator("#experiment-rows tr").nth(15)
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
    page.wait_for_selector("#loss-plot[data-curves]")
    expect(page.locator("h1")).to_contain_text(HOSTILE_TITLE)
    assert page.locator("main img, main script:not([type='application/json'])").count() == 0
    links = page.locator(".prose a")
    assert {link.get_attribute("href") for link in links.all()} == {"https://example.org/paper"}
    assert {link.get_attribute("rel") for link in links.all()} == {"nofollow noopener noreferrer"}
    open_project(page, swarm)
    point_at(page, hostile)
    expect(page.locator(".plot-label")).to_contain_text("<script>window.hacked=1</script>")
    assert page.evaluate("window.hacked") is None


def test_pages_fit_a_phone(page: Page, swarm: Swarm) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/", "/projects/tiny", "/experiments/33", "/runs/1", "/problems", "/docs"):
        page.goto(swarm.url + path)
        if page.locator(".plot").count():
            page.wait_for_selector(".plot .u-over")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.goto(f"{swarm.url}/projects/tiny/experiments?text=nothing-like-this")
    tabs = [link.bounding_box() for link in page.locator(".tabs a").all()]
    assert len({tab["y"] for tab in tabs if tab}) == 2 and all(tab and tab["x"] + tab["width"] <= 390 for tab in tabs)
    told = page.get_by_text("No experiment fits these filters").bounding_box()
    assert told and told["x"] + told["width"] <= 390, "it is not cut off"


def test_the_plot_takes_the_theme(page: Page, swarm: Swarm) -> None:
    open_project(page, swarm)
    wait_for_plot(page)
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme)
        expect(page.locator(PLOT)).to_have_attribute("data-theme", theme)


def test_the_tree_is_drawn_moved_and_opened(page: Page, swarm: Swarm) -> None:
    page.goto(f"{swarm.url}/projects/tiny/tree")
    page.wait_for_selector("#tree[data-drawn]")
    columns = page.request.get(f"{swarm.url}/projects/tiny/tree.json").json()
    assert page.locator("#tree").get_attribute("data-drawn") == str(len(columns["parents"]))
    canvas, pictures = page.locator("#tree canvas"), set[bytes]()
    for button in ("#tree-in", "#tree-out", "#tree-fit", "#tree-path"):
        page.locator(button).click()
        pictures.add(canvas.screenshot())
    assert len(pictures) >= 2, "it is drawn anew"
    box = canvas.bounding_box()
    assert box is not None
    is_over = "(canvas) => canvas.classList.contains('over')"
    places = ((box["x"] + 20 + 25 * x, box["y"] + 10 + 15 * y) for x in range(40) for y in range(30))
    assert any(page.mouse.move(*place) or canvas.evaluate(is_over) for place in places)
    expect(page.locator(".tree-picture .plot-label")).to_contain_text("#")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url(re.compile(r"/experiments/\d+$"))


def test_without_scripts_a_page_shows_the_same_marks(page: Page, swarm: Swarm) -> None:
    page.route("**/*.js*", lambda route: route.fulfill(body="", content_type="text/javascript"))
    page.goto(f"{swarm.url}/projects/tiny")
    path = page.locator(f"{PLOT} svg .leader").get_attribute("d") or ""
    assert path.startswith("M") and path.count("V") > 5
    assert page.locator(f"{PLOT} .y-tick").count() == 4


def test_the_front_page_follows_and_its_command_is_copied(page: Page, swarm: Swarm) -> None:
    page.goto(swarm.url)
    expect(page.locator("#link-state")).to_have_text("live")
    card = page.locator(".project-card")
    expect(card).to_contain_text("none yet")
    before = card.locator(".covers").inner_text()
    swarm.add_experiment("SEEN ON THE FRONT PAGE")
    expect(card.locator(".covers")).not_to_have_text(before)
    page.locator("[data-copy]").click()
    expect(page.locator("[data-copy]")).to_have_text(re.compile("Copied|Selected"))


def test_the_first_project_appears_by_itself(page: Page, bare_server: Swarm, tmp_path: Path) -> None:
    page.goto(bare_server.url)
    expect(page.locator("h1")).to_have_text("There is no project yet")
    expect(page.locator("#link-state")).to_have_text("live")
    with bare_server.database.write() as session:
        create_project(session, write_seed(tmp_path / "seed"))
    expect(page.locator(".project-card")).to_contain_text("The baseline is not measured yet")
    page.goto(f"{bare_server.url}/projects/tiny")
    expect(page.locator("h1")).to_have_text("A small question")
    expect(page.locator("#summary")).to_contain_text("The baseline is not measured yet")
