"""Whatever a wire model accepts is stored and comes back equal, on both engines; what it refuses gets a 422."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from gzip import compress
from itertools import count
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from sqlalchemy import JSON, Column, Double, Integer, MetaData, Table, Text, delete, insert, select

from coordinator.db.database import Database
from coordinator.models.base import LargeCount, UtcDateTime
from shared.experiments import Proposal, ProposalSubmission
from shared.findings import FindingDraft
from shared.leases import ResultUpload
from shared.protocol import Message, now
from shared.runs import MAX_SEED, Hardware, RunReport, RunView
from shared.workers import Role
from tests.support import wire
from tests.support.accounts import make_person
from tests.support.databases import count_rows
from tests.support.examples import choose_examples
from tests.support.messages import make_commit, make_proposal, make_result
from tests.support.volunteers import MiniWorker

MODELS = {model.__name__: model for model in wire.list_models()}
FEW = settings(
    max_examples=choose_examples(4, 300),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ONE_PLACE = {"project": "tiny", "name": "tiny", "branch": "tiny", "lease_id": str(uuid4()), "sha": "0" * 40}
numbers = count()

SCRATCH = Table(
    "scratch", MetaData(), Column("id", Integer, primary_key=True), Column("text", Text), Column("count", LargeCount),
    Column("number", Double), Column("moment", UtcDateTime), Column("document", JSON),
)  # fmt: skip
"""A column of each type that tables have for what models hold."""

EXACT = {"files", "diff"}
"""Fields with texts that are kept as they are, in no column of text: files are git objects, diffs are made of them."""

EMPTY = {"text": None, "count": None, "number": None, "moment": None}


def test_every_value_of_every_model_fits_its_column(database: Database) -> None:
    SCRATCH.create(database.engine)
    for model in MODELS.values():

        @given(message=wire.draw_messages(model).map(model.model_validate))
        @settings(FEW, max_examples=choose_examples(2, 300))
        def fits(message: Message) -> None:
            check_columns(database, message)

        fits()


def check_columns(database: Database, message: Message) -> None:
    """Write each value of a message into the column of its type, and the message as JSON; read them back."""
    document = {"document": message.model_dump(mode="json")}
    values = [None, *_list_values(message)]
    rows = [{"id": place, **EMPTY, **_place(value), **document} for place, value in enumerate(values)]
    with database.write() as session:
        session.execute(delete(SCRATCH))
        session.execute(insert(SCRATCH), rows)
    with database.read() as session:
        assert [row._asdict() for row in session.execute(select(SCRATCH).order_by(SCRATCH.c.id))] == rows


def _list_values(value: Any) -> list[Any]:
    if isinstance(value, BaseModel):
        names = type(value).model_fields.keys() - EXACT
        return [leaf for name in sorted(names) for leaf in _list_values(getattr(value, name))]
    if isinstance(value, dict):
        return [leaf for pair in value.items() for part in pair for leaf in _list_values(part)]
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in _list_values(part)]
    return [value] if type(value) in (str, int, float, datetime) else []


def _place(value: Any) -> dict[str, Any]:
    if isinstance(value, datetime):
        return {"moment": value}
    if value is None:
        return {}
    if isinstance(value, int) and abs(value) >= 2**63:  # a constant of an edited file, kept in JSON
        return {}
    return {{str: "text", int: "count", float: "number"}[type(value)]: value}


@given(document=wire.draw_messages(RunReport), fits=st.booleans())
@FEW
def test_a_measurement_comes_back_as_it_was_sent(
    make_worker: Callable[..., MiniWorker], project: str, *, document: Any, fits: bool
) -> None:
    worker = make_worker(f"w{next(numbers)}", f"volunteer-{next(numbers)}")
    hardware = document["hardware"]
    lease = worker.claim_job(hardware=hardware, project=project)
    fields = {"id": str(uuid4()), "commit_sha": lease.base.sha, "seed": lease.seed}
    if fits:  # it fits its lease in all else, too
        seconds = {"starting": 1.0, "training": 20.0, "scoring": 1.0, "total": 22.0}
        fields |= {"started_at": now().isoformat(), "finished_at": now().isoformat(), "seconds": seconds}
    run = RunReport.model_validate(document | fields)
    response = worker.deliver(lease, ResultUpload(run=run))
    assert response.status_code == 201, response.text
    number = response.json()["run_id"]
    check_run(worker, number, run)
    assert worker.http.get(f"/runs/{number}").status_code == 200


def check_run(worker: MiniWorker, number: int, run: RunReport) -> None:
    """Whether a run is shown as it was sent; one that does not fit its lease has lost its metric."""
    shown = RunView.model_validate(worker.get_json(f"/runs/{number}"))
    names = RunReport.model_fields.keys() & RunView.model_fields.keys() - {"id"}
    if f"Reported as {run.outcome}" in shown.reason:
        assert shown.outcome == "invalid" and shown.metric is None and shown.reason
        names -= {"outcome", "metric", "reason"}
    assert shown.hardware.is_reported
    assert Hardware.model_validate(shown.hardware.model_dump(exclude={"is_reported"})) == run.hardware
    names -= {"hardware"}
    assert {name: getattr(shown, name) for name in names} == {name: getattr(run, name) for name in names}


@given(idea=wire.draw_messages(Proposal), words=wire.draw_messages(FindingDraft))
@FEW
def test_an_experiment_comes_back_as_it_was_sent(
    make_worker: Callable[..., MiniWorker], project: str, *, idea: Any, words: Any
) -> None:
    worker = make_worker(f"w{next(numbers)}", f"volunteer-{next(numbers)}")
    worker.measure_root()
    lease = worker.claim_job(project=project)
    if not lease.kind.makes_experiment:
        return
    files = {"train.py": f"DEPTH = {next(numbers)}\n# {uuid4()}\n"}
    drawn = idea | {"steps": [], "insists": "It is new.", "new_branch": None}
    proposal = Proposal.model_validate(drawn)
    assert worker.propose(lease, files, proposal=proposal).accepted
    shown = [
        one["title"] for one in worker.get_json(f"/leases?project={project}")["items"] if one["id"] == str(lease.id)
    ]
    assert shown == [proposal.title]
    finding = FindingDraft.model_validate(words)
    upload = make_result(lease, worker.files_of(lease), files)
    response = worker.deliver(lease, upload.model_copy(update={"proposal": proposal, "finding": finding}))
    assert response.status_code == 201, response.text
    number = response.json()["experiment_id"]
    detail = worker.get_json(f"/experiments/{number}")
    stated = proposal.model_dump(mode="json")
    for name in ("title", "hypothesis", "axis", "direction", "value", "predicted_effect", "refuted_by", "insists"):
        assert detail[name] == stated[name], name
    assert FindingDraft.model_validate({name: detail["finding"][name] for name in FindingDraft.model_fields}) == finding
    for page in (f"/experiments/{number}", f"/projects/{project}"):
        assert worker.http.get(page).status_code == 200, page


@given(data=st.data())
@settings(FEW, max_examples=choose_examples(2, 300))
def test_whatever_is_sent_no_request_breaks_the_coordinator(
    app: FastAPI, worker: MiniWorker, database: Database, data: st.DataObject
) -> None:
    """Bodies of every request that the API describes, found by looking; then the same with one field spoiled.

    Who may not do it hears that first, so that a maintainer sends the spoiled ones of duties, too.
    """
    tried, boss = 0, make_person(database, worker.http, "boss", Role.MAINTAINER)
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is None:
                continue
            model = MODELS[content["schema"]["$ref"].rpartition("/")[2]]
            document = data.draw(wire.draw_messages(model), label=path)
            assert send(worker, method, path, document).status_code < 500
            leaf = data.draw(st.sampled_from(wire.list_leaves(model, document) or [None]))
            if leaf is None:
                continue
            spoiled = wire.replace_leaf(document, leaf.path, data.draw(wire.draw_wrong(leaf)))
            response = send(worker, method, path, spoiled)
            if response.status_code in (401, 403):  # the worker may have revoked its own token
                response = send(worker, method, path, spoiled, boss.headers)
            assert response.status_code == 422, (path, leaf.path, response.text)
            errors = [error["where"].split(".") for error in response.json()["errors"]]
            assert any(wire.names_path(error, ("body", *leaf.path)) for error in errors), (errors, leaf.path)
            tried += 1
    assert tried > 5


def send(worker: MiniWorker, method: str, path: str, document: Any, headers: Mapping[str, str] | None = None) -> Any:
    key = {"Idempotency-Key": str(uuid4())}
    address = re.sub(r"{(\w+)}", lambda found: ONE_PLACE.get(found[1], "1"), path)  # other names are those of numbers
    return worker.http.request(method, address, json=document, headers={**(headers or worker._headers), **key})


RAW: dict[str, bytes] = {
    "an unknown field with half a character": b'{"\\ud800": 1}',
    "half a character in a name": b'{"protocol": 1, "worker": "\\ud800", "agent": "a"}',
    "a number of 400 digits": b'{"protocol": ' + b"9" * 400 + b"}",
    "a number of 5,000 digits": b'{"protocol": ' + b"9" * 5000 + b"}",
    "no JSON": b"\xff\x00",
    "NaN": b'{"protocol": NaN}',
    "deeply nested": b'{"kinds": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "not an object": b"3",
    "not in UTF-8": b'{"worker": "\xe9"}',
    "compressed": compress(b"{}"),
    "a million empty entries": b'{"holding": [' + b"{}," * 10**6 + b"{}]}",
    "a name that stands twice": b'{"hardware": {"cores": 1, "cores": 2}}',
    "a number in a text": b'{"protocol": "6"}',
    "a truth value for a number": b'{"protocol": true}',
    "a number for a truth value": b'{"wants_trials": 1}',
    "more than a double holds": b'{"seed_throughput": 1e999}',
}


def test_raw_bodies_are_refused(worker: MiniWorker, database: Database) -> None:
    before = count_rows(database)
    headers = worker._headers | {"Content-Type": "application/json"}
    for name, body in RAW.items():
        response = worker.http.post("/api/v1/leases", content=body, headers=headers)
        problem = response.json()
        assert response.status_code == 422 and problem["type"] == "/problems/request-invalid", (name, problem)
        assert all(mistake["where"].startswith("body") for mistake in problem["errors"]), (name, problem)
    assert count_rows(database) == before


def test_a_body_of_another_type_is_refused_by_its_header(worker: MiniWorker, http: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml", "\xff", ""):
        headers = {name.encode(): value.encode("latin-1") for name, value in {"Content-Type": kind}.items() if value}
        response = http.post("/api/v1/leases", content=b'{"protocol": 6}', headers={**worker._headers, **headers})
        assert (response.status_code, response.json()["errors"][0]["where"]) == (422, "header.Content-Type"), kind
    for kind in ("Application/JSON; charset=utf-8", "application/vnd.api+json"):
        response = http.post(
            "/api/v1/leases", content=b'{"protocol": 6}', headers={**worker._headers, "Content-Type": kind}
        )
        assert response.json()["errors"][0]["where"] == "body.worker", kind


WRONG_HEADERS = (
    ("Swarm-Protocol", "9" * 400), ("Swarm-Protocol", "-1"), ("Swarm-Protocol", "six"), ("Swarm-Version", "9" * 41),
)  # fmt: skip


def test_a_header_out_of_bounds_is_refused_by_its_name(worker: MiniWorker) -> None:
    for name, value in WRONG_HEADERS:
        response = worker.http.post("/api/v1/leases", json={}, headers={**worker._headers, name: value})
        assert (response.status_code, response.json()["errors"][0]["where"]) == (422, f"header.{name}"), name


WRONG_ADDRESSES = (
    "/api/v1/runs/99999999999999999999", "/api/v1/findings?volunteer=%00&axis=%00", "/api/v1/findings/search?q=%00x",
    "/api/v1/findings?effect_above=nan", "/api/v1/findings?since=0001-01-01T00:00:00%2B14:00", "/findings?q=%00a",
    "/api/v1/topics/tiny/%00", "/api/v1/records?project=%00", "/api/v1/experiments?project=tiny&cursor=%00",
    "/api/v1/lineage/%00abcd", "/api/v1/events?since=99999999999999999999", "/problems/%00", "/projects/%00",
    "/api/v1/experiments?project=tiny&hardware_class=%00", "/projects/tiny?hardware_class=%00",
    "/topics/tiny/%00", "/tiny/info/refs?service=%00",
)  # fmt: skip


def test_addresses_with_anything_in_them_break_nothing(worker: MiniWorker, http: TestClient) -> None:
    worker.measure_root()
    broken = [address for address in WRONG_ADDRESSES if http.get(address).status_code >= 500]
    assert broken == []


def test_limits_of_the_examples_are_those_of_the_tables() -> None:
    longest = Hardware(
        kind="cuda", model="m" * 120, memory_mib=2**30, cores=2**20, power_cap_watts=10**6, torch_version="9" * 60,
        precision="p" * 20,
    )  # fmt: skip
    assert len(longest.hardware_class) <= 200 and MAX_SEED < 2**31


def test_a_commit_whose_words_hold_an_override_is_refused_by_its_fields_name(worker: MiniWorker) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    files = {"train.py": "DEPTH = 7\n"}
    upload = make_result(lease, worker.files_of(lease), files).model_dump(mode="json")
    assert make_commit(lease.base.sha, worker.files_of(lease), files).message
    upload["commit"]["message"] = "harmless \u202etxt.exe"
    response = worker.post(f"/leases/{lease.id}/result", upload, **{"Idempotency-Key": upload["run"]["id"]})
    assert response.status_code == 422 and response.json()["errors"][0]["where"] == "body.commit.message"
    submission = ProposalSubmission(token=lease.token, proposal=make_proposal("a\u202eb\x00"), files=files)
    assert submission.proposal.title == "ab", "words without a hash are cleaned"


def test_a_run_that_ends_before_it_starts_is_refused_by_its_fields_name(worker: MiniWorker) -> None:
    lease = worker.claim_job()
    upload = {"run": make_result(lease, worker.files_of(lease), {"train.py": "x"}).run.model_dump(mode="json")}
    upload["run"] |= {"commit_sha": lease.base.sha, "finished_at": (now() - timedelta(hours=1)).isoformat()}
    response = worker.post(f"/leases/{lease.id}/result", upload, **{"Idempotency-Key": upload["run"]["id"]})
    assert response.status_code == 422 and response.json()["errors"][0]["where"] == "body.run.finished_at"
