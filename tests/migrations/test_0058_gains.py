"""The counts of topics' gains that the revision makes are those that the coordinator keeps."""

from importlib import import_module
from pathlib import Path

from sqlalchemy import text, update

from coordinator.db.database import Database
from coordinator.models import CommitPosterior, TopicCount
from coordinator.projects.service import create_project
from coordinator.records import progress
from tests.support.seeds import write_seed
from tests.support.swarm_data import write_history

COUNTED = text("select topic, gains_seen, gains_measured_again, gains_held from topic_counts order by topic")


def test_the_gains_of_topics_are_counted_from_the_rows(database_url: str, tmp_path: Path) -> None:
    database = Database(database_url)
    count = import_module("migrations.versions.0058_topics_count_gains").COUNT
    with database.write() as session:
        write_history(session, create_project(session, write_seed(tmp_path / "seed"))[0], 20)
        session.execute(update(CommitPosterior).values(checkers=1))
        progress.rebuild(session)
    with database.write() as session:
        kept = session.execute(COUNTED).all()
        session.execute(update(TopicCount).values(gains_seen=0, gains_measured_again=0, gains_held=0))
        session.execute(text(count))
        assert session.execute(COUNTED).all() == kept
    assert sum(row.gains_seen for row in kept) > 0 and sum(row.gains_held for row in kept) > 0
    database.close()
