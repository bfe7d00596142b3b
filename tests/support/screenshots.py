"""Pictures of every page, from the demo swarm: both themes, at two widths.

    python -m tests.support.screenshots FOLDER

Each is named for its page, width and theme, as `projects-gpt-cpu-1440-dark.png`. Pages that are not public are shown as
a maintainer sees them. The pictures of the README (docs/images) are among them: `readme-project.png` and others.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

import httpx
from playwright.sync_api import Browser, sync_playwright

from coordinator.accounts.service import find_or_add_volunteer
from coordinator.accounts.sessions import start_session
from coordinator.app import create_app
from coordinator.settings import CoordinatorSettings
from coordinator.web.sessions import COOKIE
from shared.workers import TokenScope
from tests.support.browser import ARGUMENTS, find_chromium
from tests.support.demo_swarm import BOSS, DemoSwarm
from tests.support.page_table import NOT_PUBLIC, PAGES, Things, fill_in, list_addresses
from tests.support.servers import serve

WIDTHS, HEIGHT = (1440, 390), 900
THEMES = ("light", "dark")
MOST_HEIGHT = 3_000
EXPERIMENTS = 240
README = {
    "project": ("/projects/{project}", "light"), "topic": ("/topics/{project}/{topic}", "light"),
    "queue": ("/admin/queue", "dark"),
}  # fmt: skip
README_SIZE = (1280, 860)
SETTLE_MS = 400
"""For plots, which are drawn after the page is there."""


def take_all(folder: Path) -> int:
    """Take all pictures; returns their number."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as store, sync_playwright() as playwright:
        url = "http://swarm.example.org"
        app = create_app(CoordinatorSettings(database_url=f"sqlite:///{store}/coordinator.db", public_url=url))
        with serve(app) as server, httpx.Client(base_url=server.url, timeout=60) as http:
            swarm = DemoSwarm(app.state.database, http, EXPERIMENTS)
            with swarm.database.write() as session:
                boss = find_or_add_volunteer(session, BOSS)
                secret = start_session(session, boss.id, TokenScope.DUTIES, "screenshots")
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
            count = _take(browser, server.url, swarm.things, secret, folder)
            browser.close()
    return count


def _take(browser: Browser, url: str, things: Things, secret: str, folder: Path) -> int:
    stranger, maintainer = browser.new_context(), browser.new_context()
    maintainer.add_cookies([{"name": COOKIE, "value": secret, "url": url}])
    tabs = {False: stranger.new_page(), True: maintainer.new_page()}
    count = 0
    for name, (page, theme) in README.items():
        tabs[True].set_viewport_size({"width": README_SIZE[0], "height": README_SIZE[1]})
        tabs[True].emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        tabs[True].goto(url + fill_in(page, things))
        tabs[True].wait_for_timeout(2 * SETTLE_MS)
        tabs[True].screenshot(path=folder / f"readme-{name}.png")
        count += 1
    for route in PAGES:
        tab = tabs[route in NOT_PUBLIC]
        for address in list_addresses(things, [route]):
            name = re.sub(r"[^\w]+", "-", address).strip("-")[:80] or "front"
            tab.goto(url + address)
            for width in WIDTHS:
                tab.set_viewport_size({"width": width, "height": HEIGHT})
                for theme in THEMES:
                    tab.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
                    tab.wait_for_timeout(SETTLE_MS)
                    height = min(MOST_HEIGHT, tab.evaluate("document.documentElement.scrollHeight"))
                    tab.screenshot(
                        path=folder / f"{name}-{width}-{theme}.png", full_page=True,
                        clip={"x": 0, "y": 0, "width": width, "height": height},
                    )  # fmt: skip
                    count += 1
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the pictures go; it is made")
    target = parser.parse_args().folder
    sys.stdout.write(f"{take_all(target)} pictures in {target}\n")
