"""States that workers report, and their readers."""

from collections.abc import Callable
from typing import Any

from fastapi.testclient import TestClient

from tests.support.volunteers import MiniWorker


def notice(state: str, reason: str = "", worker: str = "w1") -> dict[str, Any]:
    return {"worker": worker, "state": state, "reason": reason}


def test_a_worker_is_seen_pausing_and_at_work_again(worker: MiniWorker, http: TestClient) -> None:
    worker.measure_root()
    told = worker.post("/workers/notices", notice("paused", "Paused until <b>resume</b>."))
    assert (told.status_code, told.json()["state"]) == (200, "paused")
    (row,) = worker.get_json("/workers?state=paused&state=waiting")["items"]
    assert (row["name"], row["volunteer"], row["reason"]) == ("w1", "ada", "Paused until <b>resume</b>.")
    page = http.get("/projects/tiny").text
    assert "w1" in page and "paused: <bdi>Paused until &lt;b&gt;resume&lt;/b&gt;.</bdi>" in page
    lease = worker.claim_job()
    assert worker.get_json("/workers?state=paused")["items"] == []
    assert worker.get_json("/workers")["items"][0]["state"] == "working"
    assert "paused:" not in http.get("/projects/tiny").text
    assert "ends after this run" not in http.get("/projects/tiny").text
    worker.post("/workers/notices", notice("finishing"))
    assert "ends after this run" in http.get("/projects/tiny").text
    assert worker.get_json("/leases?project=tiny")["items"][0]["worker_state"] == "finishing"
    assert worker.release(lease).status_code == 200


def test_the_moment_is_that_of_the_change(worker: MiniWorker) -> None:
    worker.measure_root()
    first = worker.post("/workers/notices", notice("waiting", "Nothing to do.")).json()
    second = worker.post("/workers/notices", notice("waiting", "Still nothing.")).json()
    assert first["state_at"] == second["state_at"] and second["reason"] == "Still nothing."


def test_what_is_wrong_with_a_workers_agent_stands_on_its_page_while_it_works(
    worker: MiniWorker, http: TestClient
) -> None:
    worker.measure_root()
    trouble = "the model gives nothing usable: it <b>refuses</b>"
    assert worker.release(worker.claim_job(trouble=trouble)).status_code == 200
    (row,) = worker.get_json("/workers")["items"]
    assert (row["state"], row["reason"]) == ("working", trouble)
    assert "the model gives nothing usable: it &lt;b&gt;refuses" in http.get(f"/workers/{row['id']}").text
    worker.claim_job()
    assert worker.get_json("/workers")["items"][0]["reason"] == ""


def test_a_worker_speaks_for_itself_only(make_worker: Callable[..., MiniWorker], project: str) -> None:
    worker, stranger = make_worker(), make_worker("w2", volunteer="bob")
    worker.measure_root()
    assert stranger.post("/workers/notices", notice("paused")).status_code == 404
    assert MiniWorker(worker.http, "swt_wrong").post("/workers/notices", notice("paused")).status_code == 401
    assert worker.post("/workers/notices", notice("paused", "x" * 301)).status_code == 422
    assert worker.get_json("/workers")["items"][0]["state"] == "working"


def test_workers_are_listed_page_by_page(make_worker: Callable[..., MiniWorker], project: str) -> None:
    for name in ("a", "b", "c"):
        make_worker(name).measure_root() if name == "a" else make_worker(name).claim_job()
    first = make_worker().get_json("/workers?limit=2")
    assert [row["name"] for row in first["items"]] == ["c", "b"]
    second = make_worker().get_json(f"/workers?limit=2&cursor={first['next_cursor']}")
    assert [row["name"] for row in second["items"]] == ["a"] and second["next_cursor"] is None
