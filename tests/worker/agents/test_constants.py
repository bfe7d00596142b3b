"""worker/agents/search_space.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.agents.tasks import TRAIN
from worker.agents.search_space import ConstantsError, read_constants, rewrite_constants


def test_finds_the_literals_that_stand_at_module_level() -> None:
    values = {name: constant.value for name, constant in read_constants(TRAIN).items()}
    assert values == {
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
