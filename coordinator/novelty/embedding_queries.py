"""Questions about stored embeddings."""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from coordinator.db.statements import Prepared
from coordinator.models import Embedding, table_of

ROWS_AT_ONCE = 2_000

_EMBEDDINGS = table_of(Embedding)


class EmbeddingRow(NamedTuple):
    """A stored vector, and what it belongs to: a `subject` (a kind of text) and its `key` there."""

    id: int
    project_id: int
    subject: str
    key: str
    vector: bytes


_AFTER = Prepared(
    select(*(_EMBEDDINGS.c[name] for name in EmbeddingRow._fields))
    .where(_EMBEDDINGS.c.model == bindparam("model"), _EMBEDDINGS.c.id > bindparam("last_id"))
    .order_by(_EMBEDDINGS.c.id)
    .limit(ROWS_AT_ONCE)
)
_BEFORE = "-before"
"""What is put behind the subject of vectors that were set aside."""

_ADD = Prepared(insert(_EMBEDDINGS).returning(_EMBEDDINGS.c.id))


def list_after(session: Session, model: str, last_id: int) -> Iterator[EmbeddingRow]:
    """The rows of a model with a higher number, in their order."""
    while rows := _AFTER.all(session, {"model": model, "last_id": last_id}):
        for row in rows:
            yield EmbeddingRow._make(row)
        last_id = rows[-1][0]


def has_any(session: Session) -> bool:
    """Whether a vector is stored, of whatever model."""
    return session.scalar(select(_EMBEDDINGS.c.id).limit(1)) is not None


def add_embedding(session: Session, project_id: int, subject: str, key: str, model: str, vector: bytes) -> EmbeddingRow:
    """Store a vector."""
    given = {"project_id": project_id, "subject": subject, "key": key, "model": model, "vector": vector}
    return EmbeddingRow(int(_ADD.scalar(session, given)), project_id, subject, key, vector)


def set_aside(session: Session, subject: str, key: str) -> list[EmbeddingRow]:
    """Leave a text without a vector; returns the rows as they were.

    They stay, under a subject that nobody looks for: so their numbers are not given again, by which indexes know what
    is new.
    """
    of_it = _EMBEDDINGS.c.subject == subject, _EMBEDDINGS.c.key == key
    rows = session.execute(select(*(_EMBEDDINGS.c[name] for name in EmbeddingRow._fields)).where(*of_it)).all()
    for row in rows:
        renamed = {"subject": subject + _BEFORE, "key": str(row.id)}
        session.execute(update(_EMBEDDINGS).where(_EMBEDDINGS.c.id == row.id).values(renamed))
    return [EmbeddingRow._make(row) for row in rows]
