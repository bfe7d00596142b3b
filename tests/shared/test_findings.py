"""The line by which lists name a finding."""

import pytest

from shared.findings import FindingSummary

LONG = "a deeper model learns more slowly and pays in the end, if at all"


@pytest.mark.parametrize(
    ("title", "claim", "headline"),
    [
        ("DEPTH 8 to 9", "A deeper model pays.", "DEPTH 8 to 9: A deeper model pays."),
        ("DEPTH 8 to 9", "DEPTH 8 to 9 is better", "DEPTH 8 to 9"),
        (f"{LONG}: 1.11→1.12 wor…", f"{LONG}: 1.1051→1.1203 ± 0.0007…", f"{LONG}: 1.1051→1.1203 ± 0.0007…"),
        ("loss 2.1 → 2.0", "loss 2.1043 → 2.0051 ± 0.0007, better", "loss 2.1043 → 2.0051 ± 0.0007, better"),
    ],
)
def test_a_title_that_the_claim_repeats_with_other_numbers_stands_once(title: str, claim: str, headline: str) -> None:
    assert FindingSummary.model_construct(title=title, claim=claim).headline == headline
