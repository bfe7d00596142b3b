"""The walk-throughs of docs/architecture.md name functions that a claim and a result go through, in their order."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.leases import results
from coordinator.leases.claim import claim
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import claim_request, make_result
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker

ROOT = Path(__file__).parents[3]
HANDLERS = "coordinator/leases/api.py"


def read_walk(title: str) -> list[tuple[str, str]]:
    """The functions of a walk-through as (module, name), without the handler, which calls the first of them."""
    text = (
        (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    )
    steps = re.findall(r"^\d+\. \[`(?:\w+\.)?(\w+)`\]\(\.\./([\w/]+\.py)\)", text, re.MULTILINE)
    return [(module, name) for name, module in steps if module != HANDLERS]


@contextmanager
def list_calls() -> Iterator[list[tuple[str, str]]]:
    """The functions of the coordinator that this thread calls or resumes, as (module, name)."""
    calls: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (path := Path(frame.f_code.co_filename)).is_relative_to(ROOT / "coordinator"):
            calls.append((path.relative_to(ROOT).as_posix(), frame.f_code.co_name))

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@ON_ONE_ENGINE
def test_the_functions_of_the_walks_are_on_the_way_of_a_claim_and_of_a_result(
    app: FastAPI, http: TestClient, database: Database, project: str
) -> None:
    assert project == "tiny"
    with database.write() as session:
        token = create_token(session, "ada", "test")
    worker = MiniWorker(http, token)
    worker.measure_root()
    with list_calls() as of_claim:
        lease = claim(database, token, claim_request(worker.name), app.state.versions).lease
    assert lease is not None
    files = {"train.py": "LEARNING_RATE = 0.004\n"}
    assert worker.propose(lease, files).accepted
    upload = make_result(lease, worker.files_of(lease), files)
    upload = upload.model_copy(update={"run": upload.run.model_copy(update={"seed": lease.seed})})
    with list_calls() as of_result:
        results.deliver(database, app.state.jobs.heartbeats, token, lease.id, upload)
    for title, calls in (("A claim, function by function", of_claim), ("A result, function by function", of_result)):
        walk, on_the_way = read_walk(title), iter(calls)
        assert len(walk) > 5
        assert [step for step in walk if step not in on_the_way] == [], "each is called after the one before it"
