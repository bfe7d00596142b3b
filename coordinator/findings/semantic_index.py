"""Findings by their meaning: each has a vector, and so has a question (coordinator/novelty/similarity.py).

Vectors are made outside the requests that bring findings in, by a task that looks every few seconds for findings
without one: so neither a slow endpoint nor an import holds anybody up, and another model's vectors come by themselves.
Until then a finding is found by its words. A revision leaves a finding without a vector, and so it gets one anew.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from fastapi import FastAPI
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from coordinator.background import BackgroundTasks
from coordinator.db.database import Database
from coordinator.findings import queries
from coordinator.findings.tokenizer import spell_out
from coordinator.models import Experiment, Finding
from coordinator.novelty.similarity import Similarity

SUBJECT = "finding"
"""The kind of text that these embeddings are of; their keys are findings' numbers."""

AT_ONCE = 200


class Progress(NamedTuple):
    """Findings up to a number have vectors, as of so many revisions."""

    through_id: int = 0
    revisions: int = 0


def find_by_meaning(
    session: Session, similarity: Similarity, words: str, project_ids: Sequence[int], limit: int
) -> list[int] | None:
    """Findings of similar meaning, the nearest first; None while the embedder or the index is not available."""
    vector = similarity.embed([spell_out(words)], is_request=True)
    if vector is None:
        return None
    found = []
    for project_id in project_ids:
        near = similarity.find(session, project_id, SUBJECT, vector, limit)
        if near is None:
            return None
        found += near
    return [int(one.key) for one in sorted(found, key=lambda one: (-one.similarity, -int(one.key)))[:limit]]


def count_waiting(session: Session, similarity: Similarity) -> int:
    """The number of findings that cannot be found by their meaning yet."""
    return queries.count_without_vector(session, similarity.embedder.name, SUBJECT)


def embed_missing(database: Database, similarity: Similarity, after_id: int = 0) -> int:
    """Give vectors to findings that have none; returns up to which number all have one. Stops at a failing embedder."""
    while True:
        with database.read() as session:
            rows = queries.list_without_vector(session, similarity.embedder.name, SUBJECT, after_id, AT_ONCE)
            newest = queries.find_newest_id(session)
        if not rows:
            return newest
        made = [(finding, similarity.embed(describe(finding, experiment))) for finding, experiment in rows]
        with database.write() as session:
            for finding, vector in made:
                if vector is not None:
                    similarity.store(session, finding.project_id, SUBJECT, str(finding.id), vector)
        if any(vector is None for _, vector in made):
            return after_id
        after_id = rows[-1][0].id


def describe(finding: Finding, experiment: Experiment) -> list[str]:
    """A finding's subject and its statements, as two texts that weigh the same."""
    about = f"{experiment.title}. {finding.claim} {experiment.axis} {experiment.value}"
    says = " ".join((experiment.hypothesis, finding.mechanism, finding.caveats, finding.follow_ups)).strip()
    return [spell_out(part) for part in (about, says) if part]


@asynccontextmanager
async def run_meaning(app: FastAPI) -> AsyncIterator[None]:
    """Look for findings without a vector while the application lives. Replicas may all do so."""
    database: Database = app.state.database
    tasks: BackgroundTasks = app.state.background
    done = Progress()

    def go_on() -> None:
        nonlocal done
        done = keep_up(database, similarity, done)

    seconds = app.state.settings.meaning_check_seconds
    similarity: Similarity = app.state.similarity
    async with (
        tasks.repeat("vector index", 0, similarity.prepare, until_success=True),
        tasks.repeat("deferred embeddings", seconds, similarity.store_deferred),
        tasks.repeat("embeddings of findings", seconds, go_on),
    ):
        yield


def keep_up(database: Database, similarity: Similarity, done: Progress) -> Progress:
    """Give vectors to findings that came in or got other words since; returns how far that came."""
    try:
        with database.read() as session:
            newest, revisions = queries.find_newest_id(session), queries.count_revisions(session)
        if revisions != done.revisions:  # whichever findings they were of: they have no vector
            done = Progress(0, revisions)
        if newest <= done.through_id:
            return done
        return Progress(embed_missing(database, similarity, done.through_id), revisions)
    except IntegrityError:  # another replica was faster
        return done
