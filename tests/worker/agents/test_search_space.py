"""worker/agents/search_space.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.experiments import Setting
from tests.worker.agents.tasks import TRAIN
from worker.agents.search_space import (
    Choices,
    ConstantsError,
    NumberRange,
    SearchSpace,
    find_space,
    read_constants,
    read_values,
    rewrite_constants,
)


def space_of(line: str) -> SearchSpace | None:
    return find_space(next(iter(read_constants(line).values())))


@pytest.mark.parametrize(
    ("line", "space"),
    [
        ("A = 0.003  # range: 1e-4 to 3e-2, log", NumberRange(1e-4, 3e-2, "log")),
        ("A = 4  # layers; range: 1 to 8", NumberRange(1, 8, "linear", integer=True)),
        ("A = 9  # range: 1 to 8", NumberRange(1, 9, "linear", integer=True)),  # the value itself always belongs
        ("A = 4  # choices: 2, 3, 4, 6", Choices((2, 3, 4, 6))),
        ("A = 5  # choices: 2, 3", Choices((2, 3, 5))),
        ("A = 0.5  # choices: 1, 2", Choices((1.0, 2.0, 0.5))),
        ("A = 'gelu'  # choices: 'relu', 'gelu'", Choices(("relu", "gelu"))),
        ("A = 128  # fixed", None),
        ("A = 128  # tokens, fixed: the scorer needs it", None),
        ("A = True", Choices((False, True))),
        ("A = 'text'", None),
        ("A = -1", None),
        ("A = 0", None),
        ("A = 1", NumberRange(1, 2, "log", integer=True)),
        ("A = 6", NumberRange(3, 12, "log", integer=True)),
        ("A = 128", NumberRange(64, 256, "log", integer=True, multiple=8)),
        ("A = 0.0", NumberRange(0.0, 0.2)),
        ("A = 2.0", NumberRange(0.5, 8.0, "log")),
        ("A = 0.04", NumberRange(0.01, 0.16, "log")),
        ("A = 0.3", NumberRange(0.075, 0.5, "log")),
    ],
)
def test_annotations_and_defaults(line: str, space: SearchSpace | None) -> None:
    assert space_of(line) == space


@pytest.mark.parametrize(
    "line", ["A = 3.0  # range: 5 to 1", "A = 3.0 # range: 0 to 9, log", "A = 3.0 # range: a to b"]
)
def test_an_annotation_that_makes_no_sense_counts_as_none(line: str) -> None:
    assert space_of(line) == space_of("A = 3.0") == NumberRange(0.75, 12.0, "log")


def test_a_momentum_stays_below_one_and_moves_in_its_distance_to_one() -> None:
    space = space_of("A = 0.95")
    assert isinstance(space, NumberRange)
    assert (round(space.low, 6), round(space.high, 6), space.scale) == (0.8, 0.9875, "complement")
    assert space.position(0.95) == pytest.approx(0.5)
    assert [space.at(p) for p in (0.0, 0.5, 1.0)] == [0.8, 0.95, 0.9875]


@pytest.mark.parametrize("line", ["A = 0.003", "A = 0.95", "A = 0.0", "A = 7", "A = 128", "A = 0.1 # range: 0 to 1"])
def test_positions_cover_the_range_in_order_and_keep_the_type(line: str) -> None:
    space = space_of(line)
    assert isinstance(space, NumberRange)
    values = [space.at(i / 20) for i in range(-2, 23)]
    assert values == sorted(values)
    assert all(space.low - 1e-9 <= v <= space.high + 1e-9 for v in values)
    assert {type(v) for v in values} == {int if space.integer else float}
    assert all(v % space.multiple == 0 for v in values if space.integer)


@pytest.mark.parametrize(
    ("line", "one", "other", "close"),
    [
        ("A = 0.003  # range: 1e-4 to 3e-2, log", 0.003, 0.0031, True),
        ("A = 0.003  # range: 1e-4 to 3e-2, log", 0.003, 0.005, False),
        ("A = 0.003  # range: 1e-4 to 3e-2, log", 0.003, -1.0, False),
        ("A = 0.003  # range: 1e-4 to 3e-2, log", "x", "x", True),
        ("A = 7", 7, 8, False),
        ("A = True", True, False, False),
    ],
)
def test_tells_steps_that_a_run_cannot_tell(line: str, one: Setting, other: Setting, close: bool) -> None:
    space = space_of(line)
    assert space is not None
    assert space.are_close(one, other) is close


def test_finds_the_literals_that_stand_at_module_level() -> None:
    assert read_values(TRAIN) == {
        "LEARNING_RATE": 0.003,
        "DEPTH": 4,
        "HEADS": 4,
        "BETA": 0.95,
        "WEIGHT_DECAY": 0.0,
        "USE_BIAS": False,
        "SEQUENCE_LENGTH": 128,
        "NAME": "tiny",
    }
    assert read_constants(TRAIN)["LEARNING_RATE"].comment == "range: 1e-4 to 3e-2, log"


@pytest.mark.parametrize(
    "source",
    [
        "A = 1\nA = 2\n",  # which one counts?
        "A = 1\nA += 1\n",
        "A = B = 1\n",
        "A, B = 1, 2\n",
        "A = 2 ** 4\n",
        "A = (1, 2)\n",
        "A = None\n",
        "a = 1\n",
        "if True:\n    A = 1\n",
        "A: int\n",
        'A = """one\ntwo"""\n',
    ],
)
def test_leaves_alone_what_is_no_plain_constant(source: str) -> None:
    assert read_constants(source) == {}


def test_rewrites_values_and_no_other_byte() -> None:
    source = "# é\nA=1 ;B  =  -2.5# ça\r\nC: 'ü' = True\n\x0cD = 'x'"
    assert rewrite_constants(source, {"A": 10, "B": 0.5, "C": False, "D": "ÿ"}) == (
        "# é\nA=10 ;B  =  0.5# ça\r\nC: 'ü' = False\n\x0cD = 'ÿ'"
    )


@given(
    a=st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    b=st.floats(allow_nan=False, allow_infinity=False),
)
def test_a_rewritten_value_reads_back_as_itself(a: bool | int | float | str, b: float) -> None:
    after = read_constants(rewrite_constants("A = 1  # range: 1 to 2\nB = 2.0; C = 3\n", {"A": a, "B": b}))
    assert (after["A"].value, type(after["A"].value)) == (a, type(a))
    assert (after["B"].value, after["C"].value) == (b, 3)


def test_says_what_is_wrong() -> None:
    with pytest.raises(ConstantsError, match="no constant NOPE"):
        rewrite_constants(TRAIN, {"NOPE": 1})
    with pytest.raises(ConstantsError, match="not valid Python"):
        read_constants("def f(:\n")
