"""shared/claims.py"""

import pytest

from shared.claims import drop_numbers, fits, is_bare, write_out
from shared.experiments import Posterior, Standing, Verdict

BETTER = Posterior(
    metric_mean=3.2, metric_sd=0.005, effect_mean=-0.091, effect_sd=0.033, runs=3, checkers=2, verdict=Verdict.IMPROVED
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "better by 0.091 ± 0.033 (3 runs)"),
        ({"runs": 1}, "better by 0.091 ± 0.033 (one run, provisional)"),
        ({"effect_mean": 0.091, "verdict": Verdict.WORSE}, "worse by 0.091 ± 0.033 (3 runs)"),
        ({"verdict": Verdict.NO_CHANGE}, "no change that matters, −0.091 ± 0.033 (3 runs)"),
        ({"verdict": Verdict.UNRESOLVED}, "unresolved, −0.091 ± 0.033 (3 runs)"),
        ({"effect_mean": None, "effect_sd": None}, "3.2000 ± 0.0050 (3 runs, nothing to compare it with)"),
        ({"standing": Standing.HELD}, "−0.091 ± 0.033 (3 runs, held for a maintainer's decision)"),
        ({"standing": Standing.REJECTED}, "without a result: a maintainer rejected it"),
    ],
)
def test_a_result_is_what_the_evidence_says_now(change: dict[str, object], said: str) -> None:
    known = BETTER.model_copy(update=change)
    stored = Posterior.model_construct(**known.model_dump(mode="json"))  # as a table has it, with text for an enum
    for posterior in (known, stored):
        assert write_out("WIDTH 64 -> 128: loss {result}", posterior) == f"WIDTH 64 -> 128: loss {said}"


def test_words_that_name_a_direction_keep_it_when_the_evidence_turns() -> None:
    turned = BETTER.model_copy(update={"effect_mean": 0.004, "effect_sd": 0.002, "verdict": Verdict.UNRESOLVED})
    assert write_out("lowers the loss by {fall}", turned) == "lowers the loss by −0.0040 ± 0.0020"
    assert write_out("from {parent} to {metric}, {rise_percent}", BETTER) == "from 3.2910 to 3.2000 ± 0.0050, −2.8 %"
    assert write_out("it gave {metric}", None, "timeout") == "it gave not measured (timeout)"


def test_what_a_run_is_and_takes_is_no_number_of_runs() -> None:
    for words in (
        "The noise of one run is 0.004",
        "one run takes 5 minutes",
        "A single run has 200 steps",
        "more than one run",
    ):
        assert write_out(words, BETTER) == words
    for words, said in (
        ("It helped (one run)", "It helped (3 runs)"), ("Only one run so far.", "Only 3 runs so far."),
        ("One run on one GPU with a single seed; noise is likely.", "3 runs; noise is likely."),
        ("Worse (n=1). Just a single seed.", "Worse (n=3). Just 3 runs."), ("A single-run result", "A 3-run result"),
    ):  # fmt: skip
        assert write_out(words, BETTER) == said and fits(words, said)
    assert write_out("{metric_percent} after {parent_percent}", BETTER) == "320.00 ± 0.50 % after 329.10 %"


def test_other_braces_and_other_words_stay_as_they_are() -> None:
    for words in ("A {dict} of {}", "The parent's mechanism is not known", "f'{x:.3f}'", "Unknown optimizers help"):
        assert write_out(words, BETTER) == words == drop_numbers(words)
    assert drop_numbers("A is loss {result}") == "A is loss"


def test_a_bare_claim_says_no_more_than_the_title() -> None:
    assert is_bare("A 1 -> 2: val_bpb {result}", "A 1 -> 2")
    assert is_bare("A 1 -> 2", "A 1 -> 2")
    assert not is_bare("A 1 -> 2 helps since the batch is small", "A 1 -> 2")


@pytest.mark.parametrize(
    "stored",
    ["A: loss {result}", "{replication} A and B changed together.", "In one run it helped", "plain words"],
)  # fmt: skip
def test_what_is_shown_fits_what_is_stored_whatever_the_evidence(stored: str) -> None:
    for posterior in (None, BETTER, BETTER.model_copy(update={"runs": 1, "checkers": 0})):
        shown = write_out(stored, posterior)
        assert fits(stored, shown)
        assert not fits(stored, "other words")
