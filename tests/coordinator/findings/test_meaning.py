"""Findings get vectors once, whenever they came in, and are found by what they mean."""

from fastapi import FastAPI

from coordinator.db import Database
from coordinator.findings import queries
from coordinator.findings.meaning import SUBJECT, embed_missing, find_by_meaning
from coordinator.models import Embedding
from coordinator.novelty.similarity import Similarity
from coordinator.settings import Settings
from tests.coordinator.findings.conftest import Author


def test_each_finding_gets_one_vector(app: FastAPI, database: Database, author: Author) -> None:
    similarity = app.state.similarity
    first = author.write("A larger vocabulary", mechanism="Fewer tokens a text.")
    assert embed_missing(database, similarity) == first
    second = author.write("Half the learning rate")
    assert embed_missing(database, similarity, first) == embed_missing(database, similarity) == second
    with database.read() as session:
        assert session.query(Embedding).filter_by(subject=SUBJECT).count() == 2
        (project_id,) = queries.list_project_ids(session)
        found = find_by_meaning(session, similarity, "a lower rate of learning", [project_id], 5)
    assert found == [second, first]


def test_an_embedder_that_is_away_holds_nothing_up(database: Database, author: Author, settings: Settings) -> None:
    away = Settings(database_url=settings.database_url, embeddings_url="http://127.0.0.1:9/v1", embeddings_model="none")
    similarity = Similarity(database, away)
    author.write("A larger vocabulary")
    assert embed_missing(database, similarity) == 0, "they are tried again"
    with database.read() as session:
        assert find_by_meaning(session, similarity, "words", [1], 5) == []
