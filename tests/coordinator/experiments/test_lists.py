"""Lists of the API beside that of experiments: filters, orders, pages; and what is refused."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from itertools import combinations
from operator import itemgetter
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from coordinator.db.database import Database
from coordinator.experiments import listing
from coordinator.models import Commit, CommitPosterior, Experiment, Run, Worker
from coordinator.records import service as records
from shared.protocol import API_PREFIX
from tests.support.databases import ON_ONE_ENGINE
from tests.support.swarm_data import EarlierHistory

NAME, EXPERIMENTS = "tiny", 40
Json = dict[str, Any]


@pytest.fixture
def earlier() -> EarlierHistory:
    """A project with forty varied experiments, and another without any."""
    return EarlierHistory(EXPERIMENTS, others=("empty",))


def read(http: TestClient, path: str, **params: Any) -> list[Json]:
    """All pages of a list."""
    found: list[Json] = []
    given = {"project": NAME, "limit": 15} | params
    while True:
        answer = http.get(f"{API_PREFIX}{path}", params={name: one for name, one in given.items() if one is not None})
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["next_cursor"] is None:
            return found
        given["cursor"] = answer.json()["next_cursor"]


def ids(found: list[Json]) -> list[int]:
    return [one["id"] for one in found]


@pytest.fixture(params=[True, False], ids=["in parts", "whole"])
def is_walked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether lists are walked along their order, a few rows at a time, or what fits one filter is sorted."""
    if request.param:
        monkeypatch.setattr(listing, "FEW", -1)
        monkeypatch.setattr(listing, "EXAMINED", (3, 12))
    yield request.param


def test_findings_and_runs_are_filtered_as_experiments_are(http: TestClient, is_walked: bool) -> None:
    findings, runs, experiments = (read(http, path) for path in ("/findings", "/runs", "/experiments"))
    assert len(findings) == EXPERIMENTS and ids(findings) == sorted(ids(findings), reverse=True)
    by_id = {one["id"]: one for one in experiments}
    for name, value in (
        ("verdict", "worse"), ("standing", "provisional"), ("kind", "improve"), ("worker", "w1"),
        ("volunteer", "ada"), ("has_code", True), ("failed", True), ("axis", "DEPTH"), ("failure", "crashed"),
        ("effect_below", -0.005), ("metric_above", 3.4), ("text", "warmup"), ("since", experiments[20]["done_at"]),
    ):  # fmt: skip
        wanted = ids(read(http, "/experiments", **{name: value}))
        found = read(http, "/findings", **{name: value})
        assert [one["experiment_id"] for one in found] == wanted, name
        if name not in ("kind", "worker", "volunteer", "failed", "since", "metric_above"):  # a run has its own
            of_runs = read(http, "/runs", **{name: value})
            assert {one["experiment_id"] for one in of_runs} - {None} == set(wanted) or name == "has_code", name
    assert ids(read(http, "/runs", outcome="crashed")) == [one["id"] for one in runs if one["outcome"] == "crashed"]
    assert ids(read(http, "/runs", worker="ada/w1")) == [one["id"] for one in runs if one["worker"] == "ada/w1"]
    assert ids(read(http, "/runs", kind="replicate")) == [one["id"] for one in runs if one["kind"] == "replicate"]
    numbers = [one["experiment_id"] for one in runs if one["experiment_id"]][:2]
    assert {one["experiment_id"] for one in read(http, "/runs", experiment=numbers)} == set(numbers)
    assert ids(read(http, "/runs", sort="done", ascending=True)) == [
        one["id"] for one in sorted(runs, key=lambda one: (one["finished_at"], one["id"]))
    ]
    assert by_id.keys() == {one["experiment_id"] for one in findings}


def test_words_are_looked_up_in_claim_title_axis_and_value(http: TestClient, is_walked: bool) -> None:
    every = read(http, "/experiments")
    of_axis = {
        axis: [one["id"] for one in every if axis in f"{one['title']} {one['axis']}"]
        for axis in ("LEARNING_RATE", "WEIGHT_DECAY", "WARMUP_STEPS", "MLP_RATIO")
    }
    for words, axis in (
        ("weight decay", "WEIGHT_DECAY"), ("WEIGHT_DECAY", "WEIGHT_DECAY"), ("decay wei", "WEIGHT_DECAY"),
        ("warm", "WARMUP_STEPS"), ("learning rates", "LEARNING_RATE"), ("Mlp", "MLP_RATIO"),
    ):  # fmt: skip
        assert ids(read(http, "/experiments", text=words)) == of_axis[axis] != [], words
    one = next(one for one in every if one["axis"] == "WEIGHT_DECAY")
    assert ids(read(http, "/experiments", text=f"weight {one['value']}")) == [one["id"]], "a number is whole"
    assert read(http, "/experiments", text="") == every
    for nothing in ("zebra", "weight zebra", "%", '" OR head : *', "eight"):
        assert read(http, "/experiments", text=nothing) == [] == read(http, "/runs", text=nothing), nothing


def test_a_worker_is_found_by_its_own_name_and_by_the_one_that_lists_show(http: TestClient, database: Database) -> None:
    with database.write() as session:
        session.execute(update(Worker).where(Worker.name == "w1").values(name="rack/2"))
    for path in ("/experiments", "/runs"):
        wanted = [one for one in read(http, path) if one["worker"] == "ada/rack/2"]
        for name in ("rack/2", "ada/rack/2"):
            assert read(http, path, worker=name) == wanted != [], name


def test_a_cursor_leads_on_in_its_own_order_only(http: TestClient) -> None:
    """Four kinds: by number, by date and number, by value and number, by value and commit."""
    lists = {"newest": "/runs", "done": "/runs", "peak_memory_mib": "/runs", "metric": "/experiments"}
    given = {sort: {"project": NAME, "limit": 1, "sort": sort} for sort in lists}
    ends = {sort: http.get(f"{API_PREFIX}{lists[sort]}", params=given[sort]).json()["next_cursor"] for sort in lists}
    assert None not in ends.values()
    branches, topics = f"/projects/{NAME}/branches", {"project": NAME, "sort": "experiments"}
    for kind, path, params in (
        *((sort, lists[sort], given[sort]) for sort in lists), ("peak_memory_mib", "/topics", topics),
        ("peak_memory_mib", branches, {}), ("newest", "/topics", {"project": NAME}),
    ):  # fmt: skip
        for of, cursor in ends.items():
            answer = http.get(f"{API_PREFIX}{path}", params=params | {"cursor": cursor})
            assert answer.status_code == (200 if of == kind else 422), (kind, path, of, answer.text)
    for sort, end in (("peak_memory_mib", "at:0x1p+900:5"), ("newest", f"before:{'9' * 18}")):
        cursor = urlsafe_b64encode(end.encode()).decode()
        assert http.get(f"{API_PREFIX}/runs", params=given[sort] | {"cursor": cursor}).status_code == 422, end


def test_runs_are_sorted_by_each_of_their_numbers(http: TestClient, database: Database, is_walked: bool) -> None:
    with database.write() as session:
        for run in session.scalars(select(Run).where(Run.id % 3 == 1)):
            run.metrics, run.peak_memory_mib, run.steps = {"acc": run.id % 7 / 8}, 2**40 + run.id % 5, None
    runs = read(http, "/runs")
    for name in ("metric", "peak_memory_mib", "steps", "acc", "training_seconds"):
        read_value = {
            "acc": lambda one: (one["metrics"] or {}).get("acc"),
            "training_seconds": lambda one: one["seconds"] and one["seconds"]["training"],
        }.get(name, itemgetter(name))
        having = sorted((read_value(one), one["id"]) for one in runs if read_value(one) is not None)
        assert len(having) > 9, name
        for ascending in (True, False):
            found = ids(read(http, "/runs", sort=name, ascending=ascending))
            assert found == [number for _, number in (having if ascending else having[::-1])], (name, ascending)
    best = read(http, "/runs", sort="metric", ascending=True, worker="ada/w1", until="2090-01-01")
    assert [one["metric"] for one in best] == sorted(one["metric"] for one in best) and len(best) > 3
    for wrong, meant in (("metrc", "Did you mean metric?"), ("ac", "Did you mean acc?"), ("zebra", "peak_memory_mib")):
        answer = http.get(f"{API_PREFIX}/runs", params={"project": NAME, "sort": wrong})
        assert answer.status_code == 422 and meant in answer.json()["detail"], answer.text
    assert http.get(f"{API_PREFIX}/runs", params={"project": "empty", "sort": "acc"}).status_code == 422


def test_projects_branches_topics_and_records_are_filtered_by_their_experiments(
    http: TestClient, is_walked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [one["name"] for one in read(http, "/projects", project=None, axis="DEPTH")] == [NAME]
    assert read(http, "/projects", project=None, kind="ablate") == []
    assert read(http, "/projects", project=None, until="2020-01-01") == []
    assert len(read(http, "/projects", project=None, since="2020-01-01")) == 2
    branches = f"/projects/{NAME}/branches"
    for asked in ({"verdict": "worse", "volunteer": "ada"}, {"has_code": True}, {"effect_below": -0.005}):
        assert [one["name"] for one in read(http, branches, project=None, **asked)] == ["baseline"], asked
    assert read(http, branches, project=None, volunteer="nobody") == []
    assert read(http, branches, project=None, failure="invalid", text="base") == []
    for asked in ({"verdict": "worse"}, {"volunteer": "ada", "failed": True}, {"axis": "DEPTH", "kind": "improve"}):
        having = {one["axis"] for one in read(http, "/experiments", **asked)}
        assert {one["axis"] for one in read(http, "/topics", **asked)} == having != set(), asked
    assert read(http, "/topics", verdict="worse", text="depth", volunteer="nobody") == []
    monkeypatch.setattr(listing, "MAX_EXAMINED", 0)
    for path, given in ((branches, {"project": None}), ("/topics", {})):
        assert bool(read(http, path, verdict="worse", **given)) == (not is_walked), "no more are looked at"
    (record,) = read(http, "/records", limit=None)
    leader = http.get(f"{API_PREFIX}/experiments/{record['leader']['experiment_id']}").json()
    fits = {"axis": leader["axis"], "kind": "improve", "worker": leader["worker"], "has_code": True}
    assert read(http, "/records", limit=None, **fits) == [record] == read(http, "/records", limit=None, sort="done")
    other = next(one["axis"] for one in read(http, "/experiments") if one["axis"] != leader["axis"])
    assert read(http, "/records", limit=None, axis=other) == []
    assert read(http, "/records", limit=None, since="2090-01-01") == []
    monkeypatch.setattr(records, "MAX_RECORDS", 0)
    assert read(http, "/records", limit=None) == []


def test_an_export_has_the_filters_of_lists(http: TestClient) -> None:
    wanted = set(ids(read(http, "/experiments", verdict="worse")))
    address = f"{API_PREFIX}/projects/{NAME}/export"
    for table, key in (("experiments", "id"), ("findings", "experiment_id"), ("runs", "experiment_id")):
        text = http.get(f"{address}/{table}.jsonl", params={"verdict": "worse"}).text
        assert {json.loads(line)[key] for line in text.splitlines()} == wanted != set(), table
        assert http.get(f"{address}/{table}.csv", params={"verdict": "worse", "text": "zebra"}).text.count("\n") == 1
    assert http.get(f"{address}/promotions.jsonl", params={"verdict": "worse"}).status_code == 422
    assert http.get(f"{address}/runs.jsonl", params={"verdit": "worse"}).status_code == 422


def test_the_ten_best_are_one_request(http: TestClient, database: Database, is_walked: bool) -> None:
    every = [one for one in read(http, "/experiments") if one["posterior"]]
    best = sorted(every, key=lambda one: (one["posterior"]["metric_mean"], one["sha"]))
    with database.write() as session:  # the very best waits for a maintainer
        held = session.query(CommitPosterior).filter_by(commit_sha=best[0]["sha"]).one()
        held.standing = "held"
    for path in ("/experiments", "/findings"):
        answer = http.get(f"{API_PREFIX}{path}", params={"project": NAME, "sort": "best", "limit": 10}).json()
        key = "id" if path == "/experiments" else "experiment_id"
        if not is_walked:
            assert [one[key] for one in answer["items"]] == ids(best)[1:11]
        whole = read(http, path, sort="best")
        assert [one[key] for one in whole] == ids(best)[1:]
        assert [one[key] for one in read(http, path, sort="best", ascending=True)] == ids(best)[:0:-1]
    worst = read(http, "/findings", sort="effect", verdict="worse")
    effects = [one["posterior"]["effect_mean"] for one in worst]
    assert effects == sorted(effects, reverse=True) and len(effects) > 3


def test_dates_are_those_of_what_happened(http: TestClient, database: Database) -> None:
    """Not of the import; what has no date is in no range of dates."""
    with database.write() as session:
        first, second = session.get_one(Experiment, 1), session.get_one(Experiment, 2)
        first.done_at = first.done_at.replace(year=2020) if first.done_at else None
        second.done_at = None
    for path, key in (("/experiments", "id"), ("/findings", "experiment_id")):
        assert [one[key] for one in read(http, path, until="2021-01-01T00:00:00Z")] == [1]
        assert {one[key] for one in read(http, path, since="2021-01-01T00:00:00Z")} == set(range(3, EXPERIMENTS + 1))
        assert [one[key] for one in read(http, path, sort="done")][-1] == 1


@ON_ONE_ENGINE
def test_lists_have_several_metrics(http: TestClient) -> None:
    runs = {one["experiment_id"]: one for one in read(http, "/runs", ascending=True) if one["kind"] == "improve"}
    for one in read(http, "/experiments"):
        run = runs[one["id"]]
        assert one["metrics"]["training_seconds"] == run["seconds"]["training"]
        assert one["metrics"].get("peak_memory_mib", 0) == run["peak_memory_mib"]


def test_curves_come_in_bulk(http: TestClient) -> None:
    runs = {one["id"]: one for one in read(http, "/runs")}
    curves = read(http, "/curves", points=10)
    assert [one["run_id"] for one in curves] == list(runs)
    for one in curves:
        whole = runs[one["run_id"]]["curve"]
        assert len(one["step"]) == len(one["loss"]) == len(one["seconds"]) <= 10
        assert not whole or (one["loss"][0] == whole[0]["loss"] and one["step"][-1] == whole[-1]["step"])
    (exact,) = read(http, "/curves", points=500, experiment=1)[:1]
    assert exact["loss"] == [point["loss"] for point in runs[exact["run_id"]]["curve"]]


def test_short_lists_are_filtered_and_sorted_both_ways(http: TestClient) -> None:
    topics = read(http, "/topics", sort="experiments", limit=2)
    counts = [one["experiments"] for one in topics]
    assert counts == sorted(counts, reverse=True) and len({one["slug"] for one in topics}) == len(topics) > 4
    assert read(http, "/topics", sort="experiments", limit=2, ascending=True) == topics[::-1]
    assert {one["axis"] for one in read(http, "/topics", text="depth")} == {"DEPTH"}
    dates = [one["newest_at"] for one in read(http, "/topics", sort="done", limit=2)]
    assert dates == sorted(dates, reverse=True) and len(dates) == len(topics)
    assert read(http, "/topics", since=dates[0]) == read(http, "/topics", sort="done", limit=1)[:1]
    page = http.get(f"/projects/{NAME}/topics", params={"text": "depth", "sort": "experiments"}).text
    assert "DEPTH" in page and "WEIGHT_DECAY" not in page and "sort=experiments&amp;ascending=True" in page
    names = [one["name"] for one in read(http, "/projects", project=None)]
    assert names == ["tiny", "empty"]
    assert [one["name"] for one in read(http, "/projects", project=None, sort="newest", limit=1)] == names[::-1]
    assert read(http, "/projects", project=None, mode="archived") == []
    branches = f"/projects/{NAME}/branches"
    assert len(read(http, branches, project=None, state="active", sort="experiments")) == 1
    assert read(http, branches, project=None, text="nothing-like-this") == []
    workers = read(http, "/workers", project=None, sort="seen", limit=1)
    assert (
        len(workers) == 2
        and ids(read(http, "/workers", project=None, sort="seen", ascending=True)) == ids(workers)[::-1]
    )
    assert [one["name"] for one in read(http, "/workers", project=None, volunteer="ada")] == ["w1"]
    assert read(http, "/workers", project=None, mark="anchor") == []
    joined = read(http, "/volunteers", project=None, limit=1)
    assert ids(read(http, "/volunteers", project=None, ascending=True, limit=1)) == ids(joined)[::-1] and joined[1:]
    assert [one["name"] for one in read(http, "/volunteers", project=None, text="AD", since="2020-01-01")] == ["ada"]
    assert read(http, "/volunteers", project=None, until="2020-01-01") == []
    assert http.get(f"{API_PREFIX}/workers?project=none").status_code == 404
    records = http.get(f"{API_PREFIX}/records", params={"has_record": False, "sort": "runs"}).json()["items"]
    assert len(records) == 1 and http.get(f"{API_PREFIX}/records?hardware_class=none").json()["items"] == []


def test_a_pair_of_commits_has_one_difference(http: TestClient, database: Database) -> None:
    """By number or hash, on the page of the experiment, in comparisons and in the record's gain."""
    every = {one["id"]: one for one in read(http, "/experiments")}
    pair = next(one for one in every.values() if one["parent_id"] and one["posterior"])
    effect = pair["posterior"]["effect_mean"], pair["posterior"]["effect_sd"]

    def compare(a: object, b: object) -> tuple[float, float]:
        answer = http.get(f"{API_PREFIX}/compare", params={"a": a, "b": b})
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["classes"]
        return found["difference_mean"], found["difference_sd"]

    parent = every[pair["parent_id"]]
    assert compare(pair["parent_id"], pair["id"]) == compare(parent["sha"], pair["sha"][:12]) == effect
    assert compare(pair["id"], f"#{pair['parent_id']}") == (-effect[0], effect[1])
    assert compare(pair["id"], pair["sha"]) == (0.0, 0.0)
    measured = [one for one in every.values() if one["posterior"]]
    siblings = next([two, one] for one, two in combinations(measured, 2) if one["parent_sha"] == two["parent_sha"])
    one, other = (sibling["posterior"]["metric_mean"] for sibling in siblings)
    assert compare(siblings[0]["id"], siblings[1]["id"])[0] == pytest.approx(other - one)
    (record,) = http.get(f"{API_PREFIX}/records").json()["items"]
    with database.read() as session:
        root = next(row.sha for row in session.query(Commit) if row.parent_sha is None and row.project_id == 1)
    leader = record["leader"]
    assert compare(root, leader["sha"]) == (leader["gain_mean"], leader["gain_sd"])
    for wrong, status in (("999999", 404), ("0", 404), ("ffff0000", 404), ("xyz!", 404), ("abc", 404)):
        assert http.get(f"{API_PREFIX}/compare", params={"a": wrong, "b": "1"}).status_code == status, wrong


@ON_ONE_ENGINE
def test_what_an_address_does_not_have_is_refused_with_the_right_name(http: TestClient) -> None:
    for address, meant in (
        ("/experiments?project=tiny&sortt=best", "sort"), ("/experiments?project=tiny&order_by=best", "sort"),
        ("/findings?Verdict=worse", "verdict"), ("/findings/search?query=lr", "q"),
        ("/runs?project=tiny&gpu=x", "hardware_class"),
        ("/topics?project=tiny&min_effect=1", None), ("/workers?page=2", "cursor"), ("/projects?per_page=3", "limit"),
        ("/records?hardware-class=x", "hardware_class"), ("/experiments/1?x=1", None), ("/versions?x=1", None),
        ("/events?sinse=3", "since"),
    ):  # fmt: skip
        answer = http.get(f"{API_PREFIX}{address}")
        assert answer.status_code == 422, address
        (mistake,) = answer.json()["errors"]
        assert (f"Did you mean {meant}?" in mistake["what"]) is (meant is not None), mistake
    for number in ("nan", "inf", "-inf", "1e40", ""):
        for path, name in (("/experiments", "effect_above"), ("/findings", "metric_below"), ("/runs", "metric_above")):
            answer = http.get(f"{API_PREFIX}{path}", params={"project": NAME, name: number})
            assert answer.status_code == 422, (path, number)
    for given in (
        "since=2026",
        "until=-1",
        "since=2026-11-30T00:00:00",
        "limit=3&limit=4",
        "verdict=worse&verdict=improved",
    ):
        assert http.get(f"{API_PREFIX}/experiments?project={NAME}&{given}").status_code == 422, given
    assert len(read(http, "/experiments", since="2020-01-01")) == EXPERIMENTS and not read(
        http, "/runs", until="2020-01-01"
    )
    assert http.get(f"{API_PREFIX}/workers?state=working&state=paused").status_code == 200, "a list may be repeated"
    answer = http.get(f"{API_PREFIX}/findings?sort=best")
    assert answer.status_code == 422 and "Name a project" in answer.json()["detail"]
    assert http.get("/projects/tiny/experiments?utm_source=mail").status_code == 200, (
        "pages overlook what they do not know"
    )
