"""A project's list of experiments: filters, orders, pages and exports, of the page and of the API; and comparisons."""

import csv
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.experiments import listing
from coordinator.models import Experiment
from coordinator.projects.service import create_project
from shared.protocol import API_PREFIX
from tests.support.databases import ON_ONE_ENGINE
from tests.support.seeds import write_seed
from tests.support.swarm_data import HOSTILE_TITLE, EarlierHistory

NAME, EXPERIMENTS = "tiny", 40


@pytest.fixture
def earlier() -> EarlierHistory:
    """A project with forty varied experiments."""
    return EarlierHistory(EXPERIMENTS)


def ask(http: TestClient, **params: Any) -> list[dict[str, Any]]:
    """All pages of a list of the API."""
    found: list[dict[str, Any]] = []
    given = {"project": NAME, "limit": 15, **params}
    while True:
        answer = http.get(f"{API_PREFIX}/experiments", params=given)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["next_cursor"] is None:
            return found
        given["cursor"] = answer.json()["next_cursor"]


def ids(found: list[dict[str, Any]]) -> list[int]:
    return [one["id"] for one in found]


@pytest.mark.parametrize("is_walked", [True, False], ids=["in parts", "whole"])
def test_each_filter_lets_through_what_it_names(
    http: TestClient, monkeypatch: pytest.MonkeyPatch, is_walked: bool
) -> None:
    every = ask(http)
    assert len(every) == EXPERIMENTS and ids(every) == sorted(ids(every), reverse=True)
    if is_walked:
        monkeypatch.setattr(listing, "FEW", -1)
        monkeypatch.setattr(listing, "EXAMINED", (2, 12))  # pages that end before their last row go on
    fields = {"verdict", "standing"}
    for field, api_name in (
        ("verdict", "verdict"), ("standing", "standing"), ("kind", "kind"), ("branch", "branch"),
        ("hardware_class", "hardware_class"), ("axis", "axis"),
    ):  # fmt: skip

        def read(one: dict[str, Any], field: str = field) -> Any:
            return (one["posterior"] or {}).get(field) if field in fields else one[field]

        for value in {read(one) for one in every} - {None, ""}:
            fitting = [one["id"] for one in every if read(one) == value]
            if field == "axis":
                assert set(fitting) <= set(ids(ask(http, axis=value)))
            else:
                assert ids(ask(http, **{api_name: value})) == fitting, (field, value)
    for failed in (True, False):
        fitting = [one["id"] for one in every if (one["outcome"] != "ok") is failed]
        assert fitting and ids(ask(http, failed=failed)) == fitting
    assert ids(ask(http, text="<SCRIPT>")) == [33, 19, 7], "which have it in title or claim"
    assert ask(http, text="100 %{x}") and not ask(http, text="%%")
    assert ask(http, volunteer="nobody") == [] and ask(http, branch="nowhere") == []
    middle = every[20]["done_at"]
    assert ids(ask(http, since=middle)) == [one["id"] for one in every if one["done_at"] >= middle]
    assert ids(ask(http, until=middle, ascending=True)) == [one["id"] for one in every[::-1] if one["done_at"] < middle]
    assert ask(http, since="2090-01-01T00:00:00Z") == []


@pytest.mark.parametrize("sort", ["effect", "metric"])
def test_orders_by_numbers_are_whole_both_ways(http: TestClient, sort: str) -> None:
    every = ask(http)
    main = max({one["hardware_class"] for one in every}, key=[one["hardware_class"] for one in every].count)
    numbered = {
        one["id"]: one["posterior"][f"{sort}_mean"]
        for one in every
        if one["hardware_class"] == main and one["posterior"] and one["posterior"][f"{sort}_mean"] is not None
    }
    down = ask(http, sort=sort)
    assert [numbered[one] for one in ids(down)] == sorted(numbered.values(), reverse=True)
    assert ids(ask(http, sort=sort, ascending=True, hardware_class=main)) == ids(down)[::-1]
    some = sorted(numbered.values())[len(numbered) // 2]
    if sort == "effect":
        above = ids(ask(http, sort=sort, effect_above=some))
        assert above == [one for one in ids(down) if numbered[one] >= some]
        below = ids(ask(http, effect_below=some, hardware_class=main))
        assert set(below) == {one for one in numbered if numbered[one] <= some}


@ON_ONE_ENGINE
def test_a_cursor_of_another_order_is_refused(http: TestClient) -> None:
    given = {"project": NAME, "limit": 3}
    cursor = http.get(f"{API_PREFIX}/experiments", params=given).json()["next_cursor"]
    answer = http.get(f"{API_PREFIX}/experiments", params={**given, "sort": "metric", "cursor": cursor})
    assert answer.status_code == 422 and answer.json()["type"].endswith("/cursor-invalid")
    assert http.get(f"{API_PREFIX}/experiments", params={**given, "of_tomorrow": "x"}).status_code == 422


@ON_ONE_ENGINE
def test_the_page_keeps_its_view_and_exports_exactly_it(http: TestClient) -> None:
    address = f"/projects/{NAME}/experiments"
    empty = "text=&verdict=&standing=&kind=&volunteer=&effect_above=&since=2026-01-01&until="
    page = http.get(f"{address}?{empty}&failed=false")
    assert page.status_code == 200 and HOSTILE_TITLE not in page.text
    shown = [int(one) for one in re.findall(r'name="ids" value="(\d+)"', page.text)]
    assert shown == ids(ask(http, failed=False, since="2026-01-01T00:00:00Z"))[:50] and shown
    exports = dict(re.findall(r'<a href="([^"]+)">(CSV|JSON)</a>', page.text))
    for link, form in exports.items():
        answer = http.get(link.replace("&amp;", "&"))
        if form == "JSON":
            assert ids(answer.json()) == shown
        else:
            rows = list(csv.DictReader(StringIO(answer.text)))
            assert [int(row["id"]) for row in rows] == shown
            assert not any(row["title"].startswith(("=", "+", "@")) for row in rows)
    assert len(exports) == 2
    assert http.get(f"{address}.json?text=nothing-like-this").json() == []
    assert "No experiment fits these filters" in http.get(f"{address}?text=nothing-like-this").text
    by_effect = http.get(f"{address}?sort=effect&ascending=true").text
    assert 'aria-sort="ascending"' in by_effect and "lowest first, among those measured in" in by_effect
    assert http.get(f"{address}?verdict=great", headers={"Accept": "text/html"}).status_code == 422
    assert http.get("/projects/none/experiments.csv").status_code == 404


@ON_ONE_ENGINE
def test_a_project_without_experiments(http: TestClient, database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        create_project(session, write_seed(tmp_path / "empty", "empty"))
    assert "There is no experiment yet" in http.get("/projects/empty/experiments").text
    assert "no class yet" in http.get("/projects/empty/experiments?sort=metric").text


@ON_ONE_ENGINE
def test_experiments_side_by_side(http: TestClient, database: Database) -> None:
    found = [one for one in ask(http) if one["posterior"]][:3]
    chosen = ids(found)
    with database.write() as session:
        for number, experiment in enumerate(session.scalars(select(Experiment).where(Experiment.id.in_(chosen)))):
            experiment.settings = {"RATE_A": number, "RATE_B": 8}
    by_form = http.get("/compare", params={"ids": chosen}, follow_redirects=False)
    address = "/compare?ids=" + ",".join(map(str, chosen))
    assert by_form.status_code == 303 and by_form.headers["location"] == address
    text = http.get(address).text
    assert text.count("<svg") >= len([one for one in found if one["posterior"]["effect_mean"] is not None])
    assert "<bdi>RATE_A</bdi>" in text and "RATE_B" not in text, "only what differs"
    assert f"from #{chosen[0]} to #{chosen[1]}" in text and 'class="line head"' in text
    text = http.get(f"{address}&a={chosen[2]}&b={chosen[2]}").text
    assert "Their files are the same" in text


@ON_ONE_ENGINE
def test_a_choice_that_cannot_be_compared(http: TestClient) -> None:
    for given in ("1", "1,1", "1,x", "1,-2", "1,²", "1," + "9" * 30, "1,2,3,4,5,6,7,8,9"):
        assert http.get(f"/compare?ids={given}").status_code == 422, given
    assert http.get("/compare?ids=1,99999").status_code == 404
    assert 'name="ids"' in http.get("/compare").text, "one may name them"


@ON_ONE_ENGINE
def test_columns_are_chosen_in_the_address_and_kept_by_orders_and_exports(http: TestClient) -> None:
    usual = http.get(f"/projects/{NAME}/experiments").text
    assert 'value="kind" checked' in usual and 'value="class" checked' not in usual
    page = http.get(f"/projects/{NAME}/experiments?columns=metric&columns=class,runs&columns=nonsense").text
    heads = re.findall(r'<th scope="col"[^>]*>(?:<a[^>]*>)?([^<]+)', page)
    assert [head.strip() for head in heads] == ["#", "Tried", "val_bpb", "Hardware class", "Runs"]
    assert 'value="class" checked' in page and 'value="kind" checked' not in page
    links = [link for link in re.findall(r'href="([^"]+)"', page) if "sort=metric" in link or "cursor=" in link]
    assert links and all("columns=metric%2Cclass%2Cruns" in link for link in links)


@ON_ONE_ENGINE
def test_a_file_holds_exactly_the_view(http: TestClient) -> None:
    address = f"/projects/{NAME}/experiments"
    tried = ["id", "title", "axis", "value", "quarantine"]
    for query, fields in (
        ("?columns=metric,class", ["metric_mean", "metric_sd", "runs", "hardware_class"]),
        ("?columns=axis,value,verdict,runs&sort=effect&ascending=true", ["verdict", "standing", "outcome", "runs"]),
        ("?failed=true&columns=commit,verdict", ["verdict", "standing", "outcome", "sha"]),
        ("", ["kind", "parent_id", "metric_mean", "metric_sd", "runs", "effect_mean", "effect_sd", "verdict",
              "standing", "outcome", "branch", "worker", "done_at"]),
    ):  # fmt: skip
        page = http.get(address + query).text
        links = dict(re.findall(r'<a href="([^"]+)">(CSV|JSON)</a>', page))
        by_form = {form: http.get(link.replace("&amp;", "&")) for link, form in links.items()}
        rows = list(csv.DictReader(StringIO(by_form["CSV"].text)))
        objects = by_form["JSON"].json()
        assert list(rows[0]) == list(objects[0]) == tried + [name for name in fields if name not in tried], query
        shown = [int(number) for number in re.findall(r'name="ids" value="(\d+)"', page)]
        assert [int(row["id"]) for row in rows] == [one["id"] for one in objects]
        assert ids(objects)[: len(shown)] == shown and len(shown) == min(50, len(objects)), query


@ON_ONE_ENGINE
def test_findings_have_their_effect_as_a_small_picture_on_one_scale(http: TestClient) -> None:
    page = http.get(f"/findings?project={NAME}").text
    zeros = re.findall(r'class="zero" x1="([\d.]+)"', page)
    assert len(zeros) > 20 and len(set(zeros)) == 1
    assert page.count("small-interval") == len(zeros) and "cpu · 2 cores" in page


@ON_ONE_ENGINE
def test_a_row_of_the_list_is_small(http: TestClient) -> None:
    rows = re.findall(r"<tr>\s*<td><input.*?</tr>", http.get(f"/projects/{NAME}/experiments").text, re.DOTALL)
    assert len(rows) == EXPERIMENTS and sum(map(len, rows)) < 850 * len(rows), "50 of them with long titles: 52 KiB"
