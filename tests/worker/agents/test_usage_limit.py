"""worker/agents/refusals.py: messages as tools print them, and ordinary output."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from worker.agents.refusals import find_reset, is_usage_limit

NOW = datetime(2026, 11, 29, 22, 0, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "reset"),
    [
        ("Claude AI usage limit reached|1795993200", at("2026-11-29T23:00")),
        ("5-hour limit reached ∙ resets 3am", at("2026-11-30T03:00")),
        ("Claude usage limit reached. Your limit will reset at 3pm (America/Santiago).", at("2026-11-30T18:00")),
        ("You've hit your session limit · resets 11:45pm (UTC)", at("2026-11-29T23:45")),
        ("You've hit your weekly limit · resets Dec 2, 1pm", at("2026-12-02T13:00")),
        ("■ You've hit your usage limit. Upgrade to Pro or try again in 2 days 17 hours 14 minutes.",
         NOW + timedelta(days=2, hours=17, minutes=14)),
        ("You've hit your usage limit. Upgrade your plan to continue, or try again at Dec 3rd, 2026, 7:38 AM.",
         at("2026-12-03T07:38")),
        ("ERROR: You've hit your usage limit. ... try again at 7:58 PM.", at("2026-11-30T19:58")),
        ('{"type":"usage_limit_reached","resets_at":1795993200,"resets_in_seconds":3600}', at("2026-11-29T23:00")),
        ("[API Error: You have exhausted your capacity on this model. Your quota will reset after 8h44m7s.]",
         NOW + timedelta(hours=8, minutes=44, seconds=7)),
        ('429 RESOURCE_EXHAUSTED "retryDelay": "34.5s"', NOW + timedelta(seconds=34.5)),
        ("litellm.RateLimitError: Rate limit reached for m on tokens per min. Please try again in 20s.",
         NOW + timedelta(seconds=20)),
        ("rate limit exceeded, retry-after: 90", NOW + timedelta(seconds=90)),
        ("Usage limit reached. Resets at 2026-11-30T04:00:00Z", at("2026-11-30T04:00")),
        ("2026-11-29 21:59:58 ERROR usage limit reached, resets 2026-11-30 04:00 UTC", at("2026-11-30T04:00")),
        ("The API provider has rate limited you. Try again later.\nRetrying in 32.0 seconds...", None),
        ("You have exhausted your daily quota on this model.", None),
        ("Credit balance is too low", None),
        ("usage limit reached, resets in 400 days", None),
        ("usage limit reached, resets at 99:99", None),
    ],
)  # fmt: skip
def test_reads_when_a_limit_ends(text: str, reset: datetime | None) -> None:
    assert is_usage_limit(text)
    assert find_reset(text, NOW) == reset


def test_a_clock_time_without_a_zone_is_the_machines() -> None:
    now = NOW.astimezone(ZoneInfo("Asia/Tokyo"))  # 7 in the morning
    assert find_reset("limit reached, resets 9am", now) == at("2026-11-30T00:00")


@pytest.mark.parametrize(
    "text",
    [
        "The gradient clipping limit is now 0.5, and the schedule resets at step 300.",
        "Should I continue?", "Done. 429 tokens, below the token limit.", "ModuleNotFoundError: No module named 'yaml'",
        "A run's time limit is 300 seconds.",
    ],
)  # fmt: skip
def test_ordinary_output_is_no_limit(text: str) -> None:
    assert not is_usage_limit(text)
