"""Finds similar texts: embeds them before a transaction, stores vectors in it, compares with stored vectors."""

from collections import deque
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Annotated, NamedTuple

import structlog
from fastapi import Depends, Request
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.db.engine import UNAVAILABLE_ERRORS
from coordinator.novelty import queries
from coordinator.settings import CoordinatorSettings

if TYPE_CHECKING:  # numpy and the model are loaded with the first text, and not when the coordinator starts
    from coordinator.novelty.embeddings import Embedder
    from coordinator.novelty.vector_index import Index, Neighbour, Vector

log = structlog.get_logger()


MAX_DEFERRED = 1_000
"""Number of texts that wait for a vector; beyond it the oldest get none."""


class DeferredText(NamedTuple):
    """A text without a vector, in `parts` that weigh the same. `subject` and `key` are those of `Similarity.store`."""

    project_id: int
    subject: str
    key: str
    parts: Sequence[str]


class Similarity:
    """Embeds, stores and finds. One for an application; safe to use from several threads.

    A `subject` is a kind of text, within which a `key` names one; only texts of one kind and project are compared.
    """

    def __init__(self, database: Database, settings: CoordinatorSettings) -> None:
        self._database, self._settings = database, settings
        self._opening, self._indexing = Lock(), Lock()
        self._embedder: Embedder | None = None
        self._deferred = deque[DeferredText](maxlen=MAX_DEFERRED)
        self._index: Index | None = None

    def embed(self, parts: Sequence[str], *, is_request: bool = False) -> "Vector | None":
        """One vector for a text in parts that weigh the same; None where the embedder cannot be asked now.

        A request waits about a second at most, a background task longer.
        """
        from coordinator.novelty.embeddings import EmbeddingError, average  # noqa: PLC0415 - see above

        embed = self.embedder.embed_for_request if is_request else self.embedder.embed
        try:
            return average(embed(parts))
        except EmbeddingError as error:
            log.warning("similar texts are not searched", error=str(error))
            return None

    @property
    def embedder(self) -> "Embedder":
        """The embedder that the settings name, made when it is asked for first."""
        from coordinator.novelty.embeddings import make_embedder  # noqa: PLC0415 - see above

        with self._opening:
            if self._embedder is None:
                self._embedder = make_embedder(self._settings)
            return self._embedder

    def find(
        self, session: Session, project_id: int, subject: str, vector: "Vector", limit: int
    ) -> "list[Neighbour] | None":
        """The nearest stored texts, the nearest first; None while the index is being built."""
        index = self._open_index(vector)
        return index.find(session, project_id, subject, vector, limit) if index else None

    def prepare(self) -> None:
        """Make the index now, if there is anything to put into it: so no request has to wait for it."""
        with self._database.read() as session:
            is_empty = not queries.has_any(session)
        if not is_empty and (vector := self.embed(["words"])) is not None:
            self._open_index(vector)

    def store(self, session: Session, project_id: int, subject: str, key: str, vector: "Vector") -> None:
        """Keep a vector, in the session's transaction."""
        from coordinator.novelty.vector_index import pack  # noqa: PLC0415 - see above

        index, model = self._open_index(vector), self.embedder.name
        row = queries.add_embedding(session, project_id, subject, key, model, pack(vector))
        if index:
            index.add(session, row)

    def defer(self, text: DeferredText) -> None:
        """Embed and store a text later (`store_deferred`). Deferred texts are lost when the process ends."""
        self._deferred.append(text)

    def store_deferred(self) -> None:
        """Give the deferred texts their vectors, as long as the embedder can be asked."""
        for _ in range(len(self._deferred)):
            text = self._deferred.popleft()
            vector = self.embed(text.parts)
            if vector is None:
                self._deferred.appendleft(text)
                return
            try:
                with self._database.write() as session:
                    self.store(session, text.project_id, text.subject, text.key, vector)
            except UNAVAILABLE_ERRORS:
                self._deferred.appendleft(text)
                raise
            except IntegrityError:
                log.info("a deferred text has a vector already", subject=text.subject, key=text.key)

    def forget(self, session: Session, subject: str, key: str) -> None:
        """A text says something else now: its vector is found no more, as soon as it gets another."""
        from coordinator.novelty.vector_index import unpack  # noqa: PLC0415 - see above

        for row in queries.set_aside(session, subject, key):
            index = self._open_index(unpack(row.vector))
            if index:
                index.remove(session, row)

    def _open_index(self, vector: "Vector") -> "Index | None":
        """The index; None while another thread makes it, which may take minutes."""
        from coordinator.novelty.vector_index import open_index  # noqa: PLC0415 - see above

        if self._index is None and self._indexing.acquire(blocking=False):
            try:
                if self._index is None:
                    self._index = open_index(self._database, self.embedder.name, len(vector))
                    self._index.catch_up(self._database)  # with what came in meanwhile, and was left to us
            finally:
                self._indexing.release()
        return self._index


async def _get_similarity(request: Request) -> Similarity:
    similarity = request.app.state.similarity
    assert isinstance(similarity, Similarity)
    return similarity


CurrentSimilarity = Annotated[Similarity, Depends(_get_similarity)]
