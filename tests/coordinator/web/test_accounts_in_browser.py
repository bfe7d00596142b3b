"""Joining, tokens, signing out and in, and the keys, in a real browser."""

import re

from playwright.sync_api import Page, expect

from coordinator.accounts.service import find_or_add_volunteer
from coordinator.accounts.sessions import start_session
from coordinator.web.sessions import COOKIE
from shared.workers import Role, TokenScope
from tests.coordinator.web.conftest import Swarm

PASSWORD = "correct horse battery"

UNNAMED = """() => [...document.querySelectorAll('input:not([type=hidden]):not([hidden]), select, textarea, button')]
  .filter((field) => field.checkVisibility())
  .filter((field) => !(field.labels?.length || field.getAttribute('aria-label') || field.textContent.trim()))
  .map((field) => field.outerHTML)"""
REPEATED = """() => { const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
  return ids.filter((id, at) => ids.indexOf(id) !== at); }"""
SIDEWAYS = "() => document.documentElement.scrollWidth - window.innerWidth"


def check_page(page: Page) -> None:
    """Check that a page serves those who cannot see it, and phones."""
    assert page.evaluate(UNNAMED) == [], page.url
    assert page.evaluate(REPEATED) == [], page.url
    assert page.locator("h1").count() == 1 and page.locator("main").count() == 1, page.url
    size = page.viewport_size
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate(SIDEWAYS) <= 0, page.url
    assert size is not None
    page.set_viewport_size(size)


def test_somebody_joins_makes_a_token_signs_out_and_in_again(page: Page, swarm: Swarm) -> None:
    page.goto(f"{swarm.url}/experiments/8")
    page.get_by_role("link", name="Sign in").click()
    check_page(page)
    page.get_by_role("link", name="Join").click()
    check_page(page)
    page.locator("#name").fill("margaret")
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Join").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Welcome, margaret")
    expect(page.locator("#new-token")).to_contain_text("swt_")
    check_page(page)

    page.get_by_role("link", name="margaret").click()
    page.get_by_label("A new one for").fill("the cellar")
    page.get_by_role("button", name="Make a token").click()
    expect(page.locator("#new-token")).to_contain_text("swt_")
    page.goto(f"{swarm.url}/me")
    expect(page.locator("#new-token")).to_have_count(0)
    check_page(page)
    page.get_by_role("button", name="Revoke the token for the cellar").click()
    expect(page.get_by_role("status").filter(has_text="is revoked")).to_be_visible()

    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="signed out")).to_be_visible()
    page.goto(f"{swarm.url}/me")
    expect(page).to_have_url(re.compile("/sign-in"))
    page.locator("#name").fill("margaret")
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").first.click()
    expect(page).to_have_url(f"{swarm.url}/me")
    expect(page.get_by_role("heading", level=1)).to_have_text("margaret")
    page.context.clear_cookies()


def test_keys_go_to_the_search_and_list_themselves(page: Page, swarm: Swarm) -> None:
    page.goto(f"{swarm.url}/docs")
    page.keyboard.press("/")
    search = page.get_by_role("searchbox")
    expect(search).to_be_focused()
    page.keyboard.type("what? a/b")
    expect(search).to_have_value("what? a/b")
    page.keyboard.press("Tab")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_accounts_are_found_while_one_types(page: Page, swarm: Swarm) -> None:
    """With htmx: the page is not loaded again, its address says what it shows, and no policy is broken."""
    with swarm.database.write() as session:
        boss = find_or_add_volunteer(session, "boss")
        boss.role = Role.MAINTAINER
        find_or_add_volunteer(session, "rosalind")
        secret = start_session(session, boss.id, TokenScope.DUTIES, "test")
    page.context.add_cookies([{"name": COOKIE, "value": secret, "url": swarm.url}])
    page.goto(f"{swarm.url}/admin/accounts")
    check_page(page)
    expect(page.get_by_role("link", name="ada")).to_be_visible()
    page.evaluate("window.sameDocument = true")
    page.locator("#name").press_sequentially("rosa")
    expect(page.get_by_role("link", name="ada")).to_have_count(0)
    expect(page.get_by_role("link", name="rosalind")).to_be_visible()
    expect(page).to_have_url(f"{swarm.url}/admin/accounts?name=rosa")
    assert page.evaluate("window.sameDocument") is True
    page.get_by_role("link", name="rosalind").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("rosalind")
    check_page(page)
    page.context.clear_cookies()


def test_filters_of_a_list_are_in_its_address_and_back_takes_them_back(page: Page, swarm: Swarm) -> None:
    address = f"{swarm.url}/projects/tiny/experiments"
    page.goto(address)
    verdicts, verdict, failed = (
        page.locator("td.verdict"),
        page.locator("select[name=verdict]"),
        page.locator("[name=failed]"),
    )
    count = verdicts.count()
    verdict.select_option("worse")
    expect(page).to_have_url(f"{address}?verdict=worse")
    expect(verdicts.filter(has_not_text="worse")).to_have_count(0)  # the address changes a moment before the table
    shown = verdicts.all_inner_texts()
    assert {*shown} == {"worse"}
    file = page.get_by_role("link", name="CSV").get_attribute("href")
    assert file == "/swarm/projects/tiny/experiments.csv?verdict=worse"
    check_page(page)
    assert not failed.is_visible(), "what is rarely asked is folded"
    page.get_by_text("More filters").click()
    failed.select_option("true")
    expect(page).to_have_url(f"{address}?verdict=worse&failed=true")
    expect(page.get_by_text("No experiment fits these filters.")).to_be_visible()
    page.go_back()
    expect(verdicts).to_have_count(len(shown))
    expect(failed).to_have_value("")
    page.go_back()
    expect(verdicts).to_have_count(count)
    expect(verdict).to_have_value("")
    page.locator("details.more").evaluate("one => { one.open = true; }")
    page.locator("[name=axis]").fill("none of them")
    page.locator("[name=axis]").press("Enter")
    expect(page).to_have_url(f"{address}?axis=none%20of%20them")
    expect(page.get_by_text("No experiment fits these filters.")).to_be_visible()
    page.get_by_text("Columns").click()
    page.locator("[name=columns][value=age]").uncheck()
    expect(page).to_have_url(re.compile("axis=none.*columns=kind"))
