"""Finds similar texts: embeds them before a transaction, stores vectors in it, compares with stored vectors."""

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Annotated

import structlog
from fastapi import Depends, Request

from coordinator.db.database import Database
from coordinator.db.engine import Conn
from coordinator.novelty import queries
from coordinator.settings import CoordinatorSettings

if TYPE_CHECKING:  # numpy and the model are loaded with the first text, and not when the coordinator starts
    from coordinator.novelty.embeddings import Embedder
    from coordinator.novelty.vector_index import Index, Neighbour, Vector

log = structlog.get_logger()

DEFERRED_AT_ONCE = 100


class Similarity:
    """Embeds, stores and finds. One for an application; safe to use from several threads.

    A `subject` is a kind of text, within which a `key` names one; only texts of one kind and project are compared.
    """

    def __init__(self, database: Database, settings: CoordinatorSettings) -> None:
        self._database, self._settings = database, settings
        self._opening, self._indexing = Lock(), Lock()
        self._embedder: Embedder | None = None
        self._last_deferred_id = 0
        self._index: Index | None = None
        self._is_caught_up = False

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
        self, session: Conn, project_id: int, subject: str, vector: "Vector", limit: int
    ) -> "list[Neighbour] | None":
        """The nearest stored texts, the nearest first; None until `prepare` has built the index."""
        return self._index.find(session, project_id, subject, vector, limit) if self._index else None

    def prepare(self) -> None:
        """Build the index once there is anything to put into it, which may take minutes: not for a request.

        Call it again and again: the embedder may be away, and the second call after the build takes in what came since.
        """
        from coordinator.novelty.vector_index import open_index  # noqa: PLC0415 - see above

        with self._indexing:
            if self._index is not None:
                if not self._is_caught_up:  # with what was stored meanwhile, and left to us
                    self._index.catch_up(self._database)
                    self._is_caught_up = True
                return
            with self._database.read() as session:
                is_needed = self._embedder is not None or queries.has_any(session)
            if is_needed and (vector := self.embed(["words"])) is not None:
                self._index = open_index(self._database, self.embedder.name, len(vector))

    def store(self, session: Conn, project_id: int, subject: str, key: str, vector: "Vector") -> None:
        """Keep a vector, in the session's transaction."""
        from coordinator.novelty.vector_index import pack  # noqa: PLC0415 - see above

        row = queries.add_embedding(session, project_id, subject, key, self.embedder.name, pack(vector))
        if self._index:
            self._index.add(session, row)

    def defer(self, session: Conn, project_id: int, subject: str, key: str, parts: Sequence[str]) -> None:
        """Have a text embedded and stored later (`store_deferred`), in the place of its earlier words if it had any."""
        queries.add_deferred(session, project_id, subject, key, parts)

    def store_deferred(self) -> None:
        """Give the deferred texts their vectors, as long as the embedder can be asked, and prepare the index where that
        could not be done before. Only one thread may call it.

        The next call begins after the text at which the embedder failed, so that one bad text does not hold up others.
        """
        self.prepare()
        while True:
            with self._database.read() as session:
                texts = queries.list_deferred(session, self._last_deferred_id, DEFERRED_AT_ONCE)
            if not texts:
                self._last_deferred_id = 0
                return
            for text in texts:
                self._last_deferred_id = text.id
                vector = self.embed(text.parts)
                if vector is None:
                    return
                with self._database.write() as session:
                    if queries.remove_deferred(session, text.id):  # else another process was faster
                        self.forget(session, text.subject, text.key)
                        self.store(session, text.project_id, text.subject, text.key, vector)

    def count_deferred(self, session: Conn, subject: str, limit: int) -> int:
        """The number of a kind's texts that `store_deferred` has still to do, at most `limit`."""
        return queries.count_deferred(session, subject, limit)

    def forget(self, session: Conn, subject: str, key: str) -> None:
        """A text says something else now: its vector is found no more, as soon as it gets another."""
        for row in queries.set_aside(session, subject, key):
            if self._index:
                self._index.remove(session, row)


async def _get_similarity(request: Request) -> Similarity:
    similarity = request.app.state.similarity
    assert isinstance(similarity, Similarity)
    return similarity


CurrentSimilarity = Annotated[Similarity, Depends(_get_similarity)]
