"""Opening a database that another version of this program wrote: its schema, and what follows from its rows."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from coordinator.db.database import Database
from coordinator.evidence import epochs
from coordinator.findings import service as findings


def upgrade(database: Database) -> bool:
    """Bring schema and posteriors up to date. Returns whether the database was empty. Raises DatabaseError."""
    was_empty = database.migrate()
    with database.read() as session:
        is_up_to_date = epochs.is_up_to_date(session)
    if not is_up_to_date:
        with database.write() as session:
            epochs.bring_up_to_date(session)
    with database.read() as session:
        is_indexed = findings.is_indexed(session)
    if not is_indexed:
        with database.write() as session:
            findings.index_missing(session)
    return was_empty


@contextmanager
def open_upgraded(url: str) -> Iterator[Database]:
    """The database at an address, up to date. Raises DatabaseError."""
    with closing(Database(url)) as database:
        upgrade(database)
        yield database
