"""The dialect of one server: the requests that it accepts, learnt from its refusals, whatever their wording."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel

from shared.protocol import Message

LEAST_OUTPUT_TOKENS = 256
"""Tokens below which an answer's limit is not lowered: no proposal fits."""

_FINAL = (401, 402, 403, 407, 408, 409, 425, 429)
"""Statuses that say nothing about a request's parameters."""

_LIMITS = ("max_completion_tokens", "max_tokens", "")
_SCHEMAS = ("json_schema", "json_object with schema", "json_object", "")
"""Ways to ask for JSON, the strongest first. The second is that of llama.cpp's relatives; others ignore its schema."""

_NAMES_SCHEMA = re.compile(
    r"response[_ ]?format|json[_ ](?:schema|object|mode)|schema|grammar|structured|guided|constrained|\bstrict\b"
)
_NAMES_LIMIT = re.compile(r"max[_ ](?:completion|output|new)?_?\s?tokens|maximum (?:number of )?(?:output )?tokens"
                          r"|(?:completion|output) (?:tokens|length)|n_predict|num_predict")  # fmt: skip
_NAMES_SYSTEM = re.compile(
    r"(?:system|developer)\W{0,3} ?(?:role|message|prompt|instruction)|role\w*\W.{0,40}\b(?:system|developer)\b"
    r"|roles must alternate|only user and assistant|(?:unexpected|invalid|unsupported|unknown) (?:message )?role"
)
_UNKNOWN = re.compile(
    r"unsupported|not supported|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|extra|additional propert"
    r"|deprecated|invalid (?:parameter|argument|field)|no such|instead|does not support|doesn't support|not available"
)
_CONTEXT = re.compile(
    r"context[_ ](?:length|window|size)|n_ctx|maximum (?:sequence|model) length|max_model_len"
    r"|(?:prompt|input) is too long|too many tokens|too long|exceeds? the (?:model's )?(?:maximum|context)"
)
_CONTEXT_SIZE = re.compile(
    r"(?:context[_ ](?:length|window|size)|n_ctx|max_model_len|maximum (?:sequence|model) length)\D{0,40}?(\d[\d,_]*)"
)
_PROMPT_SIZE = re.compile(
    r"(\d[\d,_]*)\D{0,12}?(?:in (?:the|your) (?:messages|prompt|input)|(?:input|prompt) tokens|tokens from the input)"
    r"|(?:prompt|input)\w*\D{0,20}?(\d[\d,_]*) tokens"
)
_NUMBER = re.compile(r"(?<![\w.\-])\d[\d,_]*(?![\w\-]|\.\d)")
_NOT_THE_REQUEST = re.compile(
    r"model\W.{0,80}(?:not found|does not exist|not exist|unknown|not loaded)|(?:no such|invalid|unknown) model"
    r"|content[_ ](?:filter|policy|management)|moderation|quota|billing|insufficient"
)


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True)
class _Habits:
    """Parts of a request that a server takes; empty: none of that."""

    schema: str = _SCHEMAS[0]
    limit: str = _LIMITS[0]
    max_tokens: int = 0
    takes_system: bool = True


PLAIN = _Habits(schema="", limit="", takes_system=False)


class Dialect:
    """Shapes the requests for one server, for answers of at most `max_tokens`. `adapt` after a refusal, `confirm` after
    an answer."""

    def __init__(self, max_tokens: int) -> None:
        self._habits = _Habits(max_tokens=max_tokens)
        self._before: _Habits | None = None
        self._server_errors = 0

    @property
    def max_tokens(self) -> int:
        """Most tokens of an answer that are asked for."""
        return self._habits.max_tokens

    def shape(self, turns: Sequence[Turn], form: type[Message]) -> dict[str, Any]:
        """The request's parameters besides the model."""
        habits = self._habits
        if not habits.takes_system and len(turns) > 1 and turns[0].role == "system":
            turns = [Turn("user", f"{turns[0].text}\n\n{turns[1].text}"), *turns[2:]]
        request: dict[str, Any] = {"messages": [{"role": turn.role, "content": turn.text} for turn in turns]}
        if habits.limit:
            request[habits.limit] = habits.max_tokens
        if habits.schema == "json_schema":
            schema = {"name": form.__name__, "schema": describe_form(form), "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif habits.schema:
            more = {"schema": describe_form(form)} if habits.schema != "json_object" else {}
            request["response_format"] = {"type": "json_object", **more}
        return request

    def confirm(self) -> None:
        """The server took the last request: its habits are known now."""
        self._before, self._server_errors = None, 0

    def adapt(self, status: int, problem: str, prompt_tokens: int) -> bool:
        """Change the next request as a refusal asks for; return whether it is worth sending.

        `problem` is the body, `prompt_tokens` an estimate of the prompt. Where nothing is named, the plainest request
        is tried once; for a server error only from the second in a row.
        """
        words, was = problem.lower(), self._habits
        if status in _FINAL or _NOT_THE_REQUEST.search(words):
            return False
        self._server_errors += status in (500, 501)
        if _CONTEXT.search(words) and (status < 500 or _CONTEXT_SIZE.search(words)):
            self._fit_context(words, prompt_tokens)
            return self._habits != was
        if _NAMES_LIMIT.search(words):
            self._change_limit(words)
        if _NAMES_SCHEMA.search(words) and was.schema:
            weaker = _SCHEMAS[_SCHEMAS.index(was.schema) + 1] if "schema" in words else ""
            self._habits = replace(self._habits, schema=weaker)
        if _NAMES_SYSTEM.search(words):
            self._habits = replace(self._habits, takes_system=False)
        if self._habits != was:
            return True
        if self._before is not None:  # the plainest request did not help
            self._habits, self._before = self._before, None
            return False
        is_refusal = status in (400, 406, 415, 422) or (status in (500, 501) and self._server_errors > 1)
        if not is_refusal or replace(was, max_tokens=PLAIN.max_tokens) == PLAIN:
            return False
        self._before, self._habits = was, replace(PLAIN, max_tokens=was.max_tokens)
        return True

    def _fit_context(self, words: str, prompt_tokens: int) -> None:
        """Ask for no more than what the prompt leaves of the context, if that suffices for an answer."""
        size, prompt = _find(_CONTEXT_SIZE, words), _find(_PROMPT_SIZE, words) or prompt_tokens
        left = (size or 0) - prompt - 32
        if size and LEAST_OUTPUT_TOKENS <= left < self._habits.max_tokens and self._habits.limit:
            self._habits = replace(self._habits, max_tokens=left)

    def _change_limit(self, words: str) -> None:
        """Lower the limit of the answer's tokens, or call it by its other name, or leave it out."""
        habits = self._habits
        if not habits.limit:
            return
        numbers = [int(re.sub("[,_]", "", number)) for number in _NUMBER.findall(words)]
        lower = [number for number in numbers if LEAST_OUTPUT_TOKENS <= number < habits.max_tokens]
        if lower:
            self._habits = replace(habits, max_tokens=max(lower))
        elif _UNKNOWN.search(words) or habits.max_tokens // 2 < LEAST_OUTPUT_TOKENS:
            self._habits = replace(habits, limit=_LIMITS[_LIMITS.index(habits.limit) + 1])
        else:
            self._habits = replace(habits, max_tokens=habits.max_tokens // 2)


def describe_form(form: type[BaseModel]) -> dict[str, Any]:
    """A form's JSON schema, with every field required and no bounds: endpoints that enforce one support no more."""
    schema: dict[str, Any] = _strip(form.model_json_schema(mode="serialization"))
    return schema


def _strip(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strip(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        name: {key: _strip(part) for key, part in value.items()} if name in ("properties", "$defs") else _strip(value)
        for name, value in schema.items()
        if name not in ("default", "title", "minLength", "maxLength", "pattern")
    }
    return kept | ({"required": list(kept["properties"])} if "properties" in kept else {})


def is_too_long(problem: str) -> bool:
    """Whether a refusal says that the prompt does not fit into the model's context."""
    return _CONTEXT.search(problem.lower()) is not None


def _find(pattern: re.Pattern[str], words: str) -> int | None:
    found = pattern.search(words)
    number = next((group for group in found.groups() if group), None) if found else None
    return int(re.sub("[,_]", "", number)) if number else None
