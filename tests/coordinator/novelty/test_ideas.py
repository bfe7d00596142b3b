"""Which proposals try the same thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.novelty.ideas import Idea, bin_value, identify_idea
from shared.experiments import AxisDirection
from tests.support.messages import make_proposal

BEFORE = "LEARNING_RATE = 0.003  # range: 1e-4 to 3e-2\nDEPTH: int = 4\nNAME = 'tiny'\n"


def name(
    axis: str, after: str, value: str = "", direction: str = "up", parent: str = "p", before: str = BEFORE
) -> Idea:
    changes = {"axis": axis, "value": value, "direction": AxisDirection(direction)}
    return identify_idea(make_proposal().model_copy(update=changes), parent, {"train.py": before}, {"train.py": after})


def change(old: str, new: str) -> str:
    assert BEFORE.count(old) == 1
    return BEFORE.replace(old, new)


@given(st.floats(1e-9, 1e9), st.floats(1.0, 1.02))
def test_numbers_of_a_bin_differ_by_little(value: float, ratio: float) -> None:
    """Two that differ by at most 2 % are in one bin or in neighbours; those that differ by 12 % are not in one."""
    bins = [int(bin_value(repr(number)).partition("e")[2]) for number in (value, value * ratio)]
    assert 0 <= bins[1] - bins[0] <= 1
    assert bin_value(repr(value)) != bin_value(repr(value * 1.12)) != bin_value(repr(-value * 1.12))


def test_values_that_are_no_numbers() -> None:
    assert bin_value("ReLU  Squared") == bin_value("relu squared") != bin_value("gelu")
    assert bin_value("0") == bin_value("0.0") == bin_value("-0")
    assert bin_value("nan") == "nan"


def test_the_same_step_of_a_constant() -> None:
    first = name("LEARNING_RATE", change("0.003", "0.004"))
    assert name("LEARNING_RATE", change("0.003", "0.0041"), value="whatever") == first
    assert not first.is_words_only
    further = name("LEARNING_RATE", change("0.003", "0.006"))
    assert further.on_parent != first.on_parent and further.move != first.move
    elsewhere = name("LEARNING_RATE", change("0.003", "0.004"), parent="q")
    assert elsewhere.on_parent != first.on_parent and elsewhere.move == first.move


def test_several_constants_in_any_order() -> None:
    after = change("0.003", "0.004").replace("= 4", "= 6")
    assert name("DEPTH and LEARNING_RATE", after) == name("LEARNING_RATE and DEPTH", after)
    assert name("DEPTH and LEARNING_RATE", after) != name("DEPTH", after)


@pytest.mark.parametrize("axis", ["learning rate", "the shape of the loss", "WIDTH", "DEPTH"])
def test_an_axis_that_is_no_constant_that_moved_is_in_words(axis: str) -> None:
    """`DEPTH` is a constant, and did not move."""
    idea = name(axis, change("0.003", "0.004"), value="Cosine")
    assert idea.is_words_only
    assert idea == name(f" {axis} ", change("0.003", "0.005"), value="cosine")
    assert idea.on_parent != name(axis, change("0.003", "0.004"), value="linear").on_parent
    assert idea.on_parent != name(axis, change("0.003", "0.004"), value="Cosine", direction="down").on_parent


def test_code_that_says_more_or_less_than_a_constant() -> None:
    assert name("DEPTH", BEFORE + "DEPTH = 5\n").is_words_only, "assigned twice"
    assert name("DEPTH", change("= 4", "= 2 + 3")).is_words_only
    assert not name("WARMUP", BEFORE + "WARMUP = 10\n").is_words_only, "a new constant"
    assert name("(", BEFORE).is_words_only
