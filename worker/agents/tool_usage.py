"""Reads what a coding tool says it used, from its documented output, and the words it means for people.

    claude    one object: `result`, `is_error`, `usage`, `total_cost_usd`      code.claude.com/docs/en/headless
    codex     a line for each event: `turn.completed` has `usage`             developers.openai.com/codex/noninteractive
    gemini    one object: `response`, `error`, `stats.models.*.tokens`         geminicli.com/docs/cli/headless
    opencode  a line each: `step_finish` has `part.tokens`, `part.cost`        opencode.ai/docs/cli
    aider     `Tokens: 4.2k sent, 310 received. Cost: $0.02 message, ...`      aider.chat/docs/faq.html

Whatever has another form counts as nothing, and is no error.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from shared.runs import ModelUsage

_AIDER = re.compile(
    r"Tokens: ([\d.,]+)([kM]?) sent,(?: [\d.,]+[kM]? cache \w+,)* ([\d.,]+)([kM]?) received\."
    r"(?: Cost: \$([\d.]+) message)?"
)
_BEGIN = re.compile(r"^\{", re.MULTILINE)
_SCALE = {"": 1, "k": 1_000, "M": 1_000_000}
MAX_TOKENS = 10**9


def read_usage(said: str) -> ModelUsage:
    """The tokens and the cost, in the tool's currency, that a tool's output speaks of; zero where it says nothing."""
    total = ModelUsage()
    for _, _, document in _list_documents(said):
        total = total.plus(_read(document))
    for match in _AIDER.finditer(said):
        sent, received = (_count(match[at], match[at + 1]) for at in (1, 3))
        total = total.plus(_make(sent, received, match[5]))
    return total


def read_words(said: str) -> str:
    """An output for people: each JSON object is replaced by the answer or the error in it."""
    words, after = "", 0
    for begin, end, document in _list_documents(said):
        words += f"{said[after:begin]}{_words_of(document)}"
        after = end
    return words + said[after:]


def is_silent(said: str) -> bool:
    """Whether a tool printed JSON in which no answer stands, but at most errors."""
    found = [document for _, _, document in _list_documents(said)]
    parts = (document.get("item") or document for document in found if not document.get("error"))
    spoken = (part for part in parts if isinstance(part, dict) and part.get("type") != "error")
    return bool(found) and not any(_words_of({"item": part, **part}).strip() for part in spoken)


def _words_of(document: dict[str, Any]) -> str:
    error, part, item = document.get("error"), document.get("part"), document.get("item")
    data = error.get("data") if isinstance(error, dict) else None  # OpenCode's
    found = [
        document.get("result"), document.get("response"), document.get("message"),
        error.get("message", json.dumps(error)) if isinstance(error, dict) else error,
        data.get("message") if isinstance(data, dict) else None,
        part.get("text") if isinstance(part, dict) else None,
        item.get("text", item.get("message")) if isinstance(item, dict) else None,
    ]  # fmt: skip
    return "\n".join(text for text in found if isinstance(text, str))


def _list_documents(said: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The JSON objects that begin a line, each with where it begins and ends."""
    decoder, at = json.JSONDecoder(), 0
    while (found := _BEGIN.search(said, at)) is not None:
        try:
            document, at = decoder.raw_decode(said, found.start())
        except (ValueError, RecursionError):
            at = found.start() + 1
            continue
        yield found.start(), at, document


def _read(document: dict[str, Any]) -> ModelUsage:
    """The usage in one object or event."""
    part, stats = document.get("part"), document.get("stats")
    if document.get("type") == "step_finish" and isinstance(part, dict):
        tokens = part.get("tokens")
        return _make(*_sum(tokens, ("input", "cache"), ("output", "reasoning")), part.get("cost"))
    if document.get("type") in ("result", "turn.completed") and "usage" in document:
        names: tuple[str, ...] = ("input_tokens",)
        if document["type"] == "result":  # of Claude, whose input tokens are those that no cache had
            names += ("cache_creation_input_tokens", "cache_read_input_tokens")
        return _make(*_sum(document["usage"], names, ("output_tokens",)), document.get("total_cost_usd"))
    models = stats.get("models") if isinstance(stats, dict) else None
    total = ModelUsage()
    for model in models.values() if isinstance(models, dict) else ():
        tokens = model.get("tokens") if isinstance(model, dict) else None
        total = total.plus(_make(*_sum(tokens, ("prompt", "tool"), ("candidates", "thoughts")), None))
    return total


def _sum(tokens: object, read: tuple[str, ...], written: tuple[str, ...]) -> tuple[int, int]:
    """Tokens under the names of those that were read and written."""

    def add(names: tuple[str, ...]) -> int:
        values = [tokens.get(name) for name in names] if isinstance(tokens, dict) else []
        flat = [one for value in values for one in (value.values() if isinstance(value, dict) else [value])]
        return sum(int(one) for one in flat if isinstance(one, int | float) and 0 <= one <= MAX_TOKENS)

    return add(read), add(written)


def _count(number: str, scale: str) -> int:
    try:
        return int(float(number.replace(",", "").rstrip(".")) * _SCALE[scale])
    except ValueError:
        return 0


def _make(read: int, written: int, cost: object) -> ModelUsage:
    """One answer's usage; none where there were no tokens."""
    try:
        price = None if cost is None else float(str(cost))
    except ValueError:
        price = None
    if not read and not written and not price:
        return ModelUsage()
    sane = price if price is not None and 0 <= price < 1e6 else None
    return ModelUsage(requests=1, input_tokens=min(read, MAX_TOKENS), output_tokens=min(written, MAX_TOKENS), cost=sane)
