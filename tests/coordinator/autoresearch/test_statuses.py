"""The word in a row's status."""

import pytest

from coordinator.autoresearch.statuses import Fate, read_status


@pytest.mark.parametrize(
    ("statuses", "fate"),
    [
        ("keep KEPT best baseline PASS accepted improved new_best ✅keep", Fate.KEPT),
        ("discard rejected REVERT reverted tentative no-improvement not_kept worse neutral", Fate.DISCARDED),
        ("crash harness_abort oom error discard-crash failed", Fate.CRASHED),
        ("timeout", Fate.TIMEOUT),
        ("size_blocked eval_budget_overrun disqualified over_limit partial invalid", Fate.INVALID),
        ("skipped pending", Fate.NOT_RUN),
        ("blue repair keep-crash baseline_failed 3.14", None),
    ],
)  # fmt: skip
def test_statuses_are_read(statuses: str, fate: Fate | None) -> None:
    assert {status: read_status(status) for status in statuses.split()} == dict.fromkeys(statuses.split(), fate)
