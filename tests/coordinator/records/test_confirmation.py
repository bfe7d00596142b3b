"""Confirmation of records over HTTP: who may, what is published, and what sealed windows let out."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.db.database import Database
from coordinator.evidence import confirmations
from coordinator.evidence.epochs import find_differences
from coordinator.models import Event, HoldoutSecret, Project, Run
from coordinator.projects.service import derive_key, make_secret
from shared.events import EventKind
from shared.experiments import JobKind
from shared.leases import GrantedLease, ResultUpload
from shared.records import ExperimentDetail
from shared.records import Record as ProjectRecord
from shared.runs import RunOutcome
from swarm.reproduce import find_published
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import HARDWARE, make_run
from tests.support.verified_record import ANCHORS, VerifiedRecord, find_worker

CLASS = HARDWARE.hardware_class


class Record(VerifiedRecord):
    kind = JobKind.CONFIRM

    def find_job(self, name: str) -> str | None:
        """The commit that a volunteer may confirm now."""
        with self.database.read() as session:
            project = session.scalars(select(Project)).one()
            worker = find_worker(session, name)
            return confirmations.find_job(session, project, CLASS, worker.volunteer_id, worker.id)

    def confirm(self, name: str, metric: float, **changes: Any) -> GrantedLease:
        lease = self.claim(name)
        reply = self.workers[name].deliver(lease, ResultUpload(run=make_run(lease.base.sha, metric, **changes)))
        assert reply.status_code == 201, reply.text
        return lease

    def read(self) -> Any:
        """The record as the API shows it."""
        (record,) = self.http.get("/api/v1/records").json()["items"]
        return record["record"]["confirmation"]


HOLDOUT = '\n[commands]\nholdout = "harness.holdout"\n'


Make = Callable[..., Record]


@pytest.fixture
def make(database: Database, http: TestClient, tmp_path: Any) -> Make:
    return lambda *, holdout=False: Record(database, http, tmp_path, HOLDOUT if holdout else "")


def test_four_others_give_the_published_number(make: Make) -> None:
    record = make()
    before = record.http.get("/api/v1/records").json()["items"][0]["record"]["posterior"]
    assert record.read()["metric_mean"] is None
    assert " ".join(record.http.get("/projects/tiny").text.split()).count("confirmation under way") == 1
    for number, name in enumerate(ANCHORS):
        assert (record.read()["runs"], record.read()["metric_mean"]) == (number, None)
        lease = record.confirm(name, 3.21 + 0.001 * number)
        assert lease.base.sha == record.sha and lease.holdout_key is None, "this project has no holdout"
    said = record.read()
    assert said["metric_mean"] == pytest.approx(3.2115, abs=1e-4) and said["metric_sd"] > 0
    assert (said["runs"], said["wanted"], said["volunteers"], said["left_out"]) == (4, 4, 4, 0)
    assert "n = 4" in record.http.get("/projects/tiny").text and "no holdout" in record.http.get("/projects/tiny").text
    assert said["gain_mean"] == pytest.approx(3.2115 - 3.301, abs=1e-3) and said["holdout"] is None
    assert record.http.get("/api/v1/records").json()["items"][0]["record"]["posterior"] == before, "it ranks nothing"
    assert all(record.find_job(name) is None for name in record.workers), "nobody is asked for more"
    with record.database.read() as session:
        assert list(find_differences(session)) == []


@ON_ONE_ENGINE
def test_exports_and_reproductions_have_the_published_number(make: Make) -> None:
    record = make()

    def export() -> Any:
        return [
            json.loads(row)
            for row in record.http.get("/api/v1/projects/tiny/export/experiments.jsonl").text.splitlines()
        ]

    assert [row["published_mean"] for row in export()] == [None]
    for name in ANCHORS:
        record.confirm(name, 3.22)
    said = record.read()
    (row,) = export()
    assert (row["published_mean"], row["published_sd"]) == (said["metric_mean"], said["metric_sd"])
    assert row["metric_mean"] < 3.21, "its posterior is too good"
    assert "published_mean" in record.http.get("/api/v1/projects/tiny/export/experiments.csv").text
    experiment = ExperimentDetail.model_validate(record.http.get("/api/v1/experiments/1").json())
    records = [ProjectRecord.model_validate(row) for row in record.http.get("/api/v1/records").json()["items"]]
    assert experiment.posterior is not None
    found = find_published(experiment, experiment.posterior, records)
    assert found == (said["metric_mean"], said["metric_sd"], "n = 4 confirmation runs")
    elsewhere = experiment.model_copy(update={"hardware_class": "another"})
    assert find_published(elsewhere, experiment.posterior, records)[2] == f"n = {experiment.posterior.runs}", (
        "numbers of classes are not compared"
    )


@ON_ONE_ENGINE
def test_neither_the_author_nor_its_friends_confirm(make: Make) -> None:
    record = make()
    assert record.find_job("ada") is None and record.find_job("mallory") is None
    assert record.find_job("bo") == record.sha
    with record.database.write() as session:
        find_worker(session, "ada").is_anchor = True
    assert record.find_job("ada") is None, "not even an anchor confirms its own"
    with record.database.write() as session:
        find_worker(session, "mallory").is_anchor = True
    assert record.find_job("mallory") == record.sha, "whom maintainers trust may"


@ON_ONE_ENGINE
def test_no_account_takes_all_the_runs(make: Make) -> None:
    record = make()
    first = record.claim("bo")
    again = record.workers["bo"].claim_job(holding=[first.id])
    assert again.kind is not JobKind.CONFIRM, "of four volunteers each makes one run"
    record.workers["bo"].release(again)
    record.workers["bo"].deliver(first, ResultUpload(run=make_run(first.base.sha, 3.2)))
    assert record.find_job("bo") is None


@ON_ONE_ENGINE
def test_nobody_tries_until_a_result_suits(make: Make) -> None:
    record = make()
    for _ in range(2):
        record.workers["bo"].release(record.claim("bo"))
    assert record.find_job("bo") is None and record.find_job("cy") == record.sha


@ON_ONE_ENGINE
def test_an_outlier_does_not_decide_the_number(make: Make) -> None:
    record = make()
    for name, metric in zip(ANCHORS, (3.2, 3.2, 3.2, 2.9), strict=True):
        record.confirm(name, metric)
    record.set_trust("vouched")  # an anchor is never the one who stands apart
    said = record.read()
    assert (said["runs"], said["left_out"], said["metric_mean"]) == (3, 1, None), "one more is asked for"
    record.confirm("bo", 3.202)
    assert record.read()["metric_mean"] == pytest.approx(3.2, abs=0.002)


@ON_ONE_ENGINE
def test_vouched_volunteers_alone_publish_nothing(make: Make) -> None:
    """Patient accounts are vouched; an anchor is waited for, and who stands apart from it is left out."""
    record = make()
    for name in ANCHORS[:3]:
        record.confirm(name, 3.0)
        record.set_trust("vouched")
    with record.database.write() as session:
        for name in ANCHORS[:3]:
            find_worker(session, name).is_anchor = False
    record.confirm("eve", 3.2)
    said = record.read()
    assert (said["metric_mean"], said["left_out"], said["runs"]) == (None, 3, 1)
    assert record.find_job("eve") == record.sha


def holdout_runs(record: Record, sha_metric: float, root_metric: float, sealed: dict[str, float]) -> list[GrantedLease]:
    """All confirmation runs of the record and of the seed; `sealed` are their metrics on sealed windows."""
    leases = []
    for name in (*ANCHORS, *ANCHORS):
        lease = record.claim(name)
        metric = sha_metric if lease.base.sha == record.sha else root_metric
        run = make_run(lease.base.sha, metric, holdout_metric=sealed[lease.base.sha])
        assert record.workers[name].deliver(lease, ResultUpload(run=run)).status_code == 201
        leases.append(lease)
    return leases


def test_the_ladder_lets_a_better_record_out_and_shows_the_gap(make: Make) -> None:
    record = make(holdout=True)
    leases = holdout_runs(record, 3.2, 3.301, {record.sha: 3.25, record.root: 3.351})
    said = record.read()
    assert said["has_holdout"] and said["holdout"]["metric"] == pytest.approx(3.25, abs=said["holdout"]["step"])
    assert said["holdout"]["gap_mean"] == pytest.approx(0.0, abs=said["holdout"]["step"])
    assert not said["holdout"]["is_alarm"]
    keys = [lease.holdout_key for lease in leases]
    assert None not in keys and len(set(keys)) == len(keys), "each lease has windows of its own"


@ON_ONE_ENGINE
def test_a_record_that_fits_the_windows_only_is_not_let_out_and_alarms(make: Make) -> None:
    record = make(holdout=True)
    holdout_runs(record, 3.2, 3.301, {record.sha: 3.351, record.root: 3.351})
    assert "Alarm:" in record.http.get("/projects/tiny").text
    said = record.read()["holdout"]
    assert said["is_alarm"] and (said["metric"], said["gain_mean"], said["gap_mean"], said["gap_sd"]) == (None,) * 4
    with record.database.read() as session:
        (event,) = session.scalars(select(Event).where(Event.kind == EventKind.HOLDOUT_ALARM)).all()
        assert event.data["commit"] == record.sha


@ON_ONE_ENGINE
def test_nothing_shows_sealed_windows_or_their_secret(make: Make) -> None:
    record = make(holdout=True)
    leases = holdout_runs(record, 3.2, 3.301, {record.sha: 3.251234567, record.root: 3.351234567})
    with record.database.read() as session:
        secret = session.scalars(select(HoldoutSecret.secret)).one()
        sealed = session.scalars(select(Run.holdout_metric).where(Run.kind == JobKind.CONFIRM)).all()
        events = json.dumps([event.data for event in session.scalars(select(Event))])
    assert len(sealed) == 8 and all(sealed)
    paths = ["/api/v1/records", "/api/v1/runs?project=tiny", "/api/v1/projects/tiny", "/projects/tiny"]
    paths += ["/api/v1/projects/tiny/export/runs.jsonl", "/api/v1/projects", "/api/v1/leases?project=tiny"]
    texts = [record.http.get(path).text for path in paths] + [events]
    for text in texts:
        assert "1234567" not in text and secret not in text
        assert not any(str(lease.holdout_key) in text for lease in leases)


@ON_ONE_ENGINE
def test_a_key_is_of_one_lease_and_one_commit(make: Make) -> None:
    record = make(holdout=True)
    with record.database.write() as session:
        project = session.scalars(select(Project)).one()
        one, other = uuid4(), uuid4()
        key = derive_key(session, project, record.sha, one)
        assert len(key) == 64 and derive_key(session, project, record.sha, one) == key
        assert (
            len({key, derive_key(session, project, record.sha, other), derive_key(session, project, record.root, one)})
            == 3
        )
        make_secret(session, project.id)
        assert derive_key(session, project, record.sha, one) != key, "a new secret makes new windows"


@ON_ONE_ENGINE
def test_a_run_without_its_sealed_windows_is_invalid(make: Make) -> None:
    record = make(holdout=True)
    record.confirm("bo", 3.2)
    with record.database.read() as session:
        confirmed = session.scalars(select(Run).where(Run.kind == JobKind.CONFIRM)).one()
        assert confirmed.outcome == RunOutcome.INVALID and "sealed" in confirmed.reason
    assert record.read()["runs"] == 0


def test_the_share_grows_where_few_are_trusted(make: Make) -> None:
    record = make()
    with record.database.write() as session:
        for name in ("cy", "dan", "eve"):
            find_worker(session, name).is_anchor = False
    for metric in (3.2, 3.201, 3.199, 3.2):
        record.confirm("bo", metric)
    assert record.read()["volunteers"] == 1 and record.read()["metric_mean"] == pytest.approx(3.2, abs=1e-3)


@ON_ONE_ENGINE
def test_a_maintainer_gives_a_project_a_new_secret(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make(holdout=True)
    monkeypatch.setenv("SWARM_DATABASE_URL", record.database.url.render_as_string(hide_password=False))
    with record.database.read() as session:
        before = session.scalars(select(HoldoutSecret.secret)).one()
    assert CliRunner().invoke(app, ["rotate-holdout", "tiny"]).exit_code == 0
    with record.database.read() as session:
        assert session.scalars(select(HoldoutSecret.secret)).one() != before
    assert CliRunner().invoke(app, ["rotate-holdout", "nope"]).exit_code != 0
