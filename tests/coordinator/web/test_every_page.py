"""Every page of the route table in a real browser: for those who see little, below a path, and against markup."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, TimeoutError, expect
from pydantic import BaseModel
from sqlalchemy import select

from coordinator.accounts.service import find_or_add_volunteer
from coordinator.accounts.sessions import start_session
from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.models import Project
from coordinator.settings import CoordinatorSettings
from coordinator.web.sessions import COOKIE
from shared.workers import TokenScope
from tests.coordinator.web.conftest import PATIENCE_MS, Swarm, serve_swarm
from tests.support.demo_swarm import BOSS, EPYC, PEOPLE, DemoSwarm
from tests.support.hostile_texts import PAYLOADS, Hostile
from tests.support.messages import make_proposal
from tests.support.page_table import NOT_PUBLIC, PAGES, Things, list_addresses, list_page_routes
from tests.support.swarm_data import History

Cookie = Any  # playwright's own type of it is not to be imported
OpenTab = Callable[..., Page]
Theme = Literal["light", "dark"]

WIDE, NARROW = (1440, 900), (390, 844)
SERIOUS = ("serious", "critical")
MILD = {name: {"enabled": False} for name in re.findall(r'\{id:"([\w-]+)",impact:"(?:minor|moderate)"', AXE_SCRIPT)}
"""Rules that find nothing serious are left out: some of them take long."""

RUN_AXE = """([only, rules]) =>
  axe.run(document, {resultTypes: ["violations"], preload: false, ...(only ? {runOnly: only} : {rules})})
  .then((found) => found.violations.map(({id, impact, nodes}) =>
    [id, impact, nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join("\\n")]))"""
OF_THE_THEME = ["color-contrast", "link-in-text-block"]
OF_THE_WIDTH = ["scrollable-region-focusable", "target-size", "label", "button-name", "link-name"]
OPEN_ALL = "() => document.querySelectorAll('details').forEach((one) => { one.open = true; })"
LEAVE_TWO_ALIKE = """() => {
  const seen = {};
  for (const one of document.querySelectorAll("tr, li, article, option")) {
    const shape = one.outerHTML.replace(/>[^<]+</g, "><").replace(/ (?!class|type|role|hidden)[\\w-]+="[^"]*"/g, "");
    seen[shape] = (seen[shape] ?? 0) + 1;
    if (seen[shape] > 2) one.remove();
  }
}"""
"""Takes rows and entries away that differ from two others in their words alone: axe takes long for each element."""
FORM_FIELDS = "() => [...document.querySelectorAll('form:not([method=post]) [name]')].map((one) => one.name)"
NEEDS_SCRIPTS = """() => {
  const shown = (one) => one.checkVisibility({visibilityProperty: true});
  const all = (chosen) => [...document.querySelectorAll(chosen)].filter(shown);
  const wrong = all("button[type=button], a:not([href]), a[href='#'], main canvas");
  wrong.push(...all(".plot").filter((one) => !one.innerText.trim() && !one.querySelector("svg")));
  for (const form of document.forms)
    if (shown(form) && form.querySelector("input:not([type=hidden], [type=search]), select, textarea")
        && ![...form.elements].some((one) => one.type === "submit")) wrong.push(form);
  if (all("h1").length !== 1 || document.querySelector("main").innerText.length < 60) wrong.push(document.body);
  return wrong.map((one) => one.outerHTML.slice(0, 200));
}"""
"""Elements that do nothing, or show nothing, in a browser that runs no scripts."""

BROKEN_WITHOUT_SCRIPTS = """() => { document.querySelector("main").innerHTML = '<h1>A</h1>' +
  '<button type=button>b</button><a>c</a><form><input></form><div class=plot></div>'; }"""

FIND_FOREIGN = """(html) => {
  const page = html ? new DOMParser().parseFromString(html, "text/html") : document;
  const wrong = [...page.querySelectorAll("[data-xss], xss-probe, base, iframe, object, embed, main style")];
  for (const one of page.querySelectorAll("*"))
    for (const {name, value} of one.attributes)
      if (name.startsWith("on") || /^\\s*(javascript|vbscript):/i.test(value)) wrong.push(one);
  return [wrong.map((one) => one.outerHTML.slice(0, 200)), window.hacked ?? null,
    page.documentElement.textContent.split("data-xss").length - 1];
}"""
NO_TEXT = re.compile(r"<(a|h1|head|pre|script|select)\b.*?</\1>", re.DOTALL)
WORKER_NAME = re.compile("|".join(f">{volunteer}/{worker}<" for volunteer, worker in PEOPLE))
ABOUT_A_COMMIT = ("/experiments/{experiment_id}", "/findings/{finding_id}", "/runs/{run_id}")
"""Pages that are a commit's own, and show its sha."""

STRANGERS_OWN = ["/", "/join", "/sign-in"]
"""Pages with something that only strangers do."""

EXPERIMENTS = 40
"""Of the demo swarm: a browser takes longer for more, and sees nothing else."""

TAINTED_COLUMNS, PAGES_WITH_PAYLOADS = 40, 30
FITS = "() => document.documentElement.scrollWidth <= window.innerWidth"


class Demo(NamedTuple):
    """A demo swarm, and the things that its pages are about."""

    swarm: Swarm
    things: Things

    @property
    def url(self) -> str:
        return self.swarm.url


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with (
        serve_swarm(tmp_path_factory.mktemp("demo"), "/swarm") as swarm,
        httpx.Client(base_url=swarm.url, timeout=60) as http,
    ):
        yield Demo(swarm, DemoSwarm(swarm.database, http, EXPERIMENTS).things)


def sign_in(swarm: Swarm) -> Cookie:
    """The cookie of a maintainer who is signed in."""
    with swarm.database.write() as session:
        boss = find_or_add_volunteer(session, BOSS)
        secret = start_session(session, boss.id, TokenScope.DUTIES, "test")
    return {"name": COOKIE, "value": secret, "url": swarm.url}


@pytest.fixture
def open_tab(browser: BrowserContext) -> Iterator[OpenTab]:
    """Make a tab with cookies of its own."""
    contexts: list[BrowserContext] = []

    def make(*cookies: Cookie, scripts: bool = True) -> Page:
        assert browser.browser is not None
        context = browser.browser.new_context(java_script_enabled=scripts)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.add_cookies(list(cookies))
        return context.new_page()

    yield make
    for context in contexts:
        context.close()


def test_every_page_has_a_row_and_every_row_a_page(tmp_path: Path) -> None:
    app = create_app(CoordinatorSettings(database_url=f"sqlite:///{tmp_path}/none.db"))
    assert set(list_page_routes(app)) == set(PAGES)
    app.state.database.close()


def fits(page: Page) -> bool:
    """Whether nothing is wider than the window, once the plots are drawn."""
    with suppress(TimeoutError):
        return bool(page.wait_for_function(FITS))
    return False


def look_with_axe(page: Page, rules: list[str] | None = None) -> list[Any]:
    return [found for found in page.evaluate(RUN_AXE, [rules, MILD]) if found[1] in SERIOUS]


@pytest.mark.timeout(900)
def test_no_page_has_a_serious_finding_of_axe_or_leaves_the_prefix(open_tab: OpenTab, demo: Demo) -> None:
    """All rules on a wide page, those that depend on theme and width on a narrow one of the other theme.

    A maintainer sees all that a stranger sees, but for what only strangers do.
    """
    wrong: dict[str, Any] = {}
    outside: list[str] = []
    themes: list[Theme] = ["light", "dark"]
    for tab, routes in ((open_tab(sign_in(demo.swarm)), list(PAGES)), (open_tab(), STRANGERS_OWN)):
        tab.context.add_init_script(AXE_SCRIPT)
        tab.on("request", lambda sent: outside.append(sent.url) if not sent.url.startswith(f"{demo.url}/") else None)
        for route in routes:
            themes.reverse()
            for address in list_addresses(demo.things, [route]):
                tab.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
                tab.emulate_media(color_scheme=themes[0])
                answer = tab.goto(demo.url + address)
                assert answer is not None and answer.status == 200, address
                tab.evaluate(OPEN_ALL)
                assert fits(tab), address
                tab.evaluate(LEAVE_TWO_ALIKE)
                found = look_with_axe(tab, OF_THE_WIDTH + OF_THE_THEME)
                tab.emulate_media(color_scheme=themes[1])
                tab.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
                found += look_with_axe(tab)
                if found:
                    wrong[address] = found
    assert wrong == {}
    assert outside == []


def test_strangers_read_all_pages_but_those_of_people_who_are_signed_in(demo: Demo) -> None:
    with httpx.Client(base_url=demo.url, timeout=60, follow_redirects=True) as http:
        for route in PAGES:
            for address in list_addresses(demo.things, [route], first=True):
                answer = http.get(demo.url + address, headers={"Accept": "text/html"})
                assert answer.status_code == 200, address
                assert ("/sign-in" in str(answer.url)) == (route in NOT_PUBLIC or route == "/sign-in"), address
                text = NO_TEXT.sub(" ", answer.text)
                assert not WORKER_NAME.search(text), f"a machine's name without a link: {address}"
                assert text.count('<code title="') <= (route in ABOUT_A_COMMIT), f"a commit without a link: {address}"


def test_names_and_commits_lead_to_their_pages(demo: Demo) -> None:
    project, volunteer = demo.things.project, demo.things.volunteer
    with httpx.Client(base_url=demo.url, timeout=60) as http:
        experiment = http.get(f"{demo.url}/experiments/{demo.things.experiment_id}.json").json()
        for address, place in (
            (f"/projects/{project}/commits/{experiment['sha']}", f"/experiments/{experiment['id']}"),
            (f"/projects/{project}/commits/{experiment['sha'][:10]}", f"/experiments/{experiment['id']}"),
            (f"/volunteers/{volunteer}/{dict(PEOPLE)[volunteer]}", f"/workers/{demo.things.worker_id}"),
        ):
            answer = http.get(demo.url + address)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/swarm{place}")
        for address in (f"/projects/{project}/commits/{'0' * 40}", f"/volunteers/{volunteer}/none"):
            assert http.get(demo.url + address).status_code == 404


def test_without_scripts_every_page_shows_its_content_and_its_forms_work(open_tab: OpenTab, demo: Demo) -> None:
    tab = open_tab(sign_in(demo.swarm), scripts=False)
    wrong: dict[str, list[str]] = {}
    for address in list_addresses(demo.things, first=True):
        tab.goto(demo.url + address, wait_until="domcontentloaded")
        if found := tab.evaluate(NEEDS_SCRIPTS):
            wrong[address] = found
    assert wrong == {}
    tab.evaluate(BROKEN_WITHOUT_SCRIPTS)
    assert len(tab.evaluate(NEEDS_SCRIPTS)) == 5
    tab.goto(f"{demo.url}/projects/{demo.things.project}/experiments")
    tab.locator("select[name=verdict]").select_option("improved")
    tab.get_by_role("button", name="Show").click()
    shown = tab.locator("td.verdict").all_inner_texts()
    assert shown and all(verdict.startswith("improved") for verdict in shown)
    for chosen in tab.get_by_role("checkbox", name="Compare").all()[:2]:
        chosen.check()
    tab.get_by_role("button", name="Compare those chosen").click()
    expect(tab.get_by_text("2 experiments of")).to_be_visible()
    tab.goto(f"{demo.url}/admin/queue")
    tab.get_by_label("Reason", exact=True).last.fill("Somebody looks at it.")
    tab.get_by_role("button", name="Assign").click()
    expect(tab.locator(".message")).to_contain_text("Done: assign 1 thing")
    tab.get_by_role("link", name="Audit").click()
    row = tab.locator("table.audit tbody tr").first
    row.get_by_text("Undo", exact=True).click()
    row.get_by_label("Reason to undo").fill("Nobody does.")
    row.get_by_role("button", name="Undo").click()
    expect(tab.locator(".message")).to_contain_text("is undone")


def test_axe_finds_what_is_there_to_be_found(open_tab: OpenTab, demo: Demo) -> None:
    tab = open_tab()
    tab.context.add_init_script(AXE_SCRIPT)
    tab.goto(f"{demo.url}/problems")
    assert look_with_axe(tab) == []
    tab.evaluate("""document.querySelector("main").insertAdjacentHTML("beforeend",
        '<input><p style="color:#aaa;background:#fff">pale</p>')""")
    assert {"label", "color-contrast"} <= {name for name, *_ in look_with_axe(tab)}


def test_feeds_and_digests_name_addresses_below_the_path(demo: Demo) -> None:
    digests = f"{demo.url}/projects/{demo.things.project}/digests"
    for address in (f"{digests}.atom", f"{digests}/{demo.things.week}.md"):
        answer = httpx.get(address, timeout=60)
        named = re.findall(r"""(?:href=["']|href=&quot;|href=&#34;|]\()([^"')&]+)""", answer.text)
        assert answer.status_code == 200 and len(named) > 3, address
        assert [one for one in named if not one.startswith(f"{demo.url}/")] == []
        assert ("&lt;h2&gt;" if address.endswith("atom") else "\n## ") + "Records" in answer.text, "it has headings"


class Watch:
    """Records the actions of a tab that no text may cause."""

    def __init__(self, tab: Page, url: str) -> None:
        self.tab, self.url, self.complaints = tab, url, list[str]()
        tab.on("dialog", self._on_dialog)
        tab.on("pageerror", lambda error: self.complaints.append(f"{tab.url}: {error}"))
        tab.on("console", self._on_console)
        tab.on("request", lambda sent: None if sent.url.startswith(f"{url}/") else self._on_request(sent.url))

    def _on_dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"a dialog on {self.tab.url}: {dialog.message}")
        dialog.dismiss()

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "status of 4" not in message.text:  # pages of wrong addresses
            self.complaints.append(f"{self.tab.url}: {message.text}")

    def _on_request(self, url: str) -> None:
        self.complaints.append(f"{self.tab.url} asks {url}")

    def visit(self, address: str) -> int:
        """Look at a page; returns how many payloads it shows as text."""
        self.tab.goto(self.url + address)
        self.tab.evaluate(OPEN_ALL)
        return self.look()

    def look(self, page: httpx.Response | None = None) -> int:
        """Look at what the tab shows, or at a page that it only parses."""
        foreign, ran, shown = self.tab.evaluate(FIND_FOREIGN, page.text if page else None)
        self.complaints += [f"{page.url if page else self.tab.url}: {one}" for one in foreign]
        assert not ran, self.tab.url
        return int(shown)


def list_reflecting(
    http: httpx.Client, things: Things, fields: dict[str, set[str]], folder: Path
) -> Iterator[httpx.Response]:
    """Pages with a payload in their path, and in all parameters that take one or in all that refuse it.

    `fields` are the names in the forms of each page.
    """
    app = create_app(CoordinatorSettings(database_url=f"sqlite:///{folder}/none.db"))
    payloads = cycle(quote(payload, safe="") for payload in PAYLOADS)
    for route in app.routes:
        if not isinstance(route, APIRoute) or route.path not in PAGES:
            continue
        (address,) = list_addresses(things, [route.path], first=True)
        if "{" in route.path:
            yield http.get(re.sub(r"{\w+}", lambda _: next(payloads), route.path))
        names = set(fields[address])
        for field in get_flat_params(route.dependant):
            model = field.field_info.annotation
            if isinstance(model, type) and issubclass(model, BaseModel):
                names |= set(model.model_fields)
            elif f"{{{field.alias}}}" not in route.path:
                names.add(field.alias)
        by_status: dict[int, list[str]] = {}
        for pair in [f"{name}={next(payloads)}" for name in sorted(names)]:
            by_status.setdefault(http.get(f"{address}?{pair}").status_code, []).append(pair)
        assert max(by_status, default=200) < 500, (address, by_status)
        for pairs in by_status.values():
            yield http.get(f"{address}?{'&'.join(pairs)}")
    app.state.database.close()


def add_hostile(database: Database, title: str, code: str = "") -> int:
    """Store an experiment of a class of its own whose title or code is a payload; returns its id."""
    with database.write() as session:
        history = History(session, session.scalars(select(Project)).one(), hardware=EPYC)
        edit: Callable[[str], str] = lambda text: f"{text}# {uuid4()} {code}\n"  # noqa: E731
        root = history.project.root_sha
        return history.add_experiment(history.add_worker(), root, 2.5, make_proposal(title), edit=edit).id


@pytest.mark.timeout(900)
def test_no_text_that_is_stored_or_asked_for_becomes_markup(open_tab: OpenTab, tmp_path: Path) -> None:
    """Payloads in every text of every table, then on every page; and in every parameter that a page takes."""
    with serve_swarm(tmp_path, "") as swarm, httpx.Client(base_url=swarm.url, timeout=60) as http:
        made = DemoSwarm(swarm.database, http, EXPERIMENTS)
        with swarm.database.write() as session:
            changed = Hostile(session).spread()
        assert len(changed) >= TAINTED_COLUMNS, changed
        ids = [add_hostile(swarm.database, payload, payload) for payload in PAYLOADS]
        cookie = sign_in(swarm)
        http.cookies.set(cookie["name"], cookie["value"])
        tab = open_tab(cookie)
        watch = Watch(tab, swarm.url)
        addresses = [*list_addresses(made.things, first=True), *(f"/experiments/{number}" for number in ids)]
        addresses.append(f"/compare?ids={','.join(map(str, ids[:8]))}")
        shown: dict[str, int] = {}
        fields: dict[str, set[str]] = {}
        for address in addresses:
            shown[address] = watch.visit(address)
            fields[address] = set(tab.evaluate(FORM_FIELDS))
        assert sum(count > 0 for count in shown.values()) >= PAGES_WITH_PAYLOADS, shown
        http.headers["Accept"] = "text/html"
        for page in list_reflecting(http, made.things, fields, tmp_path):
            if page.is_error:  # its scripts are those of all pages
                watch.look(page)
            else:
                watch.visit(str(page.url).removeprefix(swarm.url))
        watch.visit(f"/projects/{made.project}?hardware_class={quote(EPYC.hardware_class)}")
        expect(tab.locator("#link-state")).to_have_text("live")
        add_hostile(swarm.database, f"LIVE {PAYLOADS[1]}")
        expect(tab.locator("#experiment-rows")).to_contain_text(f"LIVE {PAYLOADS[1]}")
        watch.look()
        tab.goto("about:blank")
    assert watch.complaints == []


def test_markup_that_is_not_ours_is_noticed(open_tab: OpenTab, demo: Demo) -> None:
    tab = open_tab()
    watch = Watch(tab, demo.url)
    for payload in PAYLOADS:
        watch.visit("/problems")
        assert watch.complaints == []
        for place in (payload, f'<p title="{payload}">', f"<p title='{payload}'>"):
            tab.evaluate("html => document.querySelector('main').insertAdjacentHTML('beforeend', html)", place)
        watch.look()
        assert watch.complaints, payload
        watch.complaints.clear()
