"""Records, lineage, comparisons, hardware classes and volunteers, on both engines."""

from hashlib import sha1
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.http.pagination import encode_cursor, encode_sha_cursor
from coordinator.lineage import commits
from coordinator.lineage.commits import list_nearest
from coordinator.models import Commit, table_of
from coordinator.projects.service import create_project
from coordinator.records.service import MAX_ANCESTOR_DISTANCE
from shared.protocol import now
from tests.support.messages import HARDWARE, make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import History

CLASS = HARDWARE.hardware_class


@pytest.fixture
def shas(database: Database, tmp_path: Path) -> dict[str, str]:
    """root - better - best, measured by three volunteers; and beside `best` a sibling."""
    with database.write() as session:
        history = History(session, create_project(session, write_seed(tmp_path / "seed"))[0])
        workers = [history.add_worker(f"w{n}", f"volunteer-{n}", is_anchor=n == 1) for n in range(4)]
        root = history.project.root_sha
        for worker in workers:
            for metric in (3.301, 3.300, 3.302):
                history.measure(worker, root, metric)
        better = history.add_experiment(workers[0], root, 3.20, make_proposal("better"))
        best = history.add_experiment(workers[0], better.commit_sha, 3.10, make_proposal("best"))
        aside = history.add_experiment(workers[1], better.commit_sha, 3.25, make_proposal("aside"))
        for worker in workers[1:]:
            history.measure(worker, better.commit_sha, 3.201)
        return {"root": root, "better": better.commit_sha, "best": best.commit_sha, "aside": aside.commit_sha}


def get(http: TestClient, path: str, **parameters: Any) -> Any:
    response = http.get(f"/api/v1{path}", params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_record_is_verified_and_the_leader_need_not_be(shas: dict[str, str], http: TestClient) -> None:
    (record,) = get(http, "/records", project="tiny")["items"]
    assert record["hardware_class"] == CLASS and record["metric"] == "val_bpb"
    assert record["record"]["sha"] == shas["better"] and record["record"]["posterior"]["standing"] == "verified"
    assert record["leader"]["sha"] == shas["best"] and record["leader"]["posterior"]["standing"] == "provisional"
    assert record["record"]["gain_mean"] == pytest.approx(-0.1, abs=0.02) and record["record"]["gain_sd"] > 0
    assert get(http, "/records")["items"] == [record]
    assert http.get("/api/v1/records?project=nope").status_code == 404


def test_lineage_leads_to_the_root_page_by_page(shas: dict[str, str], http: TestClient) -> None:
    whole = get(http, f"/lineage/{shas['best'][:8]}")
    assert [step["sha"] for step in whole["items"]] == [shas["best"], shas["better"], shas["root"]]
    assert whole["next_cursor"] is None and whole["items"][-1]["experiment_id"] is None
    assert whole["items"][0]["title"] == "best" and whole["items"][0]["posterior"]["runs"] == 1
    first = get(http, f"/lineage/{shas['best']}", limit=2)
    rest = get(http, f"/lineage/{shas['best']}", limit=2, cursor=first["next_cursor"])
    assert first["items"] + rest["items"] == whole["items"] and rest["next_cursor"] is None
    elsewhere = get(http, f"/lineage/{shas['best']}", hardware_class="abacus")["items"]
    assert all(step["posterior"] is None for step in elsewhere)
    assert http.get("/api/v1/lineage/" + "f" * 40).status_code == 404
    assert http.get("/api/v1/lineage/zzzz").status_code == 404


def test_a_comparison_has_diff_ancestor_and_difference(shas: dict[str, str], http: TestClient) -> None:
    compared = get(http, "/compare", project="tiny", a=shas["aside"][:10], b=shas["best"][:10])
    assert compared["common_ancestor"] == shas["better"]
    assert compared["diff"].count("\n+# ") == 1 and compared["diff"].count("\n-# ") == 1
    (difference,) = compared["classes"]
    assert difference["difference_mean"] == pytest.approx(-0.15, abs=0.02) and difference["difference_sd"] > 0
    line = get(http, "/compare", project="tiny", a=shas["root"], b=shas["best"])
    assert line["common_ancestor"] == shas["root"] and line["a_experiment_id"] is None
    assert http.get("/api/v1/compare", params={"project": "tiny", "a": "abc", "b": "abcd"}).status_code == 404


def test_classes_and_volunteers_are_counted(shas: dict[str, str], http: TestClient) -> None:
    (known,) = get(http, "/hardware-classes", project="tiny")["items"]
    assert (known["name"], known["runs"], known["workers"], known["epoch"]) == (CLASS, 18, 4, 0)
    volunteers = {row["name"]: row for row in get(http, "/volunteers")["items"]}
    first = volunteers["volunteer-0"]
    assert (first["workers"], first["runs"], first["experiments"], first["role"]) == (1, 5, 2, "volunteer")
    page = get(http, "/volunteers", limit=3)
    rest = get(http, "/volunteers", limit=3, cursor=page["next_cursor"])
    assert len(page["items"]) == 3 and len(page["items"] + rest["items"]) == 4


def test_volunteers_are_filtered_and_sorted_by_name_both_ways(shas: dict[str, str], http: TestClient) -> None:
    def ask(**given: Any) -> list[str]:
        page = get(http, "/volunteers", limit=3, **given)
        rest = get(http, "/volunteers", limit=3, cursor=page["next_cursor"], **given) if page["next_cursor"] else page
        return [row["name"] for row in {row["id"]: row for row in page["items"] + rest["items"]}.values()]

    names = [f"volunteer-{number}" for number in range(4)]
    assert ask(sort="name", ascending=True) == names and ask(sort="name") == names[::-1]
    assert sorted(ask(hardware_class=CLASS)) == names == sorted(ask(role="volunteer"))
    assert ask(hardware_class="none") == ask(role="moderator") == []


def add_line(session: Session, root: Commit, name: str, length: int) -> list[str]:
    """Add commits in a line above which only `root` stands, the deepest last. They share the root's files."""
    shas = [sha1(f"{name} {number}".encode()).hexdigest() for number in range(length)]
    rows = [
        {
            "sha": sha, "project_id": root.project_id, "parent_sha": above, "tree_sha": root.tree_sha,
            "depth": number + 1, "created_at": now(), "has_code": True, "steps": 1,
        }
        for number, (above, sha) in enumerate(pairwise([root.sha, *shas]))
    ]  # fmt: skip
    session.execute(insert(table_of(Commit)), rows)
    return shas


def test_a_page_of_a_long_lineage_costs_the_same_wherever_it_is(
    shas: dict[str, str], database: Database, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as session:
        line = add_line(session, session.get_one(Commit, shas["root"]), "long", 3_000)
    read = list[int]()

    def list_and_count(session: Session, sha: str, limit: int) -> list[str]:
        names = list_nearest(session, sha, limit)
        read.append(len(names))
        return names

    monkeypatch.setattr(commits, "list_nearest", list_and_count)
    found, cursor = list[str](), None
    while True:
        page = get(http, f"/lineage/{line[-1]}", limit=200, **({"cursor": cursor} if cursor else {}))
        found += [step["sha"] for step in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == [*reversed(line), shas["root"]]
    assert len(read) == 16 and max(read) <= 201, "the cost of a page does not depend on its number"
    invalid = http.get(f"/api/v1/lineage/{line[-1]}", params={"cursor": encode_sha_cursor("f" * 40)})
    assert invalid.status_code == 422 and invalid.json()["type"].endswith("cursor-invalid")
    assert http.get(f"/api/v1/lineage/{line[-1]}", params={"cursor": encode_cursor(5)}).status_code == 422


def test_a_common_ancestor_is_found_within_its_limit(
    shas: dict[str, str], database: Database, http: TestClient
) -> None:
    with database.write() as session:
        root = session.get_one(Commit, shas["root"])
        one, other = (add_line(session, root, name, MAX_ANCESTOR_DISTANCE + 1) for name in ("one", "other"))

    def find(a: str, b: str) -> str | None:
        ancestor: str | None = get(http, "/compare", project="tiny", a=a, b=b)["common_ancestor"]
        return ancestor

    assert find(one[2_999], one[1]) == one[1] and find(one[600], other[10]) == shas["root"]
    assert find(one[-2], other[-2]) == shas["root"] and find(one[-1], other[-1]) is None
    assert find(one[-1], one[0]) == one[0] and find(one[-1], shas["root"]) is None
