"""Embedders: the one that comes along, and an endpoint."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.novelty.embeddings import EmbeddingError, WordLlamaEmbedder, average, make_embedder
from coordinator.settings import CoordinatorSettings
from tests.coordinator.novelty.proposals import PROPOSALS

SAME = [
    ("Use RMSNorm with a learnable gain", "Add a learnable scale to the RMSNorm layers"),
    ("Warm up the learning rate over 100 steps", "Linear warmup for the first 100 iterations of the learning rate"),
]
OTHER = "Replace GELU by squared ReLU in the MLP"


def test_what_is_alike_is_near_without_network_or_key() -> None:
    embedder = WordLlamaEmbedder()
    for one, another in SAME:
        vectors = embedder.embed([one, another, OTHER])
        assert vectors.shape == (3, 256) and vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
        alike, other = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
        assert alike > 0.5 > other + 0.2
    assert np.allclose(average(vectors[:1]), vectors[0])
    assert np.isfinite(embedder.embed(["", "x" * 100_000])).all()


def test_the_same_ideas_are_told_from_others() -> None:
    """No two different ideas of these are taken for one, and of those that are the same most are."""
    embedder = WordLlamaEmbedder()
    vectors = [average(embedder.embed([f"{t}. {h} {a} change {v}", diff])) for _, t, h, a, v, diff in PROPOSALS]
    near = {True: 0, False: 0}
    pairs = list(combinations(zip(PROPOSALS, vectors, strict=True), 2))
    for (one, vector), (another, other) in pairs:
        near[one[0] == another[0]] += bool(vector @ other >= embedder.near)
    same = sum(one[0] == another[0] for (one, _), (another, _) in pairs)
    assert near[False] == 0 and near[True] >= 0.7 * same


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    """Arrays are: each claim needs them."""
    code = "import sys, coordinator.app; print([m for m in ('wordllama', 'tokenizers', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loggers_of_others_stay_as_they_are() -> None:
    code = (
        "import logging; from coordinator.novelty.embeddings import WordLlamaEmbedder; "
        "WordLlamaEmbedder().embed(['x']); print(logging.getLogger().handlers, logging.getLogger().level)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[] {logging.WARNING}"


class Answers(BaseHTTPRequestHandler):
    """An endpoint that answers with what its server has in `answer`, and remembers what it was asked."""

    server: Any

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        status, answer = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serve(status: int, answer: object, handler: type[Answers] = Answers) -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked, server.answer = [], (status, answer)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def settings_of(server: Any, **changes: Any) -> CoordinatorSettings:
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    return CoordinatorSettings(embeddings_url=url, **({"embeddings_model": "small"} | changes))


def test_an_endpoint_embeds(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-secret\n")
    rows = [{"index": 1, "embedding": [0.0, 2.0]}, {"index": 0, "embedding": [3.0, 4.0]}]
    with serve(200, {"data": rows, "model": "small", "usage": {}}) as server:
        embedder = make_embedder(settings_of(server, embeddings_key_file=tmp_path / "key"))
        assert embedder.name == "endpoint small"
        assert embedder.embed(["one", ""]).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 1.0]]
        path, authorization, body = server.asked[0]
    assert (path, authorization) == ("/v1/embeddings", "Bearer sk-secret")
    assert body == {"model": "small", "input": ["one", " "]}


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, {}),
        (200, {"error": "no such model"}),
        (200, {"data": []}),
        (200, {"data": [{"index": 0, "embedding": []}]}),
        (200, {"data": [{"index": 7, "embedding": [1.0]}]}),
    ],
)
def test_an_endpoint_that_fails(status: int, answer: object) -> None:
    with serve(status, answer) as server, pytest.raises(EmbeddingError):
        make_embedder(settings_of(server)).embed(["one"])


def test_settings_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match="SWARM_EMBEDDINGS_MODEL"):
        make_embedder(CoordinatorSettings(embeddings_url="http://127.0.0.1:1/v1"))
    missing = CoordinatorSettings(
        embeddings_url="http://127.0.0.1:1/v1", embeddings_model="m", embeddings_key_file=tmp_path / "none"
    )
    with pytest.raises(EmbeddingError, match="cannot read"):
        make_embedder(missing)
