"""Evidence in a real coordinator: offsets, epochs, quarantine, explanations; and all of it again from the runs."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf
from time import monotonic, sleep
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, select, text, update

from coordinator.db.database import Database
from coordinator.evidence import epochs, quarantine
from coordinator.evidence.posteriors import MANY
from coordinator.evidence.renewal import follow_decisions
from coordinator.models import Calibration, CommitPosterior, Event, EvidenceEpoch, Experiment, Project, Run
from shared.events import EventKind
from shared.leases import ResultUpload
from tests.support.messages import HARDWARE, make_proposal, make_result, make_run
from tests.support.swarm_data import History, end_epochs, write_history
from tests.support.volunteers import MiniWorker


def find_differences(database: Database) -> list[str]:
    with database.read() as session:
        return list(epochs.find_differences(session))


@pytest.fixture
def history_database(project: str, database: Database) -> Database:
    """A project with a history of three volunteers, one of whose machines measures 0.1 too high."""
    with database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        root = history.project.root_sha
        workers = [
            history.add_worker(f"w{number}", volunteer, is_anchor=True)
            for number, volunteer in enumerate(("ada", "bo", "cy"))
        ]
        bias = (0.0, 0.1, 0.0)
        for number, worker in enumerate(workers):
            history.measure(worker, root, 3.3 + bias[number])
        parent = root
        for step in range(1, 5):
            author = step % 3
            level = 3.3 - 0.05 * step
            parent = history.add_experiment(workers[author], parent, level + bias[author], make_proposal()).commit_sha
            for other in range(3):
                if other != author and step != 4:
                    history.measure(workers[other], parent, level + bias[other])
    return database


def test_offsets_are_seen_through(history_database: Database) -> None:
    with history_database.read() as session:
        metrics = sorted(row.metric_mean for row in session.scalars(select(CommitPosterior)))
        offsets = {row.worker_id: row.offset_mean for row in session.scalars(select(Calibration))}
    assert metrics == pytest.approx([3.1, 3.15, 3.2, 3.25, 3.3], abs=0.01)
    assert sorted(offset for offset in offsets.values() if offset is not None) == pytest.approx([0, 0, 0.1], abs=0.01)
    assert find_differences(history_database) == []


def test_a_measurement_reaches_measured_descendants_and_walks_to_no_others(project: str, database: Database) -> None:
    """In a class of its own, below a commit with more children than are looked at one by one."""
    steps: list[str] = []
    with database.write() as session:
        usual = History(session, session.scalars(select(Project)).one())
        root, worker = usual.project.root_sha, usual.add_worker()
        usual.measure(worker, root, 3.3)
        children = [usual.add_experiment(worker, root, 3.3, make_proposal(str(number))) for number in range(MANY + 2)]
        below = usual.add_experiment(worker, children[-1].commit_sha, 3.2, make_proposal("below")).commit_sha
        other = History(session, usual.project, hardware=HARDWARE.model_copy(update={"cores": 64}))
        newcomer = other.add_worker("w2", "bo")
        listener = lambda *given: steps.append(given[2]) if "commits.parent_sha IN" in given[2] else None  # noqa: E731
        event.listen(database.engine, "before_cursor_execute", listener)
        other.measure(newcomer, root, 3.3)
        assert len(steps) == 1, "the children were listed, and nothing below them"
        event.remove(database.engine, "before_cursor_execute", listener)
        other.measure(newcomer, below, 3.2)
        of_it = select(CommitPosterior.metric_mean).where(
            CommitPosterior.commit_sha == below, CommitPosterior.hardware_class == newcomer.hardware_class
        )
        before = session.scalars(of_it).one()
        other.measure(newcomer, root, 3.5)
        assert session.scalars(of_it).one() > before
    assert find_differences(database) == []


def test_what_two_others_confirm_is_verified(history_database: Database) -> None:
    with history_database.read() as session:
        standings = session.scalars(select(CommitPosterior.standing).order_by(CommitPosterior.rank_score.desc())).all()
    assert standings == ["provisional", "verified", "verified", "verified", "provisional"]


def test_an_epoch_estimates_all_offsets_again(history_database: Database) -> None:
    assert end_epochs(history_database, always=True) == 1
    assert end_epochs(history_database) == 0, "too few runs since"
    assert find_differences(history_database) == []
    with history_database.read() as session:
        epoch = session.scalars(select(EvidenceEpoch)).one()
        low, middle, high = sorted(session.scalars(select(Calibration.offset_mean)).all())
        spread = session.scalars(select(Calibration.offset_sd)).all()
    assert epoch.number == 1 and epoch.runs == 13 and 0 < epoch.noise_sd < 0.005
    assert high - low == pytest.approx(0.1, abs=0.01) and middle == pytest.approx(low, abs=0.01)
    assert all(0 < sd < 0.005 for sd in spread)


def test_an_epoch_holds_the_priors_that_its_experiments_teach(history_database: Database, http: TestClient) -> None:
    end_epochs(history_database, always=True)
    assert find_differences(history_database) == []
    (hardware_class,) = http.get("/api/v1/hardware-classes").json()["items"]
    common, of_improve = hardware_class["effect_priors"]
    assert (common["kind"], of_improve["kind"]) == (None, "improve")
    assert (common["effects"], common["volunteers"]) == (4, 3) and of_improve["mean"] < common["mean"] < 0
    told = http.get("/api/v1/experiments/4/evidence").json()
    assert told["effect_prior"] == of_improve
    assert "the change that 4 effects by 3 volunteers taught to expect" in told["story"][0]
    with history_database.write() as session:
        made_up = EvidenceEpoch.effects
        session.execute(update(EvidenceEpoch).values({made_up: {"all": [-0.1, 0.1, 0.0, 4, 3]}}))
    assert any("the priors of effects are" in line for line in find_differences(history_database))


def test_what_agents_predict_is_no_prior(history_database: Database) -> None:
    def end_epoch() -> tuple[list[tuple[float, float]], dict[str, Any]]:
        end_epochs(history_database, always=True)
        with history_database.read() as session:
            rows = session.execute(select(CommitPosterior.metric_mean, CommitPosterior.metric_sd)).all()
            return [(mean, sd) for mean, sd in rows], session.scalars(select(EvidenceEpoch.effects)).one() or {}

    end_epoch()
    before = end_epoch()
    with history_database.write() as session:
        session.execute(update(Experiment).values(predicted_effect=-0.5))
    assert end_epoch() == before
    with history_database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        author, parent = history.add_worker("w0", "ada"), session.get_one(Experiment, 4).commit_sha
        for predicted in (-0.5, 0.5):
            proposal = make_proposal().model_copy(update={"predicted_effect": predicted})
            history.add_experiment(author, parent, 3.05, proposal)
        one, other = session.scalars(select(CommitPosterior).order_by(CommitPosterior.rank_score).limit(2))
        assert (one.metric_mean, one.effect_mean, one.verdict) == (other.metric_mean, other.effect_mean, other.verdict)


def test_recompute_mends_what_was_changed(history_database: Database) -> None:
    with history_database.write() as session:
        session.execute(update(CommitPosterior).values(metric_mean=CommitPosterior.metric_mean + 0.01))
    assert len(find_differences(history_database)) == 5
    with history_database.write() as session:
        assert epochs.recompute(session) == 5
        assert epochs.recompute(session) == 0
    assert find_differences(history_database) == []


def test_a_changed_run_is_found(history_database: Database) -> None:
    with history_database.write() as session:
        session.execute(update(Run).where(Run.id == 2).values(metric=Run.metric + 0.001))
    lines = find_differences(history_database)
    assert any("the offset of worker" in line for line in lines) and any("metric_mean is" in line for line in lines)


def test_a_varied_history_follows_from_its_runs(project: str, database: Database) -> None:
    with database.write() as session:
        write_history(session, session.scalars(select(Project)).one(), count=40)
    assert find_differences(database) == []
    assert end_epochs(database) == 1, "far more runs than the first epoch began with"
    assert find_differences(database) == []


def test_quarantine_takes_unverified_runs_out_and_release_brings_them_back(history_database: Database) -> None:
    def read() -> dict[str, tuple[str, int]]:
        with history_database.read() as session:
            rows = session.scalars(select(CommitPosterior)).all()
            return {row.commit_sha: (row.standing, row.runs) for row in rows}

    with history_database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        bad, good = history.add_worker("w9", "mallory"), history.add_worker("w0", "ada")
        history.measure(bad, history.project.root_sha, 3.3)
        claimed = history.add_experiment(bad, history.project.root_sha, 3.0, make_proposal()).commit_sha
        built = history.add_experiment(good, claimed, 3.28, make_proposal()).commit_sha
    end_epochs(history_database, always=True)
    before = read()
    assert before[claimed][0] == before[built][0] == "provisional"
    with history_database.write() as session:
        assert quarantine.set_quarantine(session, "mallory", None, "its numbers do not repeat", "maintainer") == 2
    during = read()
    assert claimed not in during and during[built] == ("suspect", 1)
    assert find_differences(history_database) == [], "it is known that the class's estimates do not follow yet"
    with history_database.write() as session:
        assert quarantine.set_quarantine(session, "mallory", None, None, "maintainer") == 2
    assert read() == before
    with history_database.write() as session:
        assert quarantine.set_quarantine(session, "mallory", None, "they never did", "maintainer") == 2
    follow_decisions(history_database, inf)
    assert read() == during and find_differences(history_database) == []
    with history_database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        history.measure(history.add_worker("w2", "cy"), built, 3.28)
    assert read()[built] == ("provisional", 2), "tested again by another volunteer"
    with history_database.write() as session:
        assert quarantine.set_quarantine(session, "mallory", None, None, "maintainer") == 2
    after = read()
    assert after[claimed] == before[claimed] and after[built] == ("provisional", 2)
    follow_decisions(history_database, inf)
    assert read() == after and find_differences(history_database) == []


def test_who_is_in_quarantine_gets_no_job(worker: MiniWorker, database: Database) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    with database.write() as session:
        quarantine.set_quarantine(session, "ada", "w1", "a broken fan", "maintainer")
    reply = worker.claim(holding=[str(lease.id)])
    assert reply.lease is None and "a broken fan" in reply.reason
    with database.read() as session:
        logged = session.scalars(select(Event).where(Event.kind == EventKind.QUARANTINE_CHANGED)).one()
    assert (logged.data["reason"], logged.data["by"], logged.data["runs"]) == ("a broken fan", "maintainer", 1)
    with database.write() as session:
        assert quarantine.set_quarantine(session, "ada", "w1", None, "maintainer") == 1
    assert worker.claim(holding=[str(lease.id)]).lease is not None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("name", ["w1", None])
def test_a_result_that_is_stored_during_a_quarantine_does_not_count(
    worker: MiniWorker, database: Database, name: str | None
) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    files = {"train.py": "DEPTH = 5\n"}
    assert worker.propose(lease, files).accepted
    upload = make_result(lease, worker.files_of(lease), files)
    with ThreadPoolExecutor(2) as threads:
        with database.write() as session:  # what the result's transaction writes after it asked about quarantine
            session.scalars(select(Calibration).with_for_update()).one()
            result = threads.submit(worker.deliver, lease, upload)
            wait_for_waiting(database, 1)
            sanction = threads.submit(set_quarantine, database, "ada", name)
            wait_for_waiting(database, 2, sanction)
        assert result.result().status_code == 201 and sanction.result() == 2
    with database.read() as session:
        assert not any(session.scalars(select(Run.counts)))
        assert session.scalars(select(CommitPosterior)).all() == []


def set_quarantine(database: Database, volunteer: str, name: str | None) -> int:
    with database.write() as session:
        return quarantine.set_quarantine(session, volunteer, name, "broken", "maintainer")


def wait_for_waiting(database: Database, count: int, unless_done: Future[int] | None = None) -> None:
    """Wait until so many transactions wait for a lock."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    deadline = monotonic() + 60
    while not (unless_done and unless_done.done()):
        with database.read() as session:
            if session.scalar(query) == count:
                return
        assert monotonic() < deadline
        sleep(0.02)


def test_evidence_is_explained(worker: MiniWorker, make_worker: Callable[..., MiniWorker]) -> None:
    worker.measure_root(metric=3.3)
    _, reply = worker.experiment("DEPTH = 5\n", metric=3.25)
    told = worker.get_json(f"/experiments/{reply.experiment_id}/evidence")
    assert reply.posterior is not None
    assert told["after"] == reply.posterior.model_dump(mode="json")
    assert told["before"]["mean"] == pytest.approx(3.3) and told["before"]["sd"] > 0.05
    assert told["runs_say"] == {"mean": 3.25, "sd": 0.005}
    (run,) = told["runs"]
    assert run["is_authors"] and run["counts"] and run["read_as"] == 3.25 and run["offset"] == {"mean": 0, "sd": 0}
    assert told["milestone_probability"] > 0.999 and told["effect_probability"] > 0.999
    assert not told["is_claim_confirmed"], "nobody else has measured it"
    story = " ".join(told["story"])
    assert "Its 1 run by 1 volunteer, read without workers' offsets, gives 3.2500 ± 0.0050." in story
    assert "against its parent: improved, since it is a gain with probability over 99.99 %." in story
    words = " ".join(told["would_change"])
    assert "With 2 more runs by others that agree with those so far it would be improved, verified." in words
    assert "measured by 2 more volunteers" in words
    assert worker.http.get("/api/v1/experiments/99/evidence").status_code == 404
    page = worker.http.get(f"/experiments/{reply.experiment_id}").text
    assert "Possible changes" in page and "its author" in page
    assert "improved, since it is a gain" in page and page.count('<td class="bar">') == 3


def test_a_confirmed_claim_is_told(
    worker: MiniWorker, make_worker: Callable[..., MiniWorker], database: Database
) -> None:
    others = [make_worker(volunteer=name) for name in ("bo", "cy")]
    worker.measure_root(metric=3.3)
    _, reply = worker.experiment("DEPTH = 5\n", metric=3.2)
    for other in others:
        other.measure_root(metric=3.3)
    with database.write() as session:
        quarantine.set_anchor(session, "cy", "w1", is_anchor=True, who="maintainer")
    _deliver_until_measured(others, reply.experiment_id)
    told = worker.get_json(f"/experiments/{reply.experiment_id}/evidence")
    assert told["is_claim_confirmed"] and told["after"]["standing"] == "verified"
    assert {run["trust"] for run in told["runs"]} == {"newcomer", "anchor"}
    others_say = [run["read_as"] for run in told["runs"] if not run["is_authors"]]
    assert [run["is_in_posterior"] for run in told["runs"]] == [not run["is_authors"] for run in told["runs"]]
    assert told["runs_say"]["mean"] == pytest.approx(sum(others_say) / len(others_say), abs=1e-3)
    story, page = " ".join(told["story"]), worker.http.get(f"/experiments/{reply.experiment_id}").text
    assert "Its author's own result, for which it was picked, is left out now" in story
    assert "left out because others checked" in page
    assert "2 volunteers besides its author measured it." in story and "Its finding may claim the gain" in story
    assert not told["after"]["caches_emptied"] and "one process of a run could tell the next what it saw" in page


def _deliver_until_measured(workers: Sequence[MiniWorker], experiment_id: int | None) -> None:
    """Workers do their jobs, with the parent's metric for whatever is new, until each has measured an experiment."""
    waiting = {worker.name + str(number): worker for number, worker in enumerate(workers)}
    for attempt in range(40):
        for key, worker in list(waiting.items()):
            lease = worker.claim_job()
            if lease.kind.makes_experiment:
                text = f"DEPTH = {attempt + 10}{key[-1]}\n"
                assert worker.propose(lease, {"train.py": text}).accepted
                upload = make_result(lease, worker.files_of(lease), {"train.py": text}, 3.35)
            else:
                is_seed = lease.base.sha == lease.root_sha  # which an anchor measures first
                upload = ResultUpload(run=make_run(lease.base.sha, 3.3 if is_seed else 3.2))
                if not is_seed:
                    del waiting[key]
            assert worker.deliver(lease, upload).status_code == 201
        if not waiting:
            return
    pytest.fail(f"nobody was asked to measure #{experiment_id}")
