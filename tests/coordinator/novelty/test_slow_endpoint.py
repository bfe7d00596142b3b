"""An embeddings endpoint that does not answer: proposals are accepted all the same, and get their vectors later."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from coordinator.db.database import Database
from coordinator.models import Embedding
from coordinator.novelty import embeddings
from coordinator.novelty.embeddings import EmbeddingError, make_embedder
from coordinator.settings import CoordinatorSettings
from shared.experiments import ProposalSubmission
from tests.coordinator.novelty.test_alike import NORM, RMS, in_words
from tests.coordinator.novelty.test_embeddings import Answers, serve, settings_of
from tests.support.databases import ON_ONE_ENGINE
from tests.support.volunteers import MiniWorker

HANGS_SECONDS = 3600.0
"""How long the endpoint takes: a request that waits for it outlasts the test's limit."""

ROWS = [{"index": index, "embedding": [3.0, 4.0]} for index in range(2)]


class SlowAnswers(Answers):
    """An endpoint that answers after HANGS_SECONDS, or as soon as its server's `may_answer` is set."""

    def do_POST(self) -> None:  # noqa: N802  a name of the standard library
        self.server.may_answer.wait(HANGS_SECONDS)
        super().do_POST()


@pytest.fixture
def endpoint() -> Iterator[Any]:
    with serve(200, {"data": ROWS}, SlowAnswers) as server:
        server.may_answer = threading.Event()
        yield server
        server.may_answer.set()


@pytest.fixture
def settings(database_url: str, endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> CoordinatorSettings:
    monkeypatch.setattr(embeddings, "BACKGROUND_SECONDS", HANGS_SECONDS)  # no request may wait that long
    return settings_of(endpoint).model_copy(update={"database_url": database_url, "meaning_check_seconds": 0.05})


def count_vectors(database: Database) -> int:
    with database.read() as session:
        return session.query(Embedding).filter_by(subject="proposal").count()


@ON_ONE_ENGINE
def test_a_proposal_does_not_wait_for_the_endpoint(
    app: FastAPI, database: Database, endpoint: Any, worker: MiniWorker, make_worker: Callable[..., MiniWorker]
) -> None:
    for one in (worker, make_worker("w2", "bob")):
        one.measure_root()
    lease = worker.claim_job()
    text = worker.files_of(lease)["train.py"] + NORM
    submission = ProposalSubmission(token=lease.token, proposal=in_words(RMS), files={"train.py": text})
    response = worker.post(f"/leases/{lease.id}/proposal", submission)
    assert response.json()["accepted"] is True
    assert worker.http.get("/api/v1/versions").status_code == 200
    assert not endpoint.may_answer.is_set() and count_vectors(database) == 0
    endpoint.may_answer.set()
    deadline = time.monotonic() + 60
    while count_vectors(database) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_after_a_failure_requests_do_not_ask_until_a_background_task_succeeds(endpoint: Any) -> None:
    embedder = make_embedder(settings_of(endpoint))
    with pytest.raises(EmbeddingError):
        embedder.embed_for_request(["one", "two"])
    asked = len(endpoint.asked)
    with pytest.raises(EmbeddingError, match="failed within"):
        embedder.embed_for_request(["one", "two"])
    assert len(endpoint.asked) == asked
    endpoint.may_answer.set()
    embedder.embed(["one", "two"])
    assert embedder.embed_for_request(["one", "two"]).shape == (2, 2)
