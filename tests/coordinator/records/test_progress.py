"""Progress from bins that are kept as runs come, and from the runs beyond them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.evidence.quarantine import set_quarantine
from coordinator.models import Project, StoredBin
from coordinator.projects.service import create_project
from coordinator.records import bins, progress
from coordinator.records.bins import Bin
from coordinator.records.progress import ClassHistory
from coordinator.records.progress_queries import Scope
from shared.protocol import API_PREFIX
from tests.support.messages import make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import History, crash

RUNS = 30


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of four bins, so that few runs show what many do."""
    monkeypatch.setattr(bins, "MAX_BINS", 4)


@pytest.fixture
def stored(database_url: str, tmp_path: Path) -> Iterator[tuple[Database, History, Scope]]:
    """A database with a project in which nothing was measured yet."""
    database = Database(database_url)
    with database.write() as session:
        made, _ = create_project(session, write_seed(tmp_path / "seed"))
        history = History(session, made)
        worker = history.add_worker()
        scope = progress.scope_of(made, worker.hardware_class)
        yield database, history, scope
    database.close()


def measure(history: History, count: int) -> None:
    """`count` experiments, each a little better than the one before; every fifth crashes."""
    worker = history.add_worker()
    for number in range(count):
        metric = None if number % 5 == 4 else 3.3 - 0.001 * number
        changes = crash() if metric is None else {}
        history.add_experiment(worker, history.project.root_sha, metric, make_proposal(f"try {number}"), **changes)


def read(history: History, scope: Scope) -> ClassHistory:
    history.session.flush()
    return progress.read_history(history.session, scope)


@pytest.mark.usefixtures("narrow")
def test_bins_that_are_kept_and_runs_beyond_them_are_one_history(stored: tuple[Database, History, Scope]) -> None:
    _, history, scope = stored
    measure(history, 7)
    alone = read(history, scope)
    assert (alone.runs, alone.width, [one.runs for one in alone.bins]) == (7, 2, [2, 2, 2, 1])
    progress.advance(history.session, scope)
    assert read(history, scope) == alone, "what is kept says the same"
    measure(history, RUNS - 7)
    before = read(history, scope)
    progress.advance(history.session, scope)
    after = read(history, scope)
    assert (after.runs, after.width, [one.runs for one in after.bins]) == (RUNS, 8, [8, 8, 8, 6])
    assert after == before
    assert sum(one.crashed for one in after.bins) == 1 + 4
    assert after.leader is not None and after.bins[-1].leading == after.leader.metric_mean
    assert list(progress.find_differences(history.session)) == []
    history.session.query(StoredBin).filter(StoredBin.number == 1).update({"best": 0.5})
    assert len(list(progress.find_differences(history.session))) == 1
    progress.rebuild(history.session)
    assert list(progress.find_differences(history.session)) == []
    assert [one._replace(leading=None) for one in read(history, scope).bins] == [
        one._replace(leading=None) for one in after.bins
    ]


@pytest.mark.usefixtures("narrow")
def test_a_range_is_as_narrow_as_it_may_be(stored: tuple[Database, History, Scope]) -> None:
    _, history, scope = stored
    measure(history, RUNS)
    progress.advance(history.session, scope)
    whole = read(history, scope)
    singles = progress.read_range(history.session, scope, whole, 11, 14)
    assert (singles.width, singles.first, len(singles.marks)) == (1, 11, 4)
    assert [mark.metric for mark in singles.marks[:2]] == pytest.approx([3.29, 3.289])
    pairs = progress.read_range(history.session, scope, whole, 9, 16)
    assert (pairs.width, [one.runs for one in pairs.bins], pairs.bins[0].number) == (2, [2, 2, 2, 2], 4)
    assert progress.read_range(history.session, scope, whole, 1, RUNS).bins == whole.bins
    assert progress.read_range(history.session, scope, whole, 99, 120).marks == []


def test_a_quarantine_takes_runs_out_of_the_best(stored: tuple[Database, History, Scope]) -> None:
    _, history, scope = stored
    measure(history, 3)
    liar = history.add_worker("w9", "mallory")
    history.add_experiment(liar, history.project.root_sha, 2.9, make_proposal("too good"))
    progress.advance(history.session, scope)
    assert min(one.best for one in read(history, scope).bins if one.best) == 2.9
    set_quarantine(history.session, "mallory", None, "invented", "ada")
    assert progress.kept_queries.list_behind(history.session) == [scope[:2]]
    progress.advance(history.session, scope)
    cleared = read(history, scope)
    assert cleared.runs == 4, "the run is still told of"
    assert min(one.best for one in cleared.bins if one.best) == pytest.approx(3.298)
    assert list(progress.find_differences(history.session)) == []


def test_neighbours_join_to_what_their_runs_give() -> None:
    one = Bin(2, 10, 11, 2, 1, 1, 0, 0, 0, 3.1, 10, 3.2)
    other = Bin(3, 12, 13, 2, 2, 0, 0, 0, 0, 3.0, 13, 3.15)
    assert bins.widen([one, other], 2, 1.0) == [Bin(1, 10, 13, 4, 3, 1, 0, 0, 0, 3.0, 13, 3.15)]
    assert bins.widen([one, other], 2, -1.0)[0].best == 3.1
    assert [bins.choose_width(runs) for runs in (0, 600, 601, 100_000)] == [1, 1, 2, 256]


def test_the_task_counts_what_came(http: TestClient, database: Database, project: str) -> None:
    with database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        measure(history, 6)
    before = http.get(f"{API_PREFIX}/projects/{project}/progress").json()
    topics = http.get(f"{API_PREFIX}/topics", params={"project": project}).json()
    progress.follow_runs(database)
    assert http.get(f"{API_PREFIX}/projects/{project}/progress").json() == before
    assert http.get(f"{API_PREFIX}/topics", params={"project": project}).json() == topics
    assert before["runs"] == 6 and before["experiments"] == 6 and len(before["points"]) == 6
    newest = http.get(f"{API_PREFIX}/projects/{project}/progress", params={"first": 6}).json()
    assert [point["number"] for point in newest["points"]] == [6] and newest["runs"] == 6
    with database.read() as session:
        assert list(progress.find_differences(session)) == []
        assert session.scalars(select(StoredBin)).first() is not None
