"""The first lease to propose code reserves it."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from sqlalchemy import text

from coordinator.db.database import Database
from coordinator.models import Lease, Project
from coordinator.novelty.service import Duplicate, describe_code, find_duplicate, list_holders
from tests.support.messages import make_proposal
from tests.support.swarm_data import History

CODE = describe_code("a1" * 20, "b2" * 20, make_proposal(), {"train.py": "DEPTH = 4\n"}, {"train.py": "DEPTH = 5\n"})


def is_waiting(database: Database, asking: Future[Duplicate | None]) -> bool:
    """Whether the second is stopped by the first. Of SQLite's writers it is by construction."""
    if database.backend == "sqlite" or asking.done():
        return True
    with database.engine.connect() as connection:
        return bool(connection.scalar(text("select count(*) from pg_locks where not granted")))


def test_two_workers_with_one_idea_at_the_same_moment(database: Database, project: str) -> None:
    with database.write() as session:
        row = session.query(Project).filter_by(name=project).one()
        history = History(session, row)
        first, second = (history.add_lease(history.add_worker(name), row.root_sha).id for name in ("w1", "w2"))
        project_id = row.id

    def ask() -> Duplicate | None:
        with database.write() as session:
            return find_duplicate(session, project_id, CODE, list_holders(session, project_id, CODE, second))

    with ThreadPoolExecutor(max_workers=1) as pool:
        with database.write() as session:
            assert find_duplicate(session, project_id, CODE, list_holders(session, project_id, CODE, first)) is None
            asking = pool.submit(ask)
            deadline = time.monotonic() + 30
            while not is_waiting(database, asking):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            lease = session.get_one(Lease, first)
            lease.proposed_tree_sha, lease.proposed_fingerprint = CODE.tree_sha, CODE.fingerprint
        duplicate = asking.result(timeout=30)
    assert duplicate is not None and "Another worker" in duplicate.reason
