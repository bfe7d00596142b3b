"""Less or more: known names decide, and rows that say otherwise are an error."""

import pytest

from coordinator.autoresearch.directions import find_direction, read_goal, read_name
from coordinator.autoresearch.results_file import ResultRow, parse_results
from coordinator.autoresearch.tables import ResultsInvalidError
from shared.contract import Direction


def read(metric: str, *rows: str) -> list[ResultRow]:
    return parse_results("\n".join([f"commit\t{metric}\tstatus\tdescription", *rows]).encode()).rows


RISING = ("a\t0.5\tkeep\tbaseline", "b\t0.6\tkeep\tx", "c\t0.4\tdiscard\ty")
FALLING = ("a\t0.5\tkeep\tbaseline", "b\t0.4\tkeep\tx", "c\t0.6\tdiscard\ty")


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (
            "val_bpb test-loss RMSE error_rate latency_ms perplexity neg_log_likelihood seconds_per_step wer",
            "accuracy PSNR sharpe tok_per_sec tok_s tokens_per_second gens_per_s "
            " neg_mse win_rate f1_score throughput speedup valAcc",
        )
    ],
)
def test_known_names_decide(less: str, more: str) -> None:
    assert {name: read_name(name) for name in less.split()} == dict.fromkeys(less.split(), Direction.MINIMIZE)
    assert {name: read_name(name) for name in more.split()} == dict.fromkeys(more.split(), Direction.MAXIMIZE)
    assert read_name("qubits_x") is None and read_name("acs") is None


def test_the_reason_is_told() -> None:
    found = find_direction("accuracy", read("accuracy", *RISING), None)
    assert found.direction is Direction.MAXIMIZE and "name accuracy" in found.reason and "2 of 2" in found.reason
    found = find_direction("acs", read("acs", *FALLING), None)
    assert found.direction is Direction.MINIMIZE and "2 of 2" in found.reason
    assert find_direction("acs", read("acs", RISING[0]), Direction.MINIMIZE).direction is Direction.MINIMIZE


def test_rows_that_contradict_the_name_or_say_nothing_ask() -> None:
    for metric, rows in (("accuracy", FALLING), ("val_loss", RISING), ("acs", RISING[:1])):
        with pytest.raises(ResultsInvalidError, match="--direction"):
            find_direction(metric, read(metric, *rows), None)


def test_a_log_that_says_its_direction_is_believed_unless_its_rows_clearly_contradict_it() -> None:
    found = find_direction("accuracy", read("accuracy", *FALLING), None, Direction.MINIMIZE)
    assert found.direction is Direction.MINIMIZE and found.reason == "as the log says; 2 of 2 comparisons with what " \
        "was kept before show it"  # fmt: skip
    mixed = read("acs", *FALLING, "d\t0.5\tkeep\tz", "e\t0.6\tkeep\tw", "f\t0.7\tkeep\tv")
    assert find_direction("acs", mixed, None, Direction.MINIMIZE).reason == "as the log says", "3 of 5 say more"
    with pytest.raises(ResultsInvalidError, match="By the log acs is better when it is lower, but by what was kept"):
        find_direction("acs", read("acs", *RISING), None, Direction.MINIMIZE)


def test_concurrent_runs_are_compared_with_their_own() -> None:
    rows = parse_results(
        b"commit\tbranch\tacs\tstatus\tdescription\na\tone\t5\tkeep\tbaseline\nb\ttwo\t9\tkeep\tbaseline\n"
        b"c\tone\t4\tkeep\tx\nd\ttwo\t8\tkeep\ty\n"
    ).rows
    assert find_direction("acs", rows, None).direction is Direction.MINIMIZE


def test_rows_that_were_all_kept_contradict_no_name() -> None:
    rows = ("a\t5\tok\tx", "b\t4\tok\ty", "c\t6\tok\tz", "d\t5\tok\tu", "e\t4\tok\tv")
    found = find_direction("tok_s", read("tok_s", *rows), None)
    assert found.direction is Direction.MAXIMIZE and found.reason == "as the name tok_s says"
    assert find_direction("acs", read("acs", *rows), None, Direction.MINIMIZE).reason == "as the log says"
    assert [read_goal(text) for text in ("max", "Lower is better", "minimize", "x")] == [
        Direction.MAXIMIZE, Direction.MINIMIZE, Direction.MINIMIZE, None,
    ]  # fmt: skip
