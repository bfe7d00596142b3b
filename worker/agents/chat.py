"""The one door to a language model: a chat-completions endpoint, through the openai SDK.

Whatever goes wrong has a name, and only `Busy` is worth trying again as it is. Errors that are shown or sent anywhere
hold the endpoint's status and short code, never its words: some endpoints quote the key in them.
"""

import asyncio
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Generic, Literal, TypeVar, cast

import openai
from openai.types.chat import ChatCompletion
from pydantic import SecretStr, ValidationError

from shared.protocol import Message
from shared.runs import ModelUsage

CHARACTERS_PER_TOKEN = 3
"""For estimates before a request. English and code have about four; a low number errs on the safe side."""

MAX_OUTPUT_TOKENS = 16_000
MAX_RETRY_AFTER_SECONDS = 3600.0

LOOK_SECONDS = 0.1

Reply = TypeVar("Reply", bound=Message)
Result = TypeVar("Result")


class ChatError(Exception):
    """A request to the model gave no usable answer; the message says why, and holds no secret."""


class Busy(ChatError):
    """No answer now: too many requests, a fault of the server, a time-out, or nobody there."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Absent(Busy):
    """Nobody is there. That is seldom over in a moment."""


class Unusable(ChatError):
    """The endpoint refuses our requests altogether: a wrong key or model, no credit."""


class TooLong(ChatError):
    """The prompt is longer than the model's context."""


class ModelRefused(ChatError):
    """The model will not do this."""


class Malformed(ChatError):
    """The answer is not of the form that was asked for. The message is fit to be sent back."""


class Abandoned(ChatError):
    """We did not wait for the answer. The connection was closed, which ends a local server's work on it."""


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True)
class Answer(Generic[Reply]):
    """A model's answer, read, and as it was written."""

    reply: Reply
    text: str


class Chat:
    """Conversations with one model. `spent` is the usage of the last request, also of one that failed."""

    def __init__(self, base_url: str, model: str, key: SecretStr, timeout_seconds: float) -> None:
        self.model = model
        self.base_url = base_url
        self._key = key
        self._timeout_seconds = timeout_seconds
        self._takes_schema = True
        self.spent = ModelUsage()

    def list_models(self) -> list[str]:
        """The names of the endpoint's models. Raises ChatError."""
        try:
            return asyncio.run(self._list_models())
        except openai.OpenAIError as error:
            raise _explain(error) from None

    def ask(self, turns: Sequence[Turn], form: type[Reply], timeout_seconds: float, stop: Event) -> Answer[Reply]:
        """Ask for an answer of that form, for so long at most, or until `stop`. Raises ChatError."""
        self.spent = ModelUsage()
        try:
            request = self._complete(turns, form, min(timeout_seconds, self._timeout_seconds))
            completion = asyncio.run(_unless(stop, request))
        except Abandoned:
            self.spent = estimate_tokens(turns).model_copy(update={"output_tokens": 0})
            raise
        except openai.OpenAIError as error:
            raise _explain(error) from None  # its context holds our request, key and all
        except ValueError as error:  # a body that is not JSON
            raise Busy(f"{self.base_url} answers with something that is no chat completion") from error
        text = self._read(turns, completion)
        try:
            return Answer(form.model_validate_json(_unwrap(text)), text)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the answer"
            raise Malformed(f"it does not fit the schema: {where}: {first['msg']}") from error

    def _connect(self) -> openai.AsyncOpenAI:
        """A connection for one request: one that is cancelled is closed at once."""
        return openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._key.get_secret_value(),
            timeout=self._timeout_seconds,
            max_retries=0,
        )

    async def _list_models(self) -> list[str]:
        async with self._connect() as client:
            return sorted([item.id async for item in client.models.list()])

    async def _complete(self, turns: Sequence[Turn], form: type[Message], timeout_seconds: float) -> ChatCompletion:
        messages: Any = [{"role": turn.role, "content": turn.text} for turn in turns]
        schema: Any = {
            "type": "json_schema",
            "json_schema": {
                "name": form.__name__,
                "schema": form.model_json_schema(mode="serialization"),
                "strict": True,
            },
        }
        asked: Any = {
            "model": self.model,
            "messages": messages,
            "max_completion_tokens": MAX_OUTPUT_TOKENS,
            "timeout": timeout_seconds,
        }
        async with self._connect() as client:
            create = client.chat.completions.create
            if self._takes_schema:
                try:
                    return cast(ChatCompletion, await create(**asked, response_format=schema))
                except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                    if "response_format" not in f"{error.message}{error.param}" and "schema" not in error.message:
                        raise
                    self._takes_schema = False  # some local servers; the schema is in the prompt too
            return cast(ChatCompletion, await create(**asked))

    def _read(self, turns: Sequence[Turn], completion: ChatCompletion) -> str:
        """The answer's text. Counts what it cost first."""
        if not isinstance(completion, ChatCompletion) or not completion.choices:
            raise Busy(f"{self.base_url} answers with something that is no chat completion")
        choice = completion.choices[0]
        text = (choice.message.content if choice.message else None) or ""
        self.spent = _count(completion, turns, text)
        if self._key.get_secret_value() in text:
            raise ModelRefused("the answer holds the key it was asked with, and was thrown away")
        if (choice.message and choice.message.refusal) or choice.finish_reason == "content_filter":
            raise ModelRefused("the model refuses")
        if choice.finish_reason == "length":
            raise Malformed("it was cut off: be shorter, and use edits rather than whole files")
        if not text.strip():
            raise Malformed("it is empty")
        return text


async def _unless(stop: Event, request: Coroutine[Any, Any, Result]) -> Result:
    """What the request gives; it is cancelled once `stop` is set. Raises Abandoned then."""
    task = asyncio.ensure_future(request)
    while not (await asyncio.wait({task}, timeout=LOOK_SECONDS))[0]:
        if stop.is_set():
            task.cancel()
            await asyncio.wait({task})
            raise Abandoned("the answer was not waited for")
    return task.result()


def estimate_tokens(turns: Sequence[Turn]) -> ModelUsage:
    """The most that a request may cost."""
    characters = sum(len(turn.text) for turn in turns)
    return ModelUsage(requests=1, input_tokens=characters // CHARACTERS_PER_TOKEN + 1, output_tokens=MAX_OUTPUT_TOKENS)


def _count(completion: ChatCompletion, turns: Sequence[Turn], text: str) -> ModelUsage:
    """What the server says it used; where it says nothing, an estimate."""
    usage = completion.usage
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return estimate_tokens(turns).model_copy(update={"output_tokens": len(text) // CHARACTERS_PER_TOKEN + 1})
    read, written = max(0, usage.prompt_tokens), max(0, usage.completion_tokens)
    return ModelUsage(requests=1, input_tokens=read, output_tokens=written)


def _unwrap(text: str) -> str:
    """The JSON of an answer that stands in a code block, or after a model's thoughts."""
    text = text.rpartition("</think>")[2].strip()
    found = re.fullmatch(r"```(?:json)?\s*\n(.*)\n```", text, re.DOTALL)
    return found.group(1) if found else text


def _explain(error: openai.OpenAIError) -> ChatError:
    """The error under our name for it."""
    if isinstance(error, openai.APITimeoutError):
        return Busy("the model endpoint did not answer in time")
    if isinstance(error, openai.APIConnectionError):
        return Absent("nobody answers at the model endpoint")
    if not isinstance(error, openai.APIStatusError):
        return Busy(f"the model endpoint gave a broken answer ({type(error).__name__})")
    code = _short_code(error)
    said = f"the model endpoint says HTTP {error.status_code}{f' ({code})' if code else ''}"
    if code == "context_length_exceeded" or re.search(r"context (length|window|size)|too long", error.message):
        return TooLong(said)
    if code in ("content_filter", "content_policy_violation"):
        return ModelRefused(said)
    if code == "insufficient_quota":
        return Unusable(said)
    if error.status_code in (408, 409, 425, 429) or error.status_code >= 500:
        return Busy(said, _retry_after(error))
    return Unusable(said)


def _short_code(error: openai.APIStatusError) -> str:
    """The problem's short name, if it is one."""
    return error.code if error.code and re.fullmatch(r"[a-z][a-z0-9_]{0,39}", error.code) else ""


def _retry_after(error: openai.APIStatusError) -> float | None:
    """The seconds of `Retry-After`; its other form, a date, counts as none."""
    text = error.response.headers.get("Retry-After", "")
    return min(float(text), MAX_RETRY_AFTER_SECONDS) if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text) else None
