"""Rungs in a contract: what is refused, with a message that says why, and what a run on one gets."""

import pytest

from shared.contract import Contract, ContractError, Objective, parse_contract
from tests.support.seeds import CONTRACT

SETTINGS = """
[data.settings]
depth = 4
vocab_size = 1024
"""
RUNG = """
[[rungs]]
name = "long"
training_seconds = 80
"""


def read(more: str, **budget: str) -> Contract:
    text = CONTRACT.format(name="tiny")
    for name, value in budget.items():
        text = text.replace("[budget]\n", f"[budget]\n{name} = {value}\n")
    return parse_contract(text + more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            RUNG.replace("80", "20"),
            r"rung 'long' has a `training_seconds` of 20; it must be more than the 20 of \[budget\]",
        ),
        (RUNG + RUNG.replace("long", "longer"), "it must be more than the 80 of the rung before it"),
        (RUNG + RUNG.replace("80", "90"), "two of `rungs` have the name 'long'"),
        (RUNG.replace("80", "80\nwall_seconds = 90"), "`wall_seconds`, which are for a budget by the CPU clock"),
        (SETTINGS + RUNG + "settings = { depht = 8 }", r"sets depht, which \[data.settings\] does not have"),
        (RUNG.replace("long", "Twenty minutes"), "rungs.0.name"),
        (RUNG + "training_second = 3", "rungs.0.training_second: is not known here"),
        ('\n[[rungs]]\nname = "long"\n', "rungs.0.training_seconds: is missing"),
    ],
)
def test_a_wrong_rung_is_refused_with_the_reason(more: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read(more)


def test_numbers_are_read_as_in_earlier_releases_because_no_project_can_change_them() -> None:
    text = CONTRACT.format(name="tiny")
    assert "training_seconds = 20\n" in text and "version = 1\n" in text
    written = text.replace("training_seconds = 20\n", 'training_seconds = "20"\n').replace(
        "version = 1\n", "version = 1.0\n"
    )
    assert parse_contract(written) == parse_contract(text)


def test_a_run_on_a_rung_has_its_budget_and_settings_and_else_the_contracts() -> None:
    contract = read(SETTINGS + RUNG + "scoring_seconds = 300\nsettings = { depth = 8 }")
    on_rung = contract.on_rung("long")
    assert (on_rung.budget.training_seconds, on_rung.budget.scoring_seconds) == (80, 300)
    assert on_rung.budget.starting_seconds == contract.budget.starting_seconds
    assert on_rung.data.settings == {"depth": 8, "vocab_size": 1024}
    assert contract.on_rung(None) == contract and contract.longest_budget == on_rung.budget
    with pytest.raises(ContractError, match="tiny has no rung 'longer'"):
        contract.on_rung("longer")


def test_the_limit_in_wall_time_grows_with_the_rung() -> None:
    contract = read(RUNG, clock='"cpu"', wall_seconds="60")
    assert contract.on_rung("long").budget.longest_training_seconds == 240
    assert read(RUNG, clock='"cpu"').on_rung("long").budget.longest_training_seconds == 240
    stated = read(RUNG + "wall_seconds = 100", clock='"cpu"', wall_seconds="60")
    assert stated.on_rung("long").budget.longest_training_seconds == 100


def test_contracts_without_rungs_promote_nothing() -> None:
    contract = read("")
    assert contract.rungs == [] and contract.longest_budget == contract.budget


@pytest.mark.parametrize(
    ("metric", "unit", "named"),
    [("val_fid", "val_fid", ""), ("bits_per_byte", "bits per byte", ""), ("val_bpb", "bits per byte", "bits per byte")],
)
def test_a_unit_that_the_metrics_name_says_is_not_named_again(metric: str, unit: str, named: str) -> None:
    assert Objective(metric=metric, unit=unit, min_effect=0.1, plausible_floor=0.0).named_unit == named
