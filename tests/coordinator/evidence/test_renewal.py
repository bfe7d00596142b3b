"""Decisions are quick whatever they concern, and the class is derived again beside requests. On both engines."""

from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any, NoReturn

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.evidence import decisions, epochs, posteriors, quarantine, renewal
from coordinator.evidence.calibration_queries import EpochRow, list_unsettled
from coordinator.evidence.renewal import follow_decisions
from coordinator.models import Calibration, CommitPosterior, EvidenceEpoch, Project, Volunteer
from coordinator.workers.lookup import lock_worker
from shared.contract import Contract
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import HARDWARE, make_proposal
from tests.support.swarm_data import History, end_epochs, write_history

LIAR = "mallory"
OTHER_HARDWARE = HARDWARE.model_copy(update={"cores": 4})


class Swarm:
    """Twenty varied experiments, beside which a liar measured the seed and began a line that others went on with."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.write() as session:
            history = write_history(session, session.scalars(select(Project)).one(), count=20)
            root, liar = history.project.root_sha, history.add_worker("w9", LIAR)
            honest = history.add_worker("w0", "cy")
            history.measure(liar, root, 3.3)
            self.lie = history.add_experiment(liar, root, 3.25, make_proposal()).commit_sha
            self.child = history.add_experiment(honest, self.lie, 3.26, make_proposal()).commit_sha
            self.grandchild = history.add_experiment(honest, self.child, 3.27, make_proposal()).commit_sha
        end_epochs(database, always=True)

    def decide(self, reason: str | None) -> int:
        with self.database.write() as session:
            return quarantine.set_quarantine(session, LIAR, None, reason, "maintainer")

    def read(self) -> dict[str, tuple[Any, ...]]:
        """Standing and numbers of each commit."""
        with self.database.read() as session:
            rows = session.scalars(select(CommitPosterior).order_by(CommitPosterior.commit_sha))
            return {row.commit_sha: (row.standing, row.runs, row.metric_mean, row.effect_mean) for row in rows}

    def number(self) -> int:
        with self.database.read() as session:
            return session.scalars(select(EvidenceEpoch.number)).one()

    def is_settled(self) -> bool:
        with self.database.read() as session:
            return list_unsettled(session) == []

    def check(self) -> None:
        with self.database.read() as session:
            assert list(epochs.find_differences(session)) == []


@pytest.fixture
def swarm(database: Database, project: str) -> Swarm:
    assert project == "tiny"
    return Swarm(database)


def test_the_epoch_ends_beside_requests_and_once(swarm: Swarm) -> None:
    before, number = swarm.read(), swarm.number()
    swarm.decide("invented")
    assert swarm.number() == number and not swarm.is_settled()
    swarm.check()
    swarm.decide(None)
    assert swarm.read() == before, "an undone decision leaves no trace, though the task has not come yet"
    swarm.decide("invented")
    with ThreadPoolExecutor(2) as replicas:
        list(replicas.map(lambda _: follow_decisions(swarm.database, inf), range(2)))
    follow_decisions(swarm.database, inf)
    assert swarm.is_settled() and swarm.number() == number + 1
    swarm.check()
    swarm.decide(None)
    follow_decisions(swarm.database, inf)
    swarm.check()
    assert {sha: row[:2] for sha, row in swarm.read().items()} == {sha: row[:2] for sha, row in before.items()}


@pytest.mark.parametrize("most", [1, 3])
@ON_ONE_ENGINE
def test_runs_count_no_longer_at_once_and_what_rests_on_them_follows(
    swarm: Swarm, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = swarm.read()
    monkeypatch.setattr(decisions, "AT_ONCE", most)
    swarm.decide("invented")
    during = swarm.read()
    assert swarm.lie not in during
    untouched = [sha for sha, row in before.items() if during.get(sha) == row]
    assert len(untouched) >= 10, "what does not rest on the liar's runs stays as it was"
    follow_decisions(swarm.database, inf)
    swarm.check()
    assert [swarm.read()[sha][0] for sha in (swarm.child, swarm.grandchild)] == ["suspect"] * 2
    swarm.decide(None)
    follow_decisions(swarm.database, inf)
    swarm.check()
    assert swarm.read().keys() == before.keys()


def test_results_that_come_meanwhile_belong_to_the_new_epoch(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "AT_ONCE", 4)
    estimate = epochs.estimate

    def estimate_while_results_come(*given: Any) -> epochs.NextEpoch:
        found = estimate(*given)
        with ThreadPoolExecutor(1) as others:
            others.submit(add_results, swarm, "newcomer").result()
        return found

    number = swarm.number()
    swarm.decide("invented")
    monkeypatch.setattr(epochs, "estimate", estimate_while_results_come)
    monkeypatch.setattr(posteriors, "MOST_AT_ONCE", 1)  # so that they have others derived in the background
    follow_decisions(swarm.database, 0)
    assert not swarm.is_settled(), "the estimates are there, the posteriors are due"
    assert swarm.number() == number + 1, "what is derived meanwhile changes nothing of what estimates rest on"
    add_results(swarm, "another")
    monkeypatch.setattr(epochs, "estimate", estimate)
    follow_decisions(swarm.database, inf)
    assert swarm.is_settled()
    swarm.check()
    with swarm.database.read() as session:
        known = session.scalars(select(Calibration).order_by(Calibration.worker_id.desc()).limit(2)).all()
    assert all(row.offset_mean is not None for row in known), "who came meanwhile is calibrated"


@pytest.mark.parametrize("most", [1, 5])
@ON_ONE_ENGINE
def test_what_a_run_of_the_seed_changes_far_below_follows_in_the_background(
    swarm: Swarm, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posteriors, "MOST_AT_ONCE", most)
    before, number = swarm.read(), swarm.number()
    add_results(swarm, "newcomer")
    at_once = [sha for sha, row in swarm.read().items() if before.get(sha) != row]
    assert 1 < len(at_once) <= most + 3 and not swarm.is_settled()
    add_results(swarm, "another")
    follow_decisions(swarm.database, inf)
    assert swarm.is_settled() and swarm.number() == number
    assert len([sha for sha, row in swarm.read().items() if before.get(sha) != row]) > most + 10
    swarm.check()


@ON_ONE_ENGINE
def test_results_near_the_root_do_not_keep_deep_commits_from_being_derived(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posteriors, "MOST_AT_ONCE", 1)
    monkeypatch.setattr(renewal, "AT_ONCE", 1)
    marks = list[str]()

    def interrupt(_seconds: float) -> None:
        with swarm.database.read() as session:
            marks.extend(epoch.underived_sha or "" for epoch in list_unsettled(session))
        if len(marks) in range(4, 40, 4):
            add_results(swarm, "newcomer")

    monkeypatch.setattr(renewal, "sleep", interrupt)
    swarm.decide("invented")
    follow_decisions(swarm.database, inf)
    assert swarm.grandchild in marks[:36] and len(marks) > 36 and swarm.is_settled()
    swarm.check()


@ON_ONE_ENGINE
def test_a_large_class_does_not_hold_up_a_small_one(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "AT_ONCE", 1)
    derive, turns = posteriors.derive_and_store, list[str]()

    def derive_in_turn(*given: Any) -> Any:
        turns.append(given[4])
        return derive(*given)

    with swarm.database.write() as session:
        project = session.scalars(select(Project)).one()
        small = History(session, project, hardware=HARDWARE.model_copy(update={"cores": 4}))
        small.measure(small.add_worker("w2", "dora"), project.root_sha, 3.4)
        session.execute(update(EvidenceEpoch).values(underived_sha=project.root_sha))
    monkeypatch.setattr(posteriors, "derive_and_store", derive_in_turn)
    follow_decisions(swarm.database, inf)
    assert swarm.is_settled() and len(turns) > 20 and len(set(turns[:2])) == len(set(turns)) == 2


@ON_ONE_ENGINE
def test_a_class_whose_estimates_fail_holds_up_no_other(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    with swarm.database.write() as session:
        history = History(session, session.scalars(select(Project)).one(), hardware=OTHER_HARDWARE)
        history.measure(history.add_worker("w1", "eve"), history.project.root_sha, 3.3)
    estimate, broken = epochs.estimate, OTHER_HARDWARE.hardware_class

    def estimate_some(session: Session, contract: Contract, epoch: EpochRow) -> epochs.NextEpoch:
        if epoch.hardware_class == broken:
            raise ZeroDivisionError
        return estimate(session, contract, epoch)

    renewal.end_due_epochs(swarm.database, always=True)
    monkeypatch.setattr(epochs, "estimate", estimate_some)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            follow_decisions(swarm.database, inf)
    with swarm.database.read() as session:
        assert [epoch.hardware_class for epoch in list_unsettled(session)] == [broken]
    monkeypatch.setattr(epochs, "estimate", estimate)
    follow_decisions(swarm.database, inf)
    assert swarm.is_settled()


@ON_ONE_ENGINE
def test_what_rests_on_a_lie_is_doubted_even_while_estimates_fail(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(decisions, "AT_ONCE", 1)
    monkeypatch.setattr(epochs, "estimate", fail)
    swarm.decide("invented")
    with pytest.raises(ZeroDivisionError):
        follow_decisions(swarm.database, inf)
    assert [swarm.read()[sha][0] for sha in (swarm.child, swarm.grandchild)] == ["suspect"] * 2


@ON_ONE_ENGINE
def test_a_class_in_which_few_commits_of_a_line_were_measured_is_derived_rightly(swarm: Swarm) -> None:
    with swarm.database.write() as session:
        project = session.scalars(select(Project)).one()
        usual, rare = History(session, project), History(session, project, hardware=OTHER_HARDWARE)
        worker, other = usual.add_worker("w0", "cy"), rare.add_worker("w1", "eve")
        rare.measure(other, swarm.lie, 3.4)
        line = [swarm.grandchild]
        for _ in range(6):
            line.append(usual.add_experiment(worker, line[-1], 3.3, make_proposal()).commit_sha)
        for sha in (line[3], line[4], line[6]):
            rare.add_experiment(other, sha, 3.35, make_proposal())
    renewal.end_due_epochs(swarm.database, always=True)
    follow_decisions(swarm.database, inf)
    assert swarm.is_settled()
    swarm.check()


def add_results(swarm: Swarm, volunteer: str) -> None:
    """A newcomer measures the seed, and adds to the end of a line."""
    with swarm.database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        worker = history.add_worker("w1", volunteer)
        history.measure(worker, history.project.root_sha, 3.31)
        history.add_experiment(worker, swarm.grandchild, 3.28, make_proposal())


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_epoch_begins_while_a_worker_asks_for_a_job(swarm: Swarm) -> None:
    with swarm.database.begin() as claim, ThreadPoolExecutor(1) as thread:
        volunteer_id = claim.scalar(select(Volunteer.id).where(Volunteer.name == LIAR))
        assert volunteer_id is not None and lock_worker(claim, volunteer_id, "w9") is not None
        thread.submit(end_epochs, swarm.database, always=True).result(30)
