"""Prepared statements say what SQLAlchemy's own say, on both engines."""

from uuid import uuid4

import pytest
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from coordinator.db.database import Database
from coordinator.db.statements import Prepared
from coordinator.models import Event, Lease, Volunteer, Worker, table_of
from shared.protocol import now

EVENTS, WORKERS, VOLUNTEERS = table_of(Event), table_of(Worker), table_of(Volunteer)
ADD_VOLUNTEER = Prepared(insert(VOLUNTEERS).returning(VOLUNTEERS.c.id))
ADD_WORKER = Prepared(insert(WORKERS).returning(WORKERS.c.id, WORKERS.c.hardware, WORKERS.c.created_at))
CHANGE_WORKER = Prepared(update(WORKERS).where(WORKERS.c.id == bindparam("worker_id")))
BY_NAME = Prepared(
    select(WORKERS.c.name)
    .where(WORKERS.c.name.in_(bindparam("names", expanding=True)), WORKERS.c.agent.in_(["search", "openai"]))
    .order_by(WORKERS.c.name)
)


def describe(volunteer_id: int, name: str) -> dict[str, object]:
    return {
        "volunteer_id": volunteer_id, "name": name, "agent": "search", "hardware": {"cores": [1, 2]},
        "hardware_class": "cpu", "is_anchor": False, "state": "working", "state_reason": "", "state_at": now(),
        "created_at": now(), "last_seen_at": now(),
    }  # fmt: skip


@pytest.fixture
def volunteer_id(database: Database) -> int:
    with database.write() as session:
        return int(ADD_VOLUNTEER.scalar(session, {"name": "ada", "role": "volunteer", "created_at": now()}))


def test_types_are_what_the_models_promise(database: Database, volunteer_id: int) -> None:
    given = describe(volunteer_id, "w1")
    with database.write() as session:
        row = ADD_WORKER.first(session, given)
    assert row is not None
    assert row[1:] == (given["hardware"], given["created_at"])
    with database.read() as session:
        stored = session.get_one(Worker, row[0])
        assert (stored.hardware, stored.created_at) == row[1:]


def test_lists_of_any_length(database: Database, volunteer_id: int) -> None:
    with database.write() as session:
        for name in ("a", "b", "c"):
            ADD_WORKER.first(session, describe(volunteer_id, name))
        ADD_WORKER.first(session, describe(volunteer_id, "d") | {"agent": "scripted"})
        for names, found in (["a"], ["a"]), (["c", "b", "d"], ["b", "c"]), ([], []), (["x"], []), (["b"], ["b"]):
            assert BY_NAME.all(session, {"names": names}) == [(name,) for name in found]


def test_any_columns_may_change(database: Database, volunteer_id: int) -> None:
    with database.write() as session:
        worker_id = ADD_WORKER.scalar(session, describe(volunteer_id, "w1"))
        CHANGE_WORKER.run(session, {"worker_id": worker_id, "agent": "openai"})
        CHANGE_WORKER.run(session, {"worker_id": worker_id, "hardware": {}, "hardware_class": "gpu"})
        CHANGE_WORKER.run(session, {"worker_id": worker_id + 1, "agent": "nobody"})
    with database.read() as session:
        worker = session.get_one(Worker, worker_id)
        assert (worker.agent, worker.hardware, worker.hardware_class) == ("openai", {}, "gpu")


def test_one_transaction_with_the_session(database: Database) -> None:
    """Each sees the writes of the other, and an exception rolls both back."""
    count = Prepared(select(func.count()).select_from(VOLUNTEERS))
    given = {"role": "volunteer", "created_at": now()}
    with pytest.raises(KeyError), database.write() as session:
        session.add(Volunteer(name="ada", **given))
        session.flush()
        ADD_VOLUNTEER.run(session, {"name": "bob", **given})
        assert count.scalar(session, {}) == 2 == session.scalar(select(func.count()).select_from(Volunteer))
        raise KeyError
    with database.read() as session:
        assert count.scalar(session, {}) == 0
        assert count.first(session, {}) == (0,)


def test_errors_are_sqlalchemys(database: Database, volunteer_id: int) -> None:
    with pytest.raises(IntegrityError), database.write() as session:
        ADD_VOLUNTEER.run(session, {"name": "ada", "role": "volunteer", "created_at": now()})
    with database.read() as session:
        assert session.get_one(Volunteer, volunteer_id).name == "ada"


def test_defaults_of_models_must_be_given(database: Database) -> None:
    add = Prepared(insert(table_of(Lease)))
    with pytest.raises(AssertionError, match="need a value"), database.write() as session:
        add.run(session, {"id": uuid4()})
