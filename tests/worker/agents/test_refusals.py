"""worker/agents/refusals.py: what tools say that can never work, and what others say."""

import pytest

from worker.agents.refusals import LOG_IN, PASSING, SILENT, find_refusal


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Invalid API key · Fix external API key", LOG_IN),
        ('API Error: 401 {"type":"error","error":{"type":"authentication_error","message":"Expired."}}', LOG_IN),
        ("Error: No API key found for provider openrouter", LOG_IN),
        ("HTTP 403: forbidden", LOG_IN),
        ("Error code: 402 - this request requires more credits", "no credit"),
        ("You exceeded your current quota, please check your plan and billing details.", "no credit"),
        ("The model `gpt-9` does not exist or you do not have access to it.", "--model"),
        ("Error: Model not found: anthropic/claude-9. Did you mean: claude-5?", "--model"),
        ("status code: 422 Unprocessable Entity", "--model"),
        ("error: unrecognized arguments: --yes-always", "update it"),
        ("error: unexpected argument '--json' found", "update it"),
        ("bwrap: execvp /opt/tool: No such file or directory", "--agent-path"),
    ],
)  # fmt: skip
def test_what_can_never_work_comes_with_what_to_do(said: str, advice: str) -> None:
    assert advice in str(find_refusal(said, 1))


def test_a_provider_that_is_out_of_order_and_silence_are_told_apart() -> None:
    for said in (
        "API Error: 529 Overloaded",
        "API Error: 500 Internal server error",
        "We’re experiencing high demand.",
    ):
        assert find_refusal(said, 1) == PASSING
    assert find_refusal("The tool refuses to write to a temporary dir", 1) is None
    assert find_refusal("\n", 0) == find_refusal("Reconnecting... 1/5\n", 0) == SILENT


def test_a_command_that_cannot_be_executed_is_one_that_is_not_granted() -> None:
    assert "--agent-path" in str(find_refusal("sh: 1: exec: tool: not found", 127))


@pytest.mark.parametrize(
    "said",
    [
        "Blue.", "Should I continue?", "sed: can't read codec.py: No such file or directory", "connect ECONNREFUSED",
        "Request timed out",
        "I used 401 tokens of the model, and 422 more.", "The model thinks: blue",
        "You have exhausted your daily quota on this model.\nYou exceeded it, please check your plan and billing.",
        "Falling back from WebSockets to HTTPS transport. unexpected status 404 Not Found\nblue",
    ],
)  # fmt: skip
def test_what_may_pass_or_is_ordinary_is_none(said: str) -> None:
    assert find_refusal(said, 1) is None
