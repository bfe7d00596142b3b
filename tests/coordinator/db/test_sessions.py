"""Sessions that begin by themselves: one transaction whoever asks for it, and nothing is held afterwards."""

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from coordinator.db.database import Database
from coordinator.db.statements import Prepared
from coordinator.models import Volunteer, table_of
from shared.protocol import now

VOLUNTEERS = table_of(Volunteer)
ADD = Prepared(insert(VOLUNTEERS))
NAMES = Prepared(select(VOLUNTEERS.c.name).order_by(VOLUNTEERS.c.name))


def describe(name: str) -> dict[str, object]:
    return {"name": name, "role": "volunteer", "created_at": now()}


def names(database: Database) -> list[str]:
    with database.read() as session:
        return [name for (name,) in NAMES.all(session, {})]


def test_prepared_statements_and_sqlalchemy_share_a_transaction(database: Database) -> None:
    with database.write() as session:
        ADD.run(session, describe("ada"))  # the driver's connection first, SQLAlchemy's on top of it
        assert session.scalar(select(Volunteer.name)) == "ada"
        session.add(Volunteer(**describe("bob")))
        session.flush()
        assert [name for (name,) in NAMES.all(session, {})] == ["ada", "bob"]
        assert names(database) == []  # nobody else sees it yet
    assert names(database) == ["ada", "bob"]


@pytest.mark.parametrize("through_sqlalchemy", [False, True])
def test_what_is_raised_takes_everything_back(database: Database, through_sqlalchemy: bool) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:
        ADD.run(session, describe("ada"))
        if through_sqlalchemy:
            session.add(Volunteer(**describe("bob")))
            session.flush()
        raise ZeroDivisionError
    assert names(database) == []
    with database.write() as session:  # the next writer has its turn
        ADD.run(session, describe("cleo"))
    assert names(database) == ["cleo"]


def test_reading_changes_nothing(database: Database) -> None:
    if database.backend == "sqlite":
        with database.read() as session:
            ADD.run(session, describe("ada"))
    else:
        with pytest.raises(Exception, match="read-only"), database.read() as session:
            ADD.run(session, describe("ada"))
    assert names(database) == []


def test_a_reading_session_sees_one_moment(database: Database) -> None:
    with database.read() as session:
        assert NAMES.all(session, {}) == []
        with database.write() as other:
            ADD.run(other, describe("ada"))
        assert NAMES.all(session, {}) == []
    assert names(database) == ["ada"]


@pytest.mark.parametrize("through_sqlalchemy", [False, True])
def test_a_commit_that_fails_leaves_nothing_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch, through_sqlalchemy: bool
) -> None:
    def fail(_connection: object) -> None:
        error = database.engine.dialect.loaded_dbapi.OperationalError
        raise error("disk I/O error")

    with monkeypatch.context() as patched, pytest.raises(OperationalError), database.write() as session:
        ADD.run(session, describe("ada"))
        if through_sqlalchemy:
            session.add(Volunteer(**describe("bob")))
        patched.setattr(database.engine.dialect, "do_commit", fail)
    assert names(database) == []
    with database.write() as session:
        ADD.run(session, describe("cleo"))
    assert names(database) == ["cleo"]


def test_errors_of_statements_are_sqlalchemys(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as session:
        ADD.run(session, describe("ada"))
        ADD.run(session, describe("ada"))
    assert names(database) == []


def test_connections_are_given_back_whatever_happens(database_url: str) -> None:
    database = Database(database_url)
    database.migrate()
    for _ in range(3):
        with database.read() as session, database.read() as other:
            assert names(database) == NAMES.all(session, {}) == NAMES.all(other, {}) == []
        with pytest.raises(IntegrityError), database.write() as session:
            ADD.run(session, describe("ada"))
            ADD.run(session, describe("ada"))
        with database.look_and_write() as (read, write):  # the first transaction ends where the second begins
            assert NAMES.all(read, {}) == NAMES.all(write, {}) == []
        assert database.count_held() == 0
    database.close()
    with database.write() as session:  # a new connection
        ADD.run(session, describe("ada"))
    assert names(database) == ["ada"]
    database.close()
