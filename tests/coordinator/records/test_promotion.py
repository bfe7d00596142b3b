"""Promotion of records over HTTP: who may, in which order, what the pairs say, and what they must not change."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from rich.console import Console
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.evidence import promotions
from coordinator.evidence.calibration_queries import find_epoch, list_measured
from coordinator.evidence.epochs import find_differences, recompute
from coordinator.evidence.promotion import PromotionJob
from coordinator.models import Calibration, Event, Project, Promotion, Run
from coordinator.projects.service import ProjectExistsError, create_project
from shared.events import EventKind
from shared.experiments import JobKind
from shared.leases import GrantedLease, ResultUpload
from shared.records import Record
from shared.runs import RunOutcome, RunSeconds
from swarm.commands import tabulate_records
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import HARDWARE, make_proposal, make_run
from tests.support.seeds import write_seed
from tests.support.swarm_data import History
from tests.support.tokens import create_token
from tests.support.verified_record import ANCHORS, VerifiedRecord, find_worker
from tests.support.volunteers import MiniWorker

CLASS = HARDWARE.hardware_class
RUNG = """
[[rungs]]
name = "long"
training_seconds = 22
"""
ALWAYS = """
[jobs]
promote = 1000
"""
ON_RUNG = RunSeconds(starting=2, training=22, scoring=4, total=28)
EFFECT = -0.101
"""Metric of the record less that of the seed, with the contract's budget."""


class Promoted(VerifiedRecord):
    """On the rung the record's gain is `carried` times that with the contract's budget."""

    kind = JobKind.PROMOTE
    carried = 0.5

    def deliver(self, name: str, lease: GrantedLease, lie: float = 0.0, **changes: Any) -> None:
        metric = 3.0 if lease.base.sha == self.root else 3.0 + EFFECT * self.carried + lie
        run = make_run(lease.base.sha, **({"metric": metric, "seconds": ON_RUNG} | changes))
        reply = self.workers[name].deliver(lease, ResultUpload(run=run))
        assert reply.status_code == 201, reply.text

    def make_pair(self, name: str, lie: float = 0.0) -> list[GrantedLease]:
        """Both runs of a pair, the second one as the worker's very next job."""
        first = self.claim(name)
        self.deliver(name, first, lie)
        second = self.workers[name].claim_job()
        self.deliver(name, second, lie)
        return [first, second]

    def promote(self, **lies: float) -> list[GrantedLease]:
        """All pairs of a promotion."""
        return [lease for name in ANCHORS for lease in self.make_pair(name, lies.get(name, 0.0))]

    def find_job(self, name: str) -> PromotionJob | None:
        """The pair that a volunteer may begin now."""
        with self.database.read() as session:
            project, worker = session.scalars(select(Project)).one(), find_worker(session, name)
            return promotions.find_job(session, project, CLASS, worker.volunteer_id, worker.id)

    def read(self) -> Any:
        """The record's promotion as the API shows it."""
        return self.read_record()["record"]["promotions"][0]

    def read_record(self) -> Any:
        return self.http.get("/api/v1/records").json()["items"][0]

    def read_page(self) -> str:
        return " ".join(self.http.get("/projects/tiny").text.split())

    def beat(self, metric: float) -> str:
        """A new record on this one, verified as it is."""
        with self.database.write() as session:
            history = History(session, session.scalars(select(Project)).one())
            made = history.add_experiment(
                history.add_worker("w1", "ada"), self.sha, metric, make_proposal("better yet")
            )
            for name in ANCHORS[:3]:
                history.measure(history.add_worker("w1", name, is_anchor=True), made.commit_sha, metric)
            return made.commit_sha


Make = Callable[..., Promoted]


@pytest.fixture
def make(database: Database, http: TestClient, tmp_path: Path) -> Make:
    return lambda more=ALWAYS + RUNG: Promoted(database, http, tmp_path, more)


@pytest.mark.usefixtures("stays_whole")
def test_a_record_is_run_on_the_rung_beside_the_seed(make: Make) -> None:
    """The whole cycle: leases, results, and the transfer ratio wherever the record is shown."""
    record = make()
    before = record.read_record()
    with record.database.read() as session:
        measured = {row.worker_id: row.seed_measured for row in session.scalars(select(Calibration))}
    leases = record.promote()
    for one, other in zip(leases[::2], leases[1::2], strict=True):
        assert {one.base.sha, other.base.sha} == {record.sha, record.root}
        assert (one.seed, one.pace, one.rung) == (other.seed, other.pace, "long") and not one.holdout_key
    assert {lease.base.sha for lease in leases[::2]} == {record.sha, record.root}, "neither is always the first"

    said = record.read()
    assert (said["sha"], said["base_sha"], said["experiment_id"], said["base_experiment_id"]) == (
        record.sha, record.root, 1, None,
    )  # fmt: skip
    assert (said["pairs"], said["volunteers"], said["left_out"], said["is_provisional"]) == (4, 4, 0, False)
    assert said["holds"] and said["effect_mean"] == pytest.approx(EFFECT / 2)
    assert said["transfer_low"] < said["transfer_ratio"] < said["transfer_high"]
    assert said["transfer_ratio"] == pytest.approx(0.5, abs=0.02)
    assert (said["classes_held"], said["classes_measured"], said["classes_on_rung"]) == (1, 1, 1)
    after = record.read_record()
    assert (after["baseline"], after["leader"], after["record"]["posterior"]) == (
        before["baseline"], before["leader"], before["record"]["posterior"],
    ), "it ranks nothing"  # fmt: skip

    ratio = f"{said['transfer_ratio']:.2f} ({said['transfer_low']:.2f} to {said['transfer_high']:.2f})"
    shown = f'transfer ratio <span class="number">{ratio}</span>'
    assert shown in record.read_page() and "it holds, n = 4 pairs" in record.read_page()
    experiment = " ".join(record.http.get("/experiments/1").text.split())
    assert shown in experiment and "of long" in experiment, "runs on the rung say so"
    assert shown in " ".join(record.http.get("/experiments/1/live").text.split())
    assert record.http.get("/api/v1/experiments/1").json()["promotions"] == [said]
    table = Console(width=160)
    with table.capture() as printed:
        table.print(tabulate_records([Record.model_validate(after)]))
    assert f"transfer ratio {ratio}" in printed.get() and "promoted on long" in printed.get()
    (row,) = record.http.get("/api/v1/projects/tiny/export/promotions.jsonl").text.splitlines()
    assert json.loads(row)["ratio"] == said["transfer_ratio"] and json.loads(row)["holds"] is True
    runs = map(json.loads, record.http.get("/api/v1/projects/tiny/export/runs.jsonl").text.splitlines())
    assert [run["rung"] for run in runs if run["kind"] == "promote"] == ["long"] * 8
    points = record.http.get("/api/v1/projects/tiny/progress").json()["points"]
    assert all(point["metric"] > 3.1 for point in points if point["metric"]), "no run with another budget is plotted"
    assert [point["reason"] for point in points if point["metric"] is None] == ["on the rung long"] * 8

    assert all(record.find_job(name) is None for name in record.workers), "nobody is asked for more"
    pack = record.workers["ada"].claim_job().context
    assert f"#1 holds on the rung long (22 s of training): transfer ratio {ratio}, n = 4 pairs" in pack
    with record.database.write() as session:
        (event,) = session.scalars(select(Event).where(Event.kind == EventKind.PROMOTED)).all()
        assert (event.data["commit"], event.data["rung"], event.data["holds"]) == (record.sha, "long", True)
        assert {row.worker_id: row.seed_measured for row in session.scalars(select(Calibration))} == measured
        assert list(find_differences(session)) == [] and recompute(session) == 0
        epoch = find_epoch(session, session.scalars(select(Project.id)).one(), CLASS)
        assert epoch is not None
        counted = {run.run_id for run in list_measured(session, epoch)}
        promoting = set(session.scalars(select(Run.id).where(Run.kind == JobKind.PROMOTE)))
        assert len(promoting) == 8 and not counted & promoting, "noise and offsets do not rest on them"


@ON_ONE_ENGINE
def test_neither_the_author_nor_its_friends_promote(make: Make) -> None:
    record = make()
    assert record.find_job("ada") is None and record.find_job("mallory") is None
    with record.database.write() as session:
        find_worker(session, "ada").is_anchor = True
    assert record.find_job("ada") is None, "not even an anchor promotes its own"
    job = record.find_job("bo")
    assert job is not None and (job.sha, job.base_sha) == (record.sha, record.root)


@ON_ONE_ENGINE
def test_one_volunteers_number_is_provisional(make: Make) -> None:
    record = make()
    with record.database.write() as session:
        for name in ("cy", "dan", "eve"):
            find_worker(session, name).is_anchor = False
    for _ in range(4):
        record.make_pair("bo")
    said = record.read()
    assert (said["pairs"], said["volunteers"], said["is_provisional"], said["holds"]) == (4, 1, True, None)
    assert "provisional, 4 of 4 pairs, by 1 volunteer" in record.read_page()
    assert record.find_job("bo") is None, "it has made its share"
    with record.database.write() as session:
        find_worker(session, "cy").is_anchor = True
    record.make_pair("cy")
    assert record.read()["holds"] is True


@ON_ONE_ENGINE
def test_who_stands_apart_is_left_out_and_a_pair_more_is_asked_for(make: Make) -> None:
    record = make()
    record.promote(cy=-0.5)
    assert record.read()["holds"] is None, "two anchors contradict each other"
    record.set_trust("vouched", runs=8)
    with record.database.write() as session:
        runs = session.scalars(select(Run).where(Run.kind == JobKind.PROMOTE).order_by(Run.id)).all()
        for run in runs[:2]:
            run.trust = "anchor"
        promotions.refresh(session, session.scalars(select(Project)).one(), CLASS)
    said = record.read()
    assert (said["pairs"], said["left_out"], said["is_provisional"]) == (3, 1, True)
    assert said["effect_mean"] == pytest.approx(EFFECT / 2)
    record.make_pair("bo")
    assert record.read()["holds"] is True


@ON_ONE_ENGINE
def test_a_gain_that_does_not_hold_is_said_and_the_next_record_is_run_beside_the_seed(make: Make) -> None:
    record = make()
    record.carried = -0.2
    record.promote()
    said = record.read()
    assert said["holds"] is False and said["transfer_ratio"] == pytest.approx(-0.2, abs=0.02)
    assert (
        "it does not hold" in record.read_page() and 'holds on <span class="number">0</span> of' in record.read_page()
    )
    assert record.beat(3.195) and record.find_job("bo") is None, "it is hardly better than the one that was tried"
    sha = record.beat(3.1)
    job = record.find_job("bo")
    assert job is not None and (job.sha, job.base_sha) == (sha, record.root)


@ON_ONE_ENGINE
def test_the_next_record_is_run_beside_the_last_that_was_promoted(make: Make) -> None:
    record = make()
    record.promote()
    sha = record.beat(3.1)
    job = record.find_job("bo")
    assert job is not None and (job.sha, job.base_sha) == (sha, record.sha)
    assert record.read()["sha"] == record.sha, "until it has a pair, the page shows the one before"


def test_a_newer_record_takes_the_place_of_a_promotion_that_settles_nothing(make: Make) -> None:
    record = make()
    with record.database.write() as session:
        for name in ("cy", "dan", "eve"):
            find_worker(session, name).is_anchor = False
    record.make_pair("bo")
    with record.database.write() as session:
        for name in ("cy", "dan", "eve"):
            find_worker(session, name).is_anchor = True
    sha = record.beat(3.1)
    job = record.find_job("cy")
    assert job is not None and job.sha == record.sha, "the one that is under way is finished first"
    with record.database.write() as session:
        for name in ("cy", "dan", "eve"):
            find_worker(session, name).is_anchor = False
    for _ in range(3):
        record.make_pair("bo")
    lease = record.claim("bo")
    assert lease.base.sha in (sha, record.root)
    with record.database.read() as session:
        first, second = session.scalars(select(Promotion).order_by(Promotion.id)).all()
        assert first.closed_at is not None and first.holds is None and second.commit_sha == sha


@ON_ONE_ENGINE
def test_the_second_run_follows_the_first_and_nobody_elses(make: Make) -> None:
    record = make()
    first = record.claim("bo")
    others = record.claim("cy")
    assert others.seed != first.seed
    second = record.workers["bo"].claim_job(holding=[first.id])
    assert (second.kind, second.seed) == (JobKind.PROMOTE, first.seed), "while the first one is still running"
    record.workers["bo"].release(second)
    record.deliver("bo", first)
    assert record.claim("bo").seed != first.seed, "what was given back is not given again"


@ON_ONE_ENGINE
def test_a_pair_whose_first_run_failed_is_not_finished(make: Make) -> None:
    record = make()
    first = record.claim("bo")
    record.deliver("bo", first, metric=None)
    assert record.claim("bo").seed != first.seed, "another pair is begun"
    assert record.read()["pairs"] == 0 and "no pair of runs yet" in record.read_page()
    with record.database.read() as session:
        worker = find_worker(session, "bo")
        failures = session.scalars(select(Calibration.failures_in_row).where(Calibration.worker_id == worker.id)).one()
    assert failures == 0, "that a commit fails on a rung says nothing against the worker"


@ON_ONE_ENGINE
def test_nobody_tries_until_a_result_suits(make: Make) -> None:
    record = make()
    for _ in range(2):
        record.workers["bo"].release(record.claim("bo"))
    assert record.find_job("bo") is None and record.find_job("cy") is not None


@ON_ONE_ENGINE
@pytest.mark.parametrize(
    "contract", [ALWAYS, RUNG, f"\n[jobs]\npromote = 0\n{RUNG}"], ids=["no rungs", "too few jobs yet", "turned off"]
)
def test_nothing_is_promoted(make: Make, contract: str) -> None:
    """In a class that has done 25 jobs a pair on the rung is more than the default share of its time."""
    record = make(contract)
    assert all(record.find_job(name) is None for name in record.workers)
    assert record.read_record()["record"]["promotions"] == [] and "On the rung" not in record.read_page()


def test_the_share_is_reached_with_the_classs_jobs(make: Make) -> None:
    record = make(RUNG)
    with record.database.write() as session:
        find_worker(session, "mallory")
        session.scalars(select(Calibration)).first().jobs_done += 40  # type: ignore[union-attr]
    assert record.find_job("bo") is not None
    record.make_pair("bo")
    assert record.find_job("cy") is None, "the next one waits for more jobs"


@ON_ONE_ENGINE
def test_an_ordinary_run_does_not_pass_for_one_on_the_rung(make: Make) -> None:
    record = make()
    ordinary = RunSeconds(starting=4, training=16, scoring=5, total=25)
    record.deliver("bo", record.claim("bo"), seconds=ordinary)
    with record.database.read() as session:
        run = session.scalars(select(Run).where(Run.kind == JobKind.PROMOTE)).one()
        assert run.outcome == RunOutcome.INVALID and "used only 16.0 s of a budget of 22 s" in run.reason


@ON_ONE_ENGINE
@pytest.mark.usefixtures("stays_whole")
def test_what_is_in_quarantine_does_not_count(make: Make) -> None:
    record = make()
    record.promote()
    with record.database.write() as session:
        find_worker(session, "bo").quarantine = "its numbers do not repeat"
        recompute(session)
    said = record.read()
    assert (said["pairs"], said["is_provisional"]) == (3, True)


@ON_ONE_ENGINE
def test_measured_classes_are_counted(make: Make) -> None:
    """Where the commit was not run on the rung, its ordinary runs decide."""
    record = make()
    record.promote()
    elsewhere = HARDWARE.model_copy(update={"cores": 8})
    with record.database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        bo = history.add_worker("w1", "bo", is_anchor=True)
        for sha in (record.root, record.sha, record.sha, record.root):
            history.measure(bo, sha, 3.3, hardware=elsewhere)
    said = record.read()
    assert (said["classes_held"], said["classes_measured"], said["classes_on_rung"]) == (1, 2, 1)
    assert (
        'holds on <span class="number">1</span> of <span class="number">2</span> hardware classes (1 on this rung)'
        in (record.read_page())
    )


@ON_ONE_ENGINE
def test_a_higher_rung_takes_what_was_promoted_on_the_one_below(make: Make) -> None:
    record = make(ALWAYS + RUNG + RUNG.replace("long", "longer").replace("22", "24"))
    job = record.find_job("bo")
    assert job is not None and job.rung == "long"
    record.promote()
    job = record.find_job("bo")
    assert job is not None and (job.rung, job.sha, job.base_sha) == ("longer", record.sha, record.root)


@ON_ONE_ENGINE
def test_rungs_do_not_change_under_one_name(make: Make, tmp_path: Path) -> None:
    record = make()
    seed = write_seed(tmp_path / "changed")
    contract = seed / "swarm.toml"
    contract.write_text(contract.read_text() + ALWAYS + RUNG.replace("22", "60"))
    with record.database.write() as session, pytest.raises(ProjectExistsError):
        create_project(session, seed)


@ON_ONE_ENGINE
def test_a_commit_that_is_no_record_any_more_is_not_gone_on_with(make: Make) -> None:
    record = make()
    record.make_pair("bo")
    assert record.find_job("cy") is not None
    with record.database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        for _ in range(3):
            history.measure(history.add_worker("w1", "eve", is_anchor=True), record.sha, 3.6)
    assert record.find_job("cy") is None


@ON_ONE_ENGINE
def test_the_second_run_goes_before_whatever_else_the_worker_would_do(make: Make) -> None:
    """It is the worker's own: another one of the same volunteer does not get it."""
    record = make()
    lease = record.claim("bo")
    with record.database.write() as session:
        other = MiniWorker(record.http, create_token(session, "bo", "t"), "w2")
    assert other.claim_job().kind is not JobKind.PROMOTE
    assert record.workers["bo"].claim_job(holding=[lease.id]).seed == lease.seed
