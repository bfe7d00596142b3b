"""The contract that is written for a session is one, keeps no imported result from counting, and knows its noise."""

from itertools import pairwise

import pytest

from coordinator.autoresearch.contract_text import Priors, estimate_priors, write_contract
from coordinator.autoresearch.plan import make_plan
from coordinator.autoresearch.results_file import parse_results
from shared.contract import Direction, parse_contract
from tests.coordinator.autoresearch.test_plan import Branch
from tests.support.sessions import CASES, DATA


def estimate(content: bytes, direction: Direction = Direction.MINIMIZE) -> Priors:
    results = parse_results(content)
    return estimate_priors(make_plan(results.rows, Branch(), direction), direction, results.metric)


@pytest.mark.parametrize("name", ["session-a.tsv", "session-b.tsv"])
def test_priors_are_of_the_size_of_the_sessions_effects(name: str) -> None:
    content = (DATA / name).read_bytes()
    priors = estimate(content)
    metrics = [row.metric for row in parse_results(content).rows if row.metric is not None]
    largest_gain = max(before - after for before, after in pairwise(metrics))
    assert 0 < priors.noise_sd < priors.effect_sd < max(metrics) - min(metrics)
    assert largest_gain < 10 * priors.effect_sd, "none is held as too good"
    assert priors.plausible_floor < min(metrics)
    assert (priors.noise_sd, priors.is_assumed) == (0.0007, True), "the family's, and not a share of the effects"


def test_noise_is_learnt_from_what_was_measured_again() -> None:
    (path,) = CASES.glob("20-*")
    priors = estimate(path.read_bytes())
    assert (
        not priors.is_assumed and priors.noise_sd == pytest.approx(0.00038, rel=0.1) and "2 repetitions" in priors.why
    )


def test_noise_above_the_sessions_own_spread_is_not_believed() -> None:
    text = "commit\trmse\tstatus\tdescription\naaaa\t9.0\tkeep\tbaseline\naaaa\t3.0\tdiscard\trerun\n"
    priors = estimate((text + "b\t8.9\tkeep\tx\nc\t8.95\tdiscard\ty\nd\t8.8\tkeep\tz").encode())
    assert priors.is_assumed and priors.noise_sd < 1 and "not believed" in priors.why


def test_noise_of_an_unknown_metric_is_assumed_and_large() -> None:
    lines = "\n".join(f"x{n}\t{340 - 10 * n}\tkeep\tstep {n}" for n in range(8))
    priors = estimate(f"commit\trmse\tstatus\tdescription\n{lines}".encode())
    assert priors.is_assumed and priors.noise_sd > 3 and "assumed" in priors.why
    same = "commit\trmse\tstatus\tdescription\naaaa\t3.25\tkeep\tbaseline\naaaa\t3.25\tdiscard\trerun"
    assert 0 < estimate(same.encode()).noise_sd <= 0.005, "what repeats exactly has the noise of its last digit"


def test_priors_of_a_session_that_measured_nothing() -> None:
    assert estimate(b"commit\tval_bpb\tstatus\tdescription\na\t0\tcrash\tbaseline\n").noise_sd > 0


@pytest.mark.parametrize("direction", list(Direction))
def test_the_contract_is_read_back(direction: Direction) -> None:
    priors = estimate((DATA / "session-a.tsv").read_bytes(), direction)
    source = 'folder "x" \\ 🐝'
    text = write_contract("name", source, "val_bpb", "", direction, priors, ["train.py"], "train.py", 9, 600.0)
    contract = parse_contract(text)
    assert contract.objective.direction is direction and contract.objective.is_self_scored
    assert source in contract.project.question and contract.files.max_bytes == 65536
    assert contract.evidence.noise_sd == priors.noise_sd and contract.evidence.noise_is_assumed
