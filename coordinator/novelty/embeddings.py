"""Embeddings of short texts: vectors whose scalar product says how much two texts are about the same.

The default needs no network and no key: `wordllama` brings its weights along in its package. It takes a second to load,
so that happens when the first text comes, and not when the coordinator starts. An endpoint that speaks OpenAI's
embeddings protocol may be set instead (`SWARM_EMBEDDINGS_URL`, `SWARM_EMBEDDINGS_MODEL`, `SWARM_EMBEDDINGS_KEY_FILE`).
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock, Semaphore
from time import monotonic
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, SecretStr, ValidationError

from coordinator.settings import CoordinatorSettings

Vectors = NDArray[np.float32]
"""One row for each text, of length one."""

BACKGROUND_SECONDS, REQUEST_SECONDS = 10.0, 1.0
"""Longest wait for the endpoint, of a background task and of a request."""

PAUSE_SECONDS = 30.0  # without a request to the endpoint, after one failed
MAX_REQUESTS_ASKING = 2  # at once: SQLite's requests share four threads
MAX_CHARACTERS = 8_000  # of each text; the rest is not embedded


class EmbeddingError(Exception):
    """The texts cannot be embedded now; the message says why."""


class Embedder(ABC):
    """`name` says which model it is: vectors of different names are never compared.

    From the similarity `near` on, two proposals are taken for the same idea.
    """

    name: str
    near: float

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text. Raises EmbeddingError. Safe to use from several threads."""

    def embed_for_request(self, texts: Sequence[str]) -> Vectors:
        """The same, within about a second. Raises EmbeddingError where that is not possible."""
        return self.embed(texts)


class WordLlamaEmbedder(Embedder):
    """Static embeddings of words, averaged (256 numbers a text)."""

    name = "wordllama-l2-supercat-256"
    near = 0.65  # tests/coordinator/novelty/test_embeddings.py shows what it tells apart

    def embed(self, texts: Sequence[str]) -> Vectors:
        with _LOADING:
            table, tokenizer = _load_wordllama()
        sums = np.empty((len(texts), table.shape[1]), dtype=np.float32)
        for row, text in enumerate(texts):
            tokens = tokenizer.encode(text[:MAX_CHARACTERS] or " ", add_special_tokens=False).ids
            table[tokens].sum(axis=0, out=sums[row])
        return _normalise(sums)


_LOADING = Lock()


@cache
def _load_wordllama() -> tuple[Vectors, Any]:
    """The vectors of all tokens, and the model's `tokenizers.Tokenizer`. Call it with `_LOADING` held."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    import wordllama  # noqa: PLC0415 - takes most of a second

    # The import makes everybody's loggers print to the terminal.
    logger.handlers[:] = handlers
    logger.setLevel(level)
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    return model.embedding, model.tokenizer


class EndpointEmbedder(Embedder):
    """Any endpoint that speaks OpenAI's embeddings protocol.

    Requests of the coordinator wait for it only briefly, only a few at a time, and not at all while it fails.
    """

    def __init__(self, url: str, model: str, key: SecretStr | None, near: float) -> None:
        self.name = f"endpoint {model}"
        self.near = near
        self._model = model
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers)
        self._paused_until = 0.0
        self._asking = Semaphore(MAX_REQUESTS_ASKING)

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = self._ask(texts, BACKGROUND_SECONDS)
        self._paused_until = 0.0  # requests may ask again
        return vectors

    def embed_for_request(self, texts: Sequence[str]) -> Vectors:
        """The same within `REQUEST_SECONDS`. Raises EmbeddingError at once while the endpoint fails or is busy."""
        if monotonic() < self._paused_until:
            raise EmbeddingError(f"the embeddings endpoint failed within the last {PAUSE_SECONDS:.0f} s")
        if not self._asking.acquire(blocking=False):
            raise EmbeddingError("other requests wait for the embeddings endpoint")
        try:
            return self._ask(texts, REQUEST_SECONDS)
        except EmbeddingError:
            self._paused_until = monotonic() + PAUSE_SECONDS
            raise
        finally:
            self._asking.release()

    def _ask(self, texts: Sequence[str], seconds: float) -> Vectors:
        body = {"model": self._model, "input": [text[:MAX_CHARACTERS] or " " for text in texts]}
        try:
            answer = _Answer.model_validate_json(self._post(body, seconds))
        except (httpx.HTTPError, ValidationError) as error:
            raise EmbeddingError(f"the embeddings endpoint gives no answer that can be used: {error}") from error
        rows = sorted(answer.data, key=lambda row: row.index)
        if [row.index for row in rows] != list(range(len(texts))):
            raise EmbeddingError("the embeddings endpoint answers for other texts than it was asked for")
        return _normalise(np.array([row.embedding for row in rows], dtype=np.float32))

    def _post(self, body: dict[str, Any], seconds: float) -> bytes:
        """The endpoint's answer. `seconds` limits the connection, each read, and all reads together."""
        deadline = monotonic() + seconds
        content = bytearray()
        with self._http.stream("POST", "embeddings", json=body, timeout=seconds) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                content += chunk
                if monotonic() > deadline:
                    raise EmbeddingError(f"the embeddings endpoint needs more than {seconds:.0f} s")
        return bytes(content)


class _Row(BaseModel):
    index: int
    embedding: list[float] = Field(min_length=1)


class _Answer(BaseModel):
    data: list[_Row]


def _normalise(vectors: NDArray[Any]) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: Vectors = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return normalised


def average(vectors: Vectors) -> NDArray[np.float32]:
    """One vector for several parts of a text, each with the same weight."""
    whole: NDArray[np.float32] = _normalise(vectors.mean(axis=0, keepdims=True))[0]
    return whole


def make_embedder(settings: CoordinatorSettings) -> Embedder:
    """The embedder that the settings name. Raises EmbeddingError where they cannot be used."""
    if not settings.embeddings_url:
        return WordLlamaEmbedder()
    if not settings.embeddings_model:
        raise EmbeddingError("SWARM_EMBEDDINGS_URL is set; name the model as well: SWARM_EMBEDDINGS_MODEL")
    key = None
    if settings.embeddings_key_file is not None:
        try:
            key = SecretStr(settings.embeddings_key_file.read_text(encoding="utf-8").strip())
        except OSError as error:
            raise EmbeddingError(f"cannot read {settings.embeddings_key_file}: {error.strerror}") from error
    return EndpointEmbedder(settings.embeddings_url, settings.embeddings_model, key, settings.embeddings_near)
