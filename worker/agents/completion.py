"""A chat completion as endpoints really send it: its texts, how it ended, and its usage, in any of the usual shapes."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shared.protocol import MAX_COUNT

_SAID = ("content", "text", "output_text", "value", "parsed", "response", "generated_text")
_THOUGHT = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thoughts")
_READ = ("prompt_tokens", "input_tokens", "prompt_eval_count", "promptTokens", "prompt_token_count", "promptTokenCount")
_WRITTEN = (
    "completion_tokens", "output_tokens", "eval_count", "completionTokens", "candidatesTokenCount", "generated_tokens"
)  # fmt: skip
_USES = {"functionCall", "input"}
"""Fields of a part that calls a function."""

_PART = {"type", "text", "content", "value", "parts", "summary", "role", "annotations", "id"}
_CUT_OFF = ("length", "max_tokens", "max_output_tokens", "incomplete", "model_length")
_REFUSED = ("content_filter", "refusal", "safety", "blocked", "prohibited_content")


@dataclass(frozen=True)
class Completion:
    """`texts` hold the answer, the likeliest place first; reasoning comes last. Counts are None where not reported."""

    texts: tuple[str, ...]
    is_cut_off: bool
    is_refused: bool
    read_tokens: int | None
    written_tokens: int | None


class NoCompletion(ValueError):
    """A body that is no chat completion. With `error` it holds an error of that status instead."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def read_completion(body: str) -> Completion:
    """Read the body of a successful answer. Raises NoCompletion."""
    data = _parse(body)
    choice, message = _find_message(data)
    said = message.get("content")
    if isinstance(said, str) and said.lstrip().startswith("data:") and (stream := _join_stream(said)):
        _, message = _find_message(stream)  # a proxy passed the pieces on as text
    calls = list(_list_calls(message))  # a proposal may be in several, a part in each
    texts = [text.strip() for text in (*_list_said(message), *calls, "\n".join(calls), *_list_said(choice, data))]
    texts += [text.strip() for name in _THOUGHT for text in _flatten(message.get(name), is_thought=True)]
    ends = [choice.get(name) for name in ("finish_reason", "finishReason", "stop_reason")]
    end = str(next(filter(None, [*ends, message.get("stop_reason"), data.get("done_reason")]), "")).lower()
    usage = data.get("usage") or data.get("usageMetadata") or data.get("usage_metadata") or data
    usage = usage if isinstance(usage, dict) else {}
    return Completion(
        texts=tuple(dict.fromkeys(text for text in texts if text)),
        is_cut_off=end in _CUT_OFF,
        is_refused=bool(message.get("refusal")) or end in _REFUSED,
        read_tokens=_find_count(usage, _READ),
        written_tokens=_find_count(usage, _WRITTEN),
    )


def _parse(body: str) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        if (data := _join_stream(body)) is None:
            raise NoCompletion("the answer is not JSON") from error
    if isinstance(data, list) and data:
        data = data[0] if len(data) == 1 else _join_pieces(data) or data[0]
    if not isinstance(data, dict):
        raise NoCompletion("the answer is no JSON object")
    for name in ("result", "data", "output"):  # a proxy's envelope
        if isinstance(inner := data.get(name), dict) and inner.keys() & {"choices", "candidates", *_SAID}:
            data = {**data, name: None, **inner}
    problem = data.get("error")
    if problem and not data.get("choices"):
        code = str(problem.get("code") or problem.get("status") if isinstance(problem, dict) else "")
        is_status = code.isdigit() and 400 <= int(code) < 600
        raise NoCompletion(json.dumps(problem), int(code) if is_status else 500)
    return data


def _join_stream(body: str) -> dict[str, Any] | None:
    """The pieces of a streamed answer, a line each, put together: some servers stream unasked. None if there are none.

    Pieces of chat completions have a `delta`, Ollama's a `message` or a `response`; others' `delta` may be a text.
    """
    pieces = []
    for line in body.splitlines():
        with suppress(ValueError):  # an empty line, the name of an event, or [DONE]
            pieces.append(json.loads(line.removeprefix("data:")))
    return _join_pieces(pieces)


def _join_pieces(pieces: list[Any]) -> dict[str, Any] | None:
    whole: dict[str, Any] = {}
    last: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    for piece in pieces:
        if not isinstance(piece, dict) or "reasoning" in str(piece.get("type")):
            continue
        last |= {key: value for key, value in piece.items() if value}
        choice = next(iter(last.pop("choices", None) or last.pop("candidates", [])), {}) or {**choice, **piece}
        delta = choice.get("delta") or choice.get("message") or {"content": piece.get("response")}
        if isinstance(parts := choice.get("content"), dict):  # Gemini's
            delta = {"content": "".join(_flatten(parts)), "arguments": "".join(_list_calls(choice))}
        for name, text in _list_pieces({"content": delta} if isinstance(delta, str) else delta):
            whole[name] = whole.get(name, "") + text
    if whole.get("arguments"):
        whole["function_call"] = {"arguments": whole.pop("arguments")}
    return last | {"choices": [{**choice, "message": whole}]} if whole else last or None


def _list_pieces(delta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts of one piece, by the field that they belong to."""
    for name, value in delta.items():
        if isinstance(value, str) and name not in ("role", "type"):
            yield {"text": "content", "partial_json": "arguments"}.get(name, name), value
        for call in value if name == "tool_calls" and isinstance(value, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("arguments"), str):
                yield "arguments", function["arguments"]


def _find_message(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first choice, and its message. Raises NoCompletion."""
    choices = data.get("choices") or data.get("candidates") or data.get("output") or data.get("results")
    if isinstance(choices, dict):
        choices = [choices]
    if isinstance(choices, list) and choices and all(isinstance(choice, str) for choice in choices):
        choices = [{"content": "".join(choices)}]
    if isinstance(choices, list):  # a reasoning item may stand before the message
        found = [choice for choice in choices if isinstance(choice, dict)]
        named = [c for c in found if c.get("message") or c.get("type") == "message"] or found
        choice = next((c for c in named if _says_something(c)), named[0] if named else None)
    else:
        choice = dict(data) if any(data.get(name) for name in ("message", *_SAID)) else None
    if choice is None:
        raise NoCompletion("the answer holds no message")
    return choice, _message_of(choice)


def _message_of(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message") or choice.get("delta") or choice
    return message if isinstance(message, dict) else {"content": message}


def _says_something(choice: dict[str, Any]) -> bool:
    message = _message_of(choice)
    return any(text.strip() for text in (*_list_said(message), *_list_calls(message)))


def _list_said(*places: Mapping[str, Any]) -> Iterator[str]:
    for place in places:
        for name in _SAID:
            yield "\n".join(_flatten(place.get(name)))


def _flatten(value: Any, *, is_thought: bool = False) -> Iterator[str]:
    """The texts in a text, an object, or a list of parts; of reasoning only where that `is_thought`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            kind = str(part.get("type", "")) if isinstance(part, dict) else ""
            kind = "thinking" if isinstance(part, dict) and part.get("thought") is True else kind
            if is_thought or not kind.startswith(("reasoning", "thinking")):
                yield from _flatten(part, is_thought=is_thought)
    elif isinstance(value, dict) and (value.keys() <= _PART or "type" in value):
        name = next((name for name in ("text", "content", "value", "parts", "summary", "json") if value.get(name)), "")
        yield from _flatten(value.get(name), is_thought=is_thought)
    elif isinstance(value, dict):
        yield json.dumps(value)  # the object that was asked for


def _list_calls(message: Mapping[str, Any]) -> Iterator[str]:
    """The arguments of calls of functions, which some models make without being given any."""
    calls = message.get("tool_calls") or message.get("function_call") or []
    parts = message.get("content")
    parts = parts.get("parts") if isinstance(parts, dict) else parts
    uses = [one for one in parts if isinstance(one, dict) and one.keys() & _USES] if isinstance(parts, list) else []
    own = [message] if message.get("type") == "function_call" else []
    for call in [*(calls if isinstance(calls, list) else [calls]), *uses, *own]:
        call = call if isinstance(call, dict) else {}
        inner = call.get("function") or call.get("functionCall")
        function = inner if isinstance(inner, dict) else call
        found = next(
            (function[name] for name in ("arguments", "input", "parameters", "args") if function.get(name)), ""
        )
        yield found if isinstance(found, str) else json.dumps(found)


def _find_count(usage: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The first count above 0 among these names: a server that reports 0 does not count."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, str):
            value = value.replace(",", "").replace("_", "").strip()
        try:
            count = float(value) if value is not None and not isinstance(value, bool) else 0.0
        except (TypeError, ValueError):
            continue
        if math.isfinite(count) and count >= 1:
            return min(int(count), MAX_COUNT)
    return None
