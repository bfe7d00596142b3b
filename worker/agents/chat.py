"""Speaks to a language model: a chat-completions endpoint, through the openai SDK.

Messages quote an endpoint's refusal without anything that looks like a key, because some endpoints quote the key in it.
"""

import asyncio
import json
import re
from collections.abc import Coroutine, Sequence
from threading import Event
from typing import Any, TypeVar

import openai
from pydantic import SecretStr

from shared.protocol import Message
from shared.runs import ModelUsage
from worker.agents.completion import Completion, NoCompletion, read_completion
from worker.agents.dialect import Dialect, Turn, is_too_long
from worker.agents.reading import Unreadable, read_form
from worker.api.client import read_retry_after
from worker.settings import MAX_OUTPUT_TOKENS, NO_KEY

CHARACTERS_PER_TOKEN = 3
"""For estimates before a request. English and code have about four; a low number overestimates the cost."""

MOST_CHARACTERS_PER_TOKEN = 8
"""Characters for each token that a server says it read above which it has not read all of them."""

SHORT_PROMPT = 4_000
"""Characters of a prompt that no server cuts."""

MAX_QUOTED = 200
"""Characters of an endpoint's refusal that people are shown."""

POLL_INTERVAL_SECONDS = 0.1

Reply = TypeVar("Reply", bound=Message)
Result = TypeVar("Result")

_REMEDIES = {
    401: "the key is not accepted (SWARM_API_KEY_FILE)",
    402: "no credit is left",
    403: "the key may not use this model (SWARM_API_KEY_FILE, --model)",
    404: "no such model or address (--model, --base-url)",
}


class ChatError(Exception):
    """A request gave no usable answer; the message says why and contains no secret."""


class Busy(ChatError):
    """No answer now (too many requests, a server error, no connection): the same request may succeed later."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EndpointUnreachable(Busy):
    """No connection to the endpoint, which seldom recovers within seconds."""


class NotAnEndpoint(Busy):
    """The address answers, and not with a chat completion."""


class Unusable(ChatError):
    """The endpoint refuses all requests: a wrong key or model, no credit."""


class TooLong(ChatError):
    """The prompt is longer than the model's context."""


class ModelRefused(ChatError):
    """The model refuses this request."""


class Malformed(ChatError):
    """The answer does not have the requested form. The message can be sent back."""


class Abandoned(ChatError):
    """The worker stopped waiting and closed the connection, which ends a local server's work on it."""


class Chat:
    """Conversations with one model.

    `spent` is the usage of the last request, even if it failed, and `outcome` how its answer was read: as asked,
    repaired, or what was wrong with it; `advice` is a line for people, once, about what the server does with prompts.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key: SecretStr,
        timeout_seconds: float | None = None,
        max_tokens: int = MAX_OUTPUT_TOKENS,
    ) -> None:
        self.model, self.base_url, self._key = model, base_url, key
        self._timeout_seconds = timeout_seconds
        self._dialect = Dialect(max_tokens)
        self._was_advised = False
        self.advice = ""
        self.spent = ModelUsage()
        self.outcome = ""

    def list_models(self) -> list[str]:
        """The names of the endpoint's models. Raises ChatError."""
        try:
            return asyncio.run(self._list_models())
        except openai.OpenAIError as error:
            raise self._explain(error) from None

    def ask(self, turns: Sequence[Turn], form: type[Reply], timeout_seconds: float, stop: Event) -> tuple[Reply, str]:
        """The answer in that form, and its text; waits until `timeout_seconds` or `stop`. Raises ChatError."""
        self.spent, self.outcome = ModelUsage(), ""
        try:
            request = self._complete(turns, form, min(timeout_seconds, self._timeout_seconds or timeout_seconds))
            completion = asyncio.run(_unless(stop, request))
        except Abandoned:
            self.spent = self.estimate(turns).model_copy(update={"output_tokens": 0})
            raise
        except openai.OpenAIError as error:
            raise self._explain(error) from None  # its context contains our request with the key
        except NoCompletion as error:
            raise NotAnEndpoint(f"{self.base_url} does not answer with a chat completion: {error}") from error
        try:
            return self._read(turns, completion, form)
        except Malformed as error:
            self.outcome = str(error)
            raise

    def estimate(self, turns: Sequence[Turn]) -> ModelUsage:
        """Upper bound of a request's usage."""
        return ModelUsage(
            requests=1, input_tokens=_estimate_tokens(turns), output_tokens=self._dialect.max_tokens
        )  # fmt: skip

    def _connect(self) -> openai.AsyncOpenAI:
        """A connection for one request, so that a cancelled one is closed at once."""
        return openai.AsyncOpenAI(
            base_url=self.base_url, api_key=self._key.get_secret_value(), timeout=self._timeout_seconds, max_retries=0
        )

    async def _list_models(self) -> list[str]:
        async with self._connect() as client:
            return sorted([item.id async for item in client.models.list()])

    async def _complete(self, turns: Sequence[Turn], form: type[Message], timeout_seconds: float) -> Completion:
        """Send the request, changed until the server takes it. Raises OpenAIError, NoCompletion, ChatError."""
        async with self._connect() as client:
            while True:
                request: Any = self._dialect.shape(turns, form)
                try:
                    answer = await client.chat.completions.with_raw_response.create(
                        model=self.model, timeout=timeout_seconds, **request
                    )
                    completion = read_completion(answer.text)
                    self._dialect.confirm()
                    return completion
                except openai.APIStatusError as error:
                    if not self._dialect.adapt(error.status_code, error.response.text, _estimate_tokens(turns)):
                        raise
                except NoCompletion as error:
                    if not error.status:
                        raise
                    if not self._dialect.adapt(error.status, str(error), _estimate_tokens(turns)):
                        raise self._explain_status(error.status, str(error)) from error

    def _read(self, turns: Sequence[Turn], completion: Completion, form: type[Reply]) -> tuple[Reply, str]:
        """The answer in that form, and its text. Its usage is counted first."""
        texts = completion.texts
        self._count(turns, completion)
        if any(self._key.get_secret_value() in text for text in texts):
            raise ModelRefused("the answer contained the endpoint's key and was discarded")
        if completion.is_refused:
            raise ModelRefused("the model refuses")
        if not texts:
            raise Malformed("it is empty")
        try:
            reply, is_repaired = read_form(texts, form, is_cut_off=completion.is_cut_off)
        except Unreadable as error:
            if completion.is_cut_off:
                raise Malformed("it was cut off: be shorter, and use edits rather than whole files") from error
            raise Malformed(str(error)) from error
        self.outcome = "repaired" if is_repaired else "as asked"
        return reply, texts[0]

    def _count(self, turns: Sequence[Turn], completion: Completion) -> None:
        """Keep the usage that the server reports, else an estimate; and notice that it cut the prompt."""
        read, written = completion.read_tokens, completion.written_tokens
        guess = sum(map(len, completion.texts)) // CHARACTERS_PER_TOKEN + 1
        self.spent = ModelUsage(
            requests=1, input_tokens=read or _estimate_tokens(turns), output_tokens=written or guess
        )  # fmt: skip
        sent = _count_characters(turns)
        if read and sent > SHORT_PROMPT and sent > MOST_CHARACTERS_PER_TOKEN * read and not self._was_advised:
            self._was_advised = True
            self.advice = (
                f"the server read {read:,} of about {sent // 4:,} prompt tokens and dropped the rest without a word: "
                "raise its context (Ollama: OLLAMA_CONTEXT_LENGTH=32768; llama.cpp: -c; llama-cpp-python: --n_ctx)"
            )

    def _explain(self, error: openai.OpenAIError) -> ChatError:
        """The SDK's error as one of ours."""
        if isinstance(error, openai.APITimeoutError):
            return Busy("the model endpoint did not answer in time")
        if isinstance(error, openai.APIConnectionError):
            return EndpointUnreachable(f"the model endpoint {self.base_url} cannot be reached")
        if not isinstance(error, openai.APIStatusError):
            return Busy(f"the model endpoint gave a broken answer ({type(error).__name__})")
        return self._explain_status(error.status_code, error.response.text, read_retry_after(error.response.headers))

    def _explain_status(self, status: int, body: str, retry_after_seconds: float | None = None) -> ChatError:
        code, words = _read_problem(body)
        problem = f"the model endpoint says HTTP {status}{f' ({code})' if code else ''}"
        if code == "insufficient_quota":
            return Unusable(f"{problem}: {_REMEDIES[402]}")
        if status in _REMEDIES:
            return Unusable(f"{problem}: {self._advise(status)}")
        if words:
            problem += f": {self._quote(words)}"
        if code == "context_length_exceeded" or (status != 429 and is_too_long(body)):
            return TooLong(problem)
        if code in ("content_filter", "content_policy_violation"):
            return ModelRefused(problem)
        if status in (408, 409, 425, 429) or status >= 500:
            return Busy(problem, retry_after_seconds)
        return Unusable(problem)

    def _advise(self, status: int) -> str:
        if status == 401 and self._key == NO_KEY:
            return "it wants a key, and none is set (SWARM_API_KEY_FILE)"
        is_odd = status == 404 and not self.base_url.endswith("/v1")
        return _REMEDIES[status] + (", whose addresses mostly end with /v1" if is_odd else "")

    def _quote(self, words: str) -> str:
        """The start of an endpoint's words, without the key or what may be a part of one."""
        words = words.replace(self._key.get_secret_value(), "…")
        words = re.sub(r"\S*\d\S{12,}|\S{12,}\d\S*|\bsk-\S*", "…", " ".join(words.split()))
        return words if len(words) <= MAX_QUOTED else f"{words[:MAX_QUOTED]}…"


async def _unless(stop: Event, request: Coroutine[Any, Any, Result]) -> Result:
    """The result of the request, which is cancelled once `stop` is set. Raises Abandoned then."""
    task = asyncio.ensure_future(request)
    while not (await asyncio.wait({task}, timeout=POLL_INTERVAL_SECONDS))[0]:
        if stop.is_set():
            task.cancel()
            await asyncio.wait({task})
            raise Abandoned("the worker stopped waiting for the answer")
    return task.result()


def _count_characters(turns: Sequence[Turn]) -> int:
    return sum(len(turn.text) for turn in turns)


def _estimate_tokens(turns: Sequence[Turn]) -> int:
    return _count_characters(turns) // CHARACTERS_PER_TOKEN + 1


def _read_problem(body: str) -> tuple[str, str]:
    """An error's short code, if it is one, and its words."""
    try:
        data = json.loads(body)
    except ValueError:
        return "", "" if "<" in body else body
    data = data.get("error", data) if isinstance(data, dict) else data
    if not isinstance(data, dict):
        return "", str(data)
    code = str(data.get("code") or data.get("type") or "")
    words = next((data[name] for name in ("message", "detail", "msg", "error") if data.get(name)), "")
    return code if re.fullmatch(r"[a-z][a-z0-9_]{0,39}", code) else "", words if isinstance(words, str) else str(words)
