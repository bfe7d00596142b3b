"""The contract that is written for a session is one, and keeps no imported result from counting."""

from itertools import pairwise

import pytest

from coordinator.autoresearch.reading import clean_metric, estimate_priors, write_contract
from coordinator.autoresearch.results_file import parse_results
from shared.contract import Direction, parse_contract
from tests.support.sessions import DATA


@pytest.mark.parametrize("name", ["session-a.tsv", "session-b.tsv"])
def test_priors_are_of_the_size_of_the_sessions_effects(name: str) -> None:
    rows = parse_results((DATA / name).read_bytes()).rows
    priors = estimate_priors(rows, Direction.MINIMIZE)
    metrics = [row.metric for row in rows if row.metric is not None]
    largest_gain = max(before - after for before, after in pairwise(metrics))
    assert 0 < priors.noise_sd < priors.effect_sd < max(metrics) - min(metrics)
    assert largest_gain < 10 * priors.effect_sd, "none is held as too good"
    assert priors.plausible_floor < min(metrics)


def test_priors_of_a_session_that_measured_nothing() -> None:
    rows = parse_results(b"commit\tval_bpb\tstatus\tdescription\na\t0\tcrash\tbaseline\n").rows
    assert estimate_priors(rows, Direction.MINIMIZE).noise_sd > 0


@pytest.mark.parametrize("direction", list(Direction))
def test_the_contract_is_read_back(direction: Direction) -> None:
    rows = parse_results((DATA / "session-a.tsv").read_bytes()).rows
    priors = estimate_priors(rows, direction)
    source = 'folder "x" \\ 🐝'
    text = write_contract("name", source, "val_bpb", direction, priors, ["train.py"], "train.py", 9, 600.0)
    contract = parse_contract(text)
    assert contract.objective.direction is direction and contract.objective.is_self_scored
    assert source in contract.project.question and contract.files.max_bytes == 65536
    assert contract.evidence.noise_sd == priors.noise_sd


@pytest.mark.parametrize(("name", "clean"), [("val_bpb", "val_bpb"), ("Acc @1 (%)", "acc_1"), ("99p", "metric_99p")])
def test_metrics_get_a_name_that_contracts_allow(name: str, clean: str) -> None:
    assert clean_metric(name) == clean
