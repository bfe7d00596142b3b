"""Speaks to a language model: a chat-completions endpoint, through the openai SDK.

Messages contain the endpoint's status and short code, never its text, because some endpoints quote the key in it.
"""

import asyncio
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any, Literal, TypeVar

import openai
from openai.types.chat import ChatCompletion
from pydantic import SecretStr, ValidationError

from shared.protocol import MAX_COUNT, Message
from shared.runs import ModelUsage

CHARACTERS_PER_TOKEN = 3
"""For estimates before a request. English and code have about four; a low number overestimates the cost."""

MAX_OUTPUT_TOKENS = 16_000
MAX_RETRY_AFTER_SECONDS = 3600.0

POLL_INTERVAL_SECONDS = 0.1

Reply = TypeVar("Reply", bound=Message)
Result = TypeVar("Result")


class ChatError(Exception):
    """A request gave no usable answer; the message says why and contains no secret."""


class Busy(ChatError):
    """No answer now (too many requests, a server error, no connection): the same request may succeed later."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EndpointUnreachable(Busy):
    """No connection to the endpoint, which seldom recovers within seconds."""


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


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


class Chat:
    """Conversations with one model. `spent` is the usage of the last request, even if it failed."""

    def __init__(self, base_url: str, model: str, key: SecretStr, timeout_seconds: float) -> None:
        self.model, self.base_url, self._key = model, base_url, key
        self._timeout_seconds = timeout_seconds
        self._takes_schema = True
        self.spent = ModelUsage()

    def list_models(self) -> list[str]:
        """The names of the endpoint's models. Raises ChatError."""
        try:
            return asyncio.run(self._list_models())
        except openai.OpenAIError as error:
            raise _explain(error) from None

    def ask(self, turns: Sequence[Turn], form: type[Reply], timeout_seconds: float, stop: Event) -> tuple[Reply, str]:
        """The answer in that form, and its text; waits until `timeout_seconds` or `stop`. Raises ChatError."""
        self.spent = ModelUsage()
        try:
            request = self._complete(turns, form, min(timeout_seconds, self._timeout_seconds))
            completion = asyncio.run(_unless(stop, request))
        except Abandoned:
            self.spent = estimate_tokens(turns).model_copy(update={"output_tokens": 0})
            raise
        except openai.OpenAIError as error:
            raise _explain(error) from None  # its context contains our request with the key
        except ValueError as error:  # a body that is not JSON
            raise Busy(f"{self.base_url} does not answer with a chat completion") from error
        text = self._read(turns, completion)
        try:
            return form.model_validate_json(_unwrap(text)), text
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the answer"
            raise Malformed(f"it does not fit the schema: {where}: {first['msg']}") from error

    def _connect(self) -> openai.AsyncOpenAI:
        """A connection for one request, so that a cancelled one is closed at once."""
        return openai.AsyncOpenAI(
            base_url=self.base_url, api_key=self._key.get_secret_value(), timeout=self._timeout_seconds, max_retries=0
        )

    async def _list_models(self) -> list[str]:
        async with self._connect() as client:
            return sorted([item.id async for item in client.models.list()])

    async def _complete(self, turns: Sequence[Turn], form: type[Message], timeout_seconds: float) -> ChatCompletion:
        messages: Any = [{"role": turn.role, "content": turn.text} for turn in turns]
        schema = {"name": form.__name__, "schema": form.model_json_schema(mode="serialization"), "strict": True}
        structured: Any = {"type": "json_schema", "json_schema": schema}
        async with self._connect() as client:
            create = partial(
                client.chat.completions.create,
                model=self.model,
                messages=messages,
                max_completion_tokens=MAX_OUTPUT_TOKENS,
                timeout=timeout_seconds,
            )
            if self._takes_schema:
                try:
                    return await create(response_format=structured)
                except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                    if "response_format" not in f"{error.message}{error.param}" and "schema" not in error.message:
                        raise
                    self._takes_schema = False  # some local servers; the schema is in the prompt too
            return await create()

    def _read(self, turns: Sequence[Turn], completion: ChatCompletion) -> str:
        """The answer's text. Its usage is counted first."""
        if not isinstance(completion, ChatCompletion) or not completion.choices:
            raise Busy(f"{self.base_url} does not answer with a chat completion")
        choice = completion.choices[0]
        text = (choice.message.content if choice.message else None) or ""
        self.spent = _count(completion, turns, text)
        if self._key.get_secret_value() in text:
            raise ModelRefused("the answer contained the endpoint's key and was discarded")
        if (choice.message and choice.message.refusal) or choice.finish_reason == "content_filter":
            raise ModelRefused("the model refuses")
        if choice.finish_reason == "length":
            raise Malformed("it was cut off: be shorter, and use edits rather than whole files")
        if not text.strip():
            raise Malformed("it is empty")
        return text


async def _unless(stop: Event, request: Coroutine[Any, Any, Result]) -> Result:
    """The result of the request, which is cancelled once `stop` is set. Raises Abandoned then."""
    task = asyncio.ensure_future(request)
    while not (await asyncio.wait({task}, timeout=POLL_INTERVAL_SECONDS))[0]:
        if stop.is_set():
            task.cancel()
            await asyncio.wait({task})
            raise Abandoned("the worker stopped waiting for the answer")
    return task.result()


def estimate_tokens(turns: Sequence[Turn]) -> ModelUsage:
    """Upper bound of a request's usage."""
    characters = sum(len(turn.text) for turn in turns)
    return ModelUsage(requests=1, input_tokens=characters // CHARACTERS_PER_TOKEN + 1, output_tokens=MAX_OUTPUT_TOKENS)


def _count(completion: ChatCompletion, turns: Sequence[Turn], text: str) -> ModelUsage:
    """The usage that the server reports, else an estimate."""
    usage = completion.usage
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return estimate_tokens(turns).model_copy(update={"output_tokens": len(text) // CHARACTERS_PER_TOKEN + 1})
    read, written = (min(max(0, count), MAX_COUNT) for count in (usage.prompt_tokens, usage.completion_tokens))
    return ModelUsage(requests=1, input_tokens=read, output_tokens=written)


def _unwrap(text: str) -> str:
    """The JSON of an answer inside a code block, or after a model's reasoning."""
    text = text.rpartition("</think>")[2].strip()
    found = re.fullmatch(r"```(?:json)?\s*\n(.*)\n```", text, re.DOTALL)
    return found.group(1) if found else text


def _explain(error: openai.OpenAIError) -> ChatError:
    """The SDK's error as one of ours."""
    if isinstance(error, openai.APITimeoutError):
        return Busy("the model endpoint did not answer in time")
    if isinstance(error, openai.APIConnectionError):
        return EndpointUnreachable("the model endpoint cannot be reached")
    if not isinstance(error, openai.APIStatusError):
        return Busy(f"the model endpoint gave a broken answer ({type(error).__name__})")
    code = error.code if error.code and re.fullmatch(r"[a-z][a-z0-9_]{0,39}", error.code) else ""
    problem = f"the model endpoint says HTTP {error.status_code}{f' ({code})' if code else ''}"
    if code == "context_length_exceeded" or re.search(r"context (length|window|size)|too long", error.message):
        return TooLong(problem)
    if code in ("content_filter", "content_policy_violation"):
        return ModelRefused(problem)
    if code == "insufficient_quota":
        return Unusable(problem)
    if error.status_code in (408, 409, 425, 429) or error.status_code >= 500:
        seconds = error.response.headers.get("Retry-After", "")  # or a date, which is ignored
        is_number = re.fullmatch(r"\d{1,9}(\.\d{1,6})?", seconds)
        return Busy(problem, min(float(seconds), MAX_RETRY_AFTER_SECONDS) if is_number else None)
    return Unusable(problem)
