"""Refusals of servers and what each teaches about its requests: many kinds of statuses and wordings, written by us."""

from pathlib import Path

import pytest

from tests.support.chat_server import Body, Response, honest, refuse, serve_chat
from tests.worker.agents.tasks import make_task
from tests.worker.agents.test_openai import SOURCE, hire
from worker.agents.dialect import Dialect, Turn
from worker.agents.replies import ShortReply
from worker.settings import MAX_OUTPUT_TOKENS

TURNS = [Turn("system", "Rules."), Turn("user", "Question.")]

REFUSED = {
    "schema": [
        (400, "response_format is not supported"),
        (400, "'response_format.type' must be 'text'"),
        (422, '{"detail":[{"loc":["body","response_format","type"],"msg":"unexpected value; permitted: \'text\'"}]}'),
        (500, "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'input': 'json_schema'}]"),
        (501, "Structured output is not implemented for this model."),
        (400, "This model does not support JSON mode"),
        (500, "failed to parse grammar"),
        (404, "json_schema: this endpoint has no support for it"),
        (400, "Invalid schema for response format"),
    ],
    "limit": [
        (400, "Unsupported parameter: 'max_completion_tokens'. Use 'max_tokens' instead."),
        (422, '{"detail":[{"type":"extra_forbidden","loc":["body","max_completion_tokens"],"msg":"Extra inputs"}]}'),
        (500, "unexpected keyword argument 'max_completion_tokens'"),
        (400, "Unrecognized request argument supplied: max_completion_tokens"),
    ],
    "lower": [
        (
            400,
            "max_tokens is too large: 16000. This model supports at most 4096 completion tokens, you provided 16000.",
        ),
        (400, "max_completion_tokens: 16000 > 8192, which is the maximum allowed number of output tokens"),
        (422, "`max_completion_tokens` must be less than or equal to `8192`"),
        (400, "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
        (500, "max_tokens too big"),
        (400, "maximum context length is 4096 tokens. However, you requested 16090 tokens (90 in the messages, 16000"),
    ],
    "system": [
        (400, "System role not supported"),
        (500, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (400, "Only user and assistant roles are supported!"),
        (422, "messages[0]: unknown role 'system'"),
    ],
    "all": [(400, "Bad request"), (422, ""), (400, "{}")],
}


def shape(dialect: Dialect) -> tuple[str, str, int, bool]:
    """The parts of a request that a server may refuse."""
    request = dialect.shape(TURNS, ShortReply)
    limit = next((name for name in ("max_completion_tokens", "max_tokens") if name in request), "")
    kind = request.get("response_format", {}).get("type", "")
    return kind, limit, request.get(limit, 0), request["messages"][0]["role"] == "system"


@pytest.mark.parametrize(
    ("part", "status", "words"), [(part, *case) for part, cases in REFUSED.items() for case in cases]
)
def test_the_refused_part_is_dropped_or_lowered_and_nothing_else(part: str, status: int, words: str) -> None:
    dialect = Dialect(MAX_OUTPUT_TOKENS)
    schema, limit, most, has_system = before = shape(dialect)
    assert dialect.adapt(status, words, 100)
    after = shape(dialect)
    if part == "schema":
        assert after[0] in ("json_object", "") and after[1:] == before[1:]
    elif part == "limit":
        assert after == (schema, "max_tokens", most, has_system)
    elif part == "lower":
        assert after[2] < most and after[:2] == before[:2] and after[3] == has_system
    elif part == "system":
        assert after == (schema, limit, most, False)
        assert dialect.shape(TURNS, ShortReply)["messages"] == [{"role": "user", "content": "Rules.\n\nQuestion."}]
    else:
        assert after == ("", "", 0, False)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "Incorrect API key; response_format"),
        (402, "Insufficient credit"),
        (404, "The model `gpt-9` does not exist"),
        (400, "model 'x' not found, try pulling it first"),
        (429, "Rate limit reached: max_tokens per minute"),
        (500, "internal error"),
        (503, "The server is overloaded"),
        (400, "maximum context length is 4096 tokens. However, your prompt has 9000 tokens"),
        (404, "Not Found"),
    ],
)
def test_what_no_other_request_would_mend_changes_nothing(status: int, words: str) -> None:
    dialect = Dialect(MAX_OUTPUT_TOKENS)
    before = shape(dialect)
    assert not dialect.adapt(status, words, 9000)
    assert shape(dialect) == before


def test_the_number_that_a_server_names_is_asked_for() -> None:
    for words, most in (
        ("supports at most 4096 completion tokens, whereas you provided 16000", 4096),
        ("max_tokens must be <= 8192 for model-v3-2024", 8192),
        ("maximum context length is 4,096 tokens and your request has 1,000 input tokens", 4096 - 1000 - 32),
        ("max_tokens is too large", MAX_OUTPUT_TOKENS // 2),
    ):
        dialect = Dialect(MAX_OUTPUT_TOKENS)
        assert dialect.adapt(400, words, 100)
        assert dialect.max_tokens == most


def test_a_plain_request_that_does_not_help_is_taken_back() -> None:
    dialect = Dialect(MAX_OUTPUT_TOKENS)
    before = shape(dialect)
    assert dialect.adapt(400, "Bad request", 100)
    assert not dialect.adapt(400, "Bad request", 100)
    assert shape(dialect) == before


def test_a_second_server_error_without_a_word_is_answered_with_the_plain_request() -> None:
    dialect = Dialect(MAX_OUTPUT_TOKENS)
    assert not dialect.adapt(500, "Internal Server Error", 100)
    assert dialect.adapt(500, "Internal Server Error", 100)
    dialect.confirm()
    assert shape(dialect) == ("", "", 0, False)


class Picky:
    """A server that takes only what it knows, and names the first thing that it does not."""

    def __init__(self, status: int) -> None:
        self.status = status

    def __call__(self, body: Body) -> Response:
        for name in ("response_format", "max_completion_tokens"):
            if name in body:
                return refuse(self.status, message=f"{name}: extra inputs are not permitted")
        if body["messages"][0]["role"] == "system":
            return refuse(self.status, message="the system role is not supported")
        if body.get("max_tokens", 0) > 2048:
            return refuse(self.status, message="max_tokens must be at most 2048")
        return honest(body)


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_picky_server_is_understood_at_once_and_its_habits_are_remembered(status: int, tmp_path: Path) -> None:
    with serve_chat(Picky(status)) as server:
        hired = hire(server.url, tmp_path)
        assert hired.agent.propose(make_task(source=SOURCE)).proposal.title == "DEPTH 6"
        asked = len(server.requests)
        hired.agent.propose(make_task(source=SOURCE))
        assert (asked, len(server.requests)) == (5, 6)
        assert hired.said == []
