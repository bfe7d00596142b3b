"""Findings by their meaning: each has a vector, and so has a question (coordinator/novelty/similarity.py).

Vectors are made outside the requests that bring findings in, by a task that looks every few seconds for findings
without one: so neither a slow endpoint nor an import holds anybody up, and another model's vectors come by themselves.
Until then a finding is found by its words. A revision defers a finding's new words, and so it gets a vector anew.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from coordinator.background import BackgroundTasks
from coordinator.db.cache import CachePerDatabase
from coordinator.db.database import Database
from coordinator.experiments.tokenizer import spell_out
from coordinator.findings import queries
from coordinator.models import Experiment, Finding
from coordinator.novelty.similarity import Similarity
from shared.claims import drop_numbers

SUBJECT = "finding"
"""The kind of text that these embeddings are of; their keys are findings' numbers."""

AT_ONCE = 200

LOOK_BACK = 200
"""Findings below the newest one that are looked at again: on PostgreSQL a lower number may be committed later."""

MAX_WAITING = 1_000
"""Largest number of waiting findings that is counted, of those that came in and of those that were revised."""

MAX_ASKED = 4_000
"""Largest number of nearest findings that are asked for because nearer ones are hidden."""

_CHECKED = CachePerDatabase[str, int](8)
"""Up to which number all findings have vectors of a model, by the model."""


def find_by_meaning(
    session: Session, similarity: Similarity, words: str, project_ids: Sequence[int], limit: int
) -> list[int] | None:
    """Findings of similar meaning, the nearest first; None while the embedder or the index is not available."""
    vector = similarity.embed([spell_out(words)], is_request=True)
    if vector is None:
        return None
    asked = limit
    while True:
        found = []
        for project_id in project_ids:
            near = similarity.find(session, project_id, SUBJECT, vector, asked)
            if near is None:
                return None
            found += near
        ids = [int(one.key) for one in sorted(found, key=lambda one: (-one.similarity, -int(one.key)))]
        shown = queries.keep_unhidden(session, ids)
        if len(shown) >= limit or len(found) < asked or asked >= MAX_ASKED:
            return [finding_id for finding_id in ids if finding_id in shown][:limit]
        asked *= 4  # hidden findings, whose vectors stay, must not take the places of others


def count_waiting(session: Session, similarity: Similarity) -> int:
    """The number of findings that cannot be found by their meaning yet, at most twice MAX_WAITING.

    Before this process has looked at all findings once, only the newest are counted.
    """
    model = similarity.embedder.name
    after_id = (_CHECKED.for_database(session).find(model) or 0) - LOOK_BACK
    new = queries.count_without_vector(session, model, SUBJECT, after_id, MAX_WAITING)
    return new + similarity.count_deferred(session, SUBJECT, MAX_WAITING)


def embed_missing(database: Database, similarity: Similarity, after_id: int = 0) -> int:
    """Give vectors to findings that have none; returns up to which number all have one. Stops at a failing embedder."""
    while True:
        with database.read() as session:
            rows = queries.list_without_vector(session, similarity.embedder.name, SUBJECT, after_id, AT_ONCE)
            newest = queries.find_newest_id(session)
        if not rows:
            return newest
        made = []
        for finding, experiment in rows:
            if (vector := similarity.embed(describe(finding, experiment))) is None:
                break
            made.append((finding, vector))
        with database.write() as session:
            for finding, vector in made:
                similarity.store(session, finding.project_id, SUBJECT, str(finding.id), vector)
        after_id = max(after_id, *(finding.id for finding, _ in made), 0)
        if len(made) < len(rows):
            return after_id


def describe(finding: Finding, experiment: Experiment) -> list[str]:
    """A finding's subject and its statements, as two texts that weigh the same."""
    about = f"{experiment.title}. {drop_numbers(finding.claim)} {experiment.axis} {experiment.value}"
    texts = (drop_numbers(text) for text in (finding.mechanism, finding.caveats, finding.follow_ups))
    says = " ".join((experiment.hypothesis, *texts)).strip()
    return [spell_out(part) for part in (about, says) if part]


@asynccontextmanager
async def run_meaning(app: FastAPI) -> AsyncIterator[None]:
    """Look for findings without a vector while the application lives. Replicas may all do so."""
    database: Database = app.state.database
    tasks: BackgroundTasks = app.state.background
    similarity: Similarity = app.state.similarity
    seconds = app.state.settings.meaning_check_seconds
    async with (
        tasks.repeat("vector index", 0, similarity.prepare, until_success=True),
        tasks.repeat("deferred embeddings", seconds, similarity.store_deferred),
        tasks.repeat("embeddings of findings", seconds, lambda: keep_up(database, similarity)),
    ):
        yield


def keep_up(database: Database, similarity: Similarity) -> None:
    """Give vectors to findings that came in since the last call, or since the beginning."""
    with database.read() as session:
        checked, newest = _CHECKED.for_database(session), queries.find_newest_id(session)
    if newest:  # else the model is not even named
        through_id = checked.find(similarity.embedder.name) or 0
        similarity.prepare()  # before, so that no finding has a vector that cannot be searched
        with suppress(IntegrityError):  # another replica was faster
            done = embed_missing(database, similarity, through_id - LOOK_BACK)
            checked.store(similarity.embedder.name, max(through_id, done))
