"""Counts of what volunteers contributed, on both engines: as runs come, after a quarantine, and verified gains."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.evidence.quarantine import set_quarantine
from coordinator.models import CommitPosterior, Experiment, Run, Volunteer
from coordinator.projects.service import create_project
from coordinator.records import contributions, progress
from coordinator.records.contributions import ALL_TIME, NOTHING, Contributed, name_month
from shared.experiments import Standing
from shared.protocol import now
from shared.workers import LeaderboardOrder, LeaderboardPeriod
from tests.support.messages import make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import History


@pytest.fixture
def history(database: Database, tmp_path: Path) -> int:
    with database.write() as session:
        project, _ = create_project(session, write_seed(tmp_path / "seed"))
        history = History(session, project)
        ada, bob = history.add_worker("w1", "ada"), history.add_worker("w2", "bob")
        sha = history.add_experiment(ada, project.root_sha, 3.0, make_proposal("One")).commit_sha
        history.add_experiment(ada, project.root_sha, None, make_proposal("Two"))
        history.measure(bob, sha, 3.0)
        session.execute(update(Run).values(total_seconds=1800.0))
        session.flush()
        return project.id


def read(session: Session, month: str = ALL_TIME) -> dict[str, Contributed]:
    names = {row.id: row.name for row in session.execute(select(Volunteer.id, Volunteer.name))}
    return {names[key]: done for key, done in contributions.map_contributed(session, month).items()}


@pytest.mark.usefixtures("history")
def test_counts_follow_runs_and_quarantine(database: Database) -> None:
    progress.follow_runs(database)
    with database.read() as session:
        done, month = read(session), read(session, name_month(now()))
        assert (done["ada"].runs, done["ada"].experiments, done["bob"].runs) == (2, 2, 1)
        assert done["ada"].gpu_hours + done["ada"].cpu_hours == 1.0 and month == done
        assert read(session, "1999-01") == {}
    progress.follow_runs(database)
    with database.write() as session:
        assert read(session) == done, "no run is counted twice"
        assert list(contributions.find_differences(session)) == []
        set_quarantine(session, "bob", None, "lies", "mod")
    progress.follow_runs(database)
    with database.write() as session:
        assert read(session).get("bob", NOTHING).runs == 0 and read(session)["ada"] == done["ada"]
        set_quarantine(session, "bob", None, None, "mod")
    progress.follow_runs(database)
    with database.write() as session:
        assert read(session) == done
        progress.rebuild(session)
        assert read(session) == done and list(contributions.find_differences(session)) == []
        session.execute(update(Run).values(counts=False))
        assert len(list(contributions.find_differences(session))) == 1, "it is found that the runs say otherwise"


@pytest.mark.usefixtures("history")
def test_a_month_has_the_runs_that_ended_in_it(database: Database) -> None:
    """Not those that were stored in it: an import brings old ones; where the end is not known, no month has them."""
    with database.write() as session:
        first, second, third = session.scalars(select(Run).order_by(Run.id))
        first.finished_at, second.finished_at = datetime(2024, 5, 3, tzinfo=UTC), None
        third.finished_at = datetime(2024, 6, 3, tzinfo=UTC)
    progress.follow_runs(database)
    with database.read() as session:
        assert read(session, "2024-05")["ada"].runs == 1 and read(session)["ada"].runs == 2
        assert read(session, "2024-06").keys() == {"bob"} and read(session, name_month(now())) == {}


def test_a_verified_gain_is_in_percent_of_where_it_started(database: Database, history: int) -> None:
    with database.write() as session:
        experiment = session.scalars(select(Experiment).order_by(Experiment.id)).first()
        assert experiment is not None
        session.execute(
            update(CommitPosterior)
            .where(CommitPosterior.commit_sha == experiment.commit_sha)
            .values(standing=Standing.VERIFIED, milestone_mean=-0.25, milestone_sd=0.013, metric_mean=3.0)
        )
    progress.follow_runs(database)
    with database.write() as session:
        month = contributions.view_leaderboard(session, LeaderboardPeriod.MONTH, LeaderboardOrder.GAIN, None)
        assert [(row.rank, row.name, row.verified) for row in month.items] == [(1, "ada", 1)]
        assert month.items[0].gain_percent == pytest.approx(100 * 0.25 / 3.25)
        assert month.items[0].gain_sd_percent == pytest.approx(100 * 0.013 / 3.25)
        session.execute(update(Experiment).values(done_at=now() - timedelta(days=40)))
        assert contributions.map_gained(session, now() - timedelta(days=31)) == {}
        ada = contributions.map_gained(session, None, history)
        assert [gained.commits for gained in ada.values()] == [1]
        again = contributions.view_leaderboard(session, LeaderboardPeriod.MONTH, LeaderboardOrder.GAIN, None)
        assert again.counted_at == month.counted_at, "a leaderboard is kept for a minute"
