"""coordinator/findings/typed_numbers.py: what is taken for a result, and what is wrongly taken for one."""

import pytest

from coordinator.findings.typed_numbers import MeasuredResult, replace_results
from shared.claims import is_bare
from shared.experiments import AxisDirection, Proposal
from shared.findings import FindingDraft

MEASURED = MeasuredResult((1.0321, 1.0326), 1.0352, (-0.0031, -0.0026), 0.0006)
"""One run gave 1.0321, its posterior is 1.0326, and the parent's 1.0352."""

PROPOSAL = Proposal(
    title="LR 0.003 -> 0.0035", hypothesis="", axis="LR", direction=AxisDirection.UP, value="0.0035",
    settings={"DECAY": 0.1, "DEPTH": 8},
)  # fmt: skip


def replace(claim: str) -> str:
    return replace_results(FindingDraft(claim=claim, agent="x"), PROPOSAL, MEASURED).claim


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("LR 0.0035 is better by 0.0031", "LR 0.0035 is better by {fall}"),
        ("val_bpb falls from 1.0352 to 1.0321.", "val_bpb falls from {parent} to {metric}."),
        ("val_bpb 1.032 (-0.0031 ± 0.0006)", "val_bpb {metric} ({effect})"),
        ("a gain of 0.30%", "a gain of {fall_percent}"),
        ("lowers it by about 0.0028", "lowers it by about {fall}"),
        (
            "It fell by 0.0031. Alone, as first measured: A -0.0031",
            "It fell by {fall}. Alone, as first measured: A -0.0031",
        ),
        (f"{'Long ' * 36}at 1.0321, by 0.0031", f"{'Long ' * 36}at {{metric}}, by…"),
    ],
)
def test_typed_results_become_placeholders(typed: str, stored: str) -> None:
    assert replace(typed) == stored


@pytest.mark.parametrize(
    ("typed", "stored", "measured"),
    [
        ("5,301 tokens/s, up by 31 from 5270", "{metric} tokens/s, up by {rise} from {parent}", (5301.3, 5270.2)),
        ("accuracy 94.1 % after 93.2%", "accuracy {metric_percent} after {parent_percent}", (0.9412, 0.932)),
        ("an error of 21.4%, 2048 steps", "an error of {metric}%, 2048 steps", (21.41, 22.0)),
    ],
)
def test_large_numbers_and_shares_are_results_too(typed: str, stored: str, measured: tuple[float, float]) -> None:
    known = MeasuredResult((measured[0],), measured[1], (measured[0] - measured[1],), 0.001)
    assert replace_results(FindingDraft(claim=typed, agent="x"), PROPOSAL, known).claim == stored


@pytest.mark.parametrize(
    "words",
    ["LR 0.003 is too low, 0.0035 is not", "DECAY 0.1 with 8 layers", "0.0029 of all tokens", "BETA from 0.9 to 0.95",
     "in 5 of 12 runs, v1.0321.4", "10 % dropout", "by 16 heads in 2,048 steps"],
)  # fmt: skip
def test_other_numbers_stay(words: str) -> None:
    assert replace(words) == words


def test_a_description_that_tells_the_result_behind_the_change_keeps_the_change_alone() -> None:
    title = "wd 0.2->0.4 \N{EM DASH} val_bpb improved 1.0352->1.0321 (gain 0.0031)"
    proposal = PROPOSAL.model_copy(update={"title": title, "axis": "wd", "value": "0.4"})
    claim = replace_results(FindingDraft(claim=title, agent="x"), proposal, MEASURED).claim
    assert claim == "wd 0.2->0.4 \N{EM DASH} val_bpb improved {parent}->{metric} (gain {fall})"
    assert is_bare(claim, title)


def test_without_a_measurement_all_stays() -> None:
    draft = FindingDraft(claim="crashed at 1.0321", agent="x")
    assert replace_results(draft, PROPOSAL, MeasuredResult((None,), None, (), 0.0)) == draft
