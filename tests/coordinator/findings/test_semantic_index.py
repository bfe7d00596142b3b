"""Findings get vectors once, whenever they came in, and are found by what they mean."""

from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.findings import queries, semantic_index
from coordinator.findings.semantic_index import SUBJECT, embed_missing, find_by_meaning, keep_up
from coordinator.models import Embedding
from coordinator.novelty.similarity import Similarity
from coordinator.settings import CoordinatorSettings
from shared.protocol import API_PREFIX
from tests.coordinator.findings.conftest import Author
from tests.support.tokens import create_token


def count_waiting(http: TestClient) -> int:
    answer = http.get(f"{API_PREFIX}/findings/search", params={"q": "vocabulary"}).json()
    return int(answer["waiting_for_vectors"])


def test_each_finding_gets_one_vector(app: FastAPI, database: Database, author: Author) -> None:
    similarity = app.state.similarity
    first = author.write("A larger vocabulary", mechanism="Fewer tokens a text.")
    assert embed_missing(database, similarity) == first
    similarity.prepare()
    second = author.write("Half the learning rate")
    assert embed_missing(database, similarity, first) == embed_missing(database, similarity) == second
    with database.read() as session:
        assert session.query(Embedding).filter_by(subject=SUBJECT).count() == 2
        (project_id,) = queries.list_project_ids(session)
        found = find_by_meaning(session, similarity, "a lower rate of learning", [project_id], 5)
    assert found == [second, first]


def test_a_search_says_how_many_findings_wait_for_a_vector(
    http: TestClient, app: FastAPI, database: Database, author: Author
) -> None:
    assert count_waiting(http) == 0
    author.write("A larger vocabulary")
    author.write("Half the learning rate")
    assert count_waiting(http) == 2
    keep_up(database, app.state.similarity)
    assert count_waiting(http) == 0


def test_no_search_counts_all_findings(
    http: TestClient, app: FastAPI, database: Database, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantic_index, "LOOK_BACK", 2)
    monkeypatch.setattr(semantic_index, "MAX_WAITING", 3)
    for number in range(5):
        author.write(f"A vocabulary of {number}")
    assert count_waiting(http) == 3, "no more are looked at"
    keep_up(database, app.state.similarity)
    assert count_waiting(http) == 0
    with database.write() as session:
        session.query(Embedding).filter(Embedding.key.in_(("1", "4"))).delete()
    assert count_waiting(http) == 1, "the later one, as if it was committed late; the first is far below"
    keep_up(database, app.state.similarity)
    assert count_waiting(http) == 0


def test_an_embedder_that_is_away_holds_nothing_up(
    database: Database, author: Author, settings: CoordinatorSettings
) -> None:
    away = CoordinatorSettings(
        database_url=settings.database_url, embeddings_url="http://127.0.0.1:9/v1", embeddings_model="none"
    )
    similarity = Similarity(database, away)
    author.write("A larger vocabulary")
    assert embed_missing(database, similarity) == 0, "they are tried again"
    with database.read() as session:
        assert find_by_meaning(session, similarity, "words", [1], 5) is None


def test_a_search_says_that_meaning_was_not_used(
    http: TestClient, app: FastAPI, database: Database, author: Author, settings: CoordinatorSettings
) -> None:
    author.write("A larger vocabulary")
    embed_missing(database, app.state.similarity)
    app.state.similarity.prepare()

    def ask() -> tuple[bool, bool, int]:
        page = http.get(f"{API_PREFIX}/findings/search", params={"q": "vocabulary"}).json()
        question = {"project": "tiny", "text": "a larger vocabulary"}
        tried = http.post(f"{API_PREFIX}/findings/tried", json=question).json()
        return page["meaning_used"], tried["meaning_used"], len(page["items"])

    assert ask() == (True, True, 1)
    away = CoordinatorSettings(
        database_url=settings.database_url, embeddings_url="http://127.0.0.1:9/v1", embeddings_model="none"
    )
    app.state.similarity = Similarity(database, away)
    assert ask() == (False, False, 1)


def test_other_words_get_another_vector(http: TestClient, app: FastAPI, database: Database, author: Author) -> None:
    similarity = app.state.similarity
    other = author.write("Half the learning rate")
    number = author.write("Run it", hypothesis="", axis="TEXT", value="")
    keep_up(database, similarity)
    similarity.prepare()

    def search(words: str) -> list[int]:
        with database.read() as session:
            return find_by_meaning(session, similarity, words, queries.list_project_ids(session), 5)

    assert search("half the rate of learning")[0] == other
    with database.write() as session:
        token = create_token(session, "ada", "test")
    for claim in ("Lower the rate of learning by half", "A larger vocabulary of tokens"):
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid4())}
        body = {"claim": claim, "mechanism": claim, "agent": "ada"}
        assert http.post(f"{API_PREFIX}/findings/{number}/versions", json=body, headers=headers).status_code == 201
        assert count_waiting(http) == 1
        similarity.store_deferred()
        assert count_waiting(http) == 0
        found = search(claim)
        assert found[0] == number and sorted(found) == [other, number], "once each"
    fresh = Similarity(database, app.state.settings)
    fresh.prepare()
    with database.read() as session:
        project_ids = queries.list_project_ids(session)
        assert find_by_meaning(session, fresh, "a larger vocabulary of tokens", project_ids, 5)[0] == number
        assert len(find_by_meaning(session, fresh, "learning", project_ids, 5)) == 2
