"""The usage that coding tools print, in the forms of their documentation, and in forms that nobody promised."""

import json

import pytest

from worker.agents.tool_usage import is_silent, read_usage, read_words

CLAUDE = json.dumps({
    "type": "result", "subtype": "success", "is_error": False, "duration_ms": 5123, "num_turns": 3, "result": "Done.",
    "session_id": "s", "total_cost_usd": 0.0421,
    "usage": {"input_tokens": 12, "cache_creation_input_tokens": 400, "cache_read_input_tokens": 3000,
              "output_tokens": 88},
})  # fmt: skip
CODEX = "\n".join(
    json.dumps(event)
    for event in (
        {"type": "thread.started", "thread_id": "t"},
        {"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": "Done."}},
        {"type": "turn.completed", "usage": {"input_tokens": 500, "cached_input_tokens": 300, "output_tokens": 20}},
    )
)
GEMINI = json.dumps(
    {
        "response": "Done.",
        "stats": {
            "models": {
                "pro": {"tokens": {"prompt": 900, "candidates": 20, "total": 980, "thoughts": 50, "tool": 10}},
                "flash": {"tokens": {"prompt": 100, "candidates": 5}},
            },
        },
    },
    indent=2,
)
OPENCODE = "\n".join(
    json.dumps({"type": kind, "sessionID": "s", "part": part})
    for kind, part in (
        ("text", {"type": "text", "text": "Done."}),
        ("step_finish", {"cost": 0.01, "tokens": {"input": 70, "output": 7, "cache": {"read": 30, "write": 0}}}),
        ("step_finish", {"cost": 0.02, "tokens": {"input": 10, "output": 1, "reasoning": 2}}),
    )
)
AIDER = "Applied edit to train.py\nTokens: 4.2k sent, 310 received. Cost: $0.02 message, $0.05 session.\nDone."


@pytest.mark.parametrize(
    ("said", "read", "written", "cost"),
    [
        (CLAUDE, 3412, 88, 0.0421),
        (CODEX, 500, 20, None),
        (GEMINI, 1010, 75, None),
        (OPENCODE, 110, 10, 0.03),
        (AIDER, 4200, 310, 0.02),
        ("Tokens: 1.1M sent, 2.5k cache write, 12 received.", 1_100_000, 12, None),
        (f"npm warn\n{CLAUDE}\nbye", 3412, 88, 0.0421),
    ],
    ids=["claude", "codex", "gemini", "opencode", "aider", "aider with a cache", "among other lines"],
)
def test_each_tools_usage_is_read(said: str, read: int, written: int, cost: float | None) -> None:
    usage = read_usage(said)
    assert (usage.input_tokens, usage.output_tokens) == (read, written) and usage.requests >= 1
    assert usage.cost == (None if cost is None else pytest.approx(cost))
    assert "Done." in read_words(said) or "Done" not in said


@pytest.mark.parametrize(
    "said",
    ["", "Done.", CLAUDE[:-9], "{", '{"type": "result", "usage": null}', '{"stats": {"models": []}}', "[1]",
     '{"type": "result", "usage": {"input_tokens": "many", "output_tokens": -4}, "total_cost_usd": "free"}',
     '{"type": "step_finish", "part": {"tokens": 7}}', '{"type": "turn.completed", "usage": [1e999]}',
     '{"stats": {"models": {"m": {"tokens": {"prompt": NaN}}}}}', "Tokens: 1.2.3k sent, 4 received."],
)  # fmt: skip
def test_other_forms_count_as_nothing(said: str) -> None:
    assert read_usage(said).input_tokens == 0


def test_errors_are_read_from_json() -> None:
    refused = {"type": "result", "is_error": True, "result": 'API Error: 401 {"type":"error"} · Please run /login'}
    assert "API Error: 401" in read_words(json.dumps(refused))
    limit = {"type": "turn.failed", "error": {"message": "You've hit your usage limit. Try again in 2 hours."}}
    assert read_words(f"reading prompt\n{json.dumps(limit)}\n").split("\n")[1].startswith("You've hit your usage")
    assert "quota" in read_words(json.dumps({"error": {"type": "ApiError", "message": "quota exhausted", "code": 429}}))


@pytest.mark.parametrize(
    ("said", "silent"),
    [
        ('YOLO mode is enabled.\n{"session_id": "a", "response": "", "stats": {}}', True),
        ('{"type":"thread.started"}\n{"type":"item.completed","item":{"type":"error","message":"Falling back"}}', True),
        ('{"type":"item.completed","item":{"type":"agent_message","text":"It depends."}}', False),
        ('{"type":"result","is_error":false,"result":""}', True),
        ('{"response": "", "error": {"type": "INVALID_STREAM", "message": "an empty response"}}', True),
        ("It depends.", False),
    ],
)
def test_json_without_an_answer_is_silence(said: str, silent: bool) -> None:
    assert is_silent(said) is silent
