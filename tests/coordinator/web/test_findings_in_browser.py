"""The pages of findings and topics in a real browser: they fit wide and narrow screens, and are accessible."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.coordinator.web.conftest import Swarm

PAGES = {
    "/findings/8": "One run; see the numbers.",
    "/findings/7": "<script>window.hacked=1</script>",
    "/findings?project=tiny": "Findings",
    "/findings?project=tiny&q=weight+decay": "Findings",
    "/projects/tiny/topics": "Topics",
    "/topics/tiny/weight-decay": "WEIGHT_DECAY",
}
"""Addresses, and what their heading begins with."""

FAULTS = """() => {
  const faults = [];
  const say = (what, element) => faults.push(`${what}: ${element.outerHTML.slice(0, 120)}`);
  const name = (element) => (element.textContent + (element.getAttribute("aria-label") ?? "")).trim();
  if (!document.documentElement.lang) faults.push("the page has no language");
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one main heading");
  if (document.querySelectorAll("main").length !== 1) faults.push("not one main part");
  for (const one of document.querySelectorAll("a, button")) if (!name(one)) say("nameless", one);
  for (const one of document.querySelectorAll("input:not([type=hidden]), select"))
    if (!one.labels.length && !one.getAttribute("aria-label")) say("without a label", one);
  for (const one of document.querySelectorAll("img:not([alt])")) say("without a text", one);
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const one of ids) if (ids.indexOf(one) !== ids.lastIndexOf(one)) faults.push(`twice: ${one}`);
  for (const attribute of ["aria-labelledby", "aria-describedby"])
    for (const one of document.querySelectorAll(`[${attribute}]`))
      for (const id of one.getAttribute(attribute).split(" "))
        if (!document.getElementById(id)) say("refers to nothing", one);
  for (const one of document.querySelectorAll("table"))
    if (!one.querySelector("th[scope]")) say("without headings", one);
  return faults;
}"""
"""Script that finds barriers for readers with a screen reader or a keyboard."""


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_of_findings_fit_and_can_be_read_by_all(page: Page, swarm: Swarm, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    for path, heading in PAGES.items():
        page.goto(swarm.url + path)
        expect(page.locator("h1")).to_contain_text(heading)
        if page.locator(".plot").count():
            page.wait_for_selector(".plot .u-over")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate(FAULTS) == [], path
    assert page.evaluate("window.hacked") is None


def test_a_reader_comes_from_the_search_to_the_paper_and_its_topic(page: Page, swarm: Swarm) -> None:
    page.goto(f"{swarm.url}/findings?project=tiny")
    page.get_by_label("Search for").fill("weight decay")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{swarm.url}/findings?project=tiny&q=weight+decay")
    page.locator(".found .claim a").first.click()
    expect(page.locator("#loss-plot")).to_have_attribute("data-curves", re.compile(r"[23]"))
    names = page.locator("#loss-plot .u-series .u-label").all_inner_texts()
    assert names[1].startswith("parent") and names[2].startswith("run")
    page.locator("#finding a[href*='/topics/']").first.click()
    expect(page.locator("h2")).to_contain_text([" by value", "Effects"])
    assert page.locator(".effects tbody tr.pool").count() >= 1
