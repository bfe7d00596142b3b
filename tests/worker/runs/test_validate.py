"""worker/runs/validate.py: edited files' sizes."""

from collections.abc import Callable
from random import Random

import pytest

from shared.contract import Files
from tests.support.tiny_project import SEED
from worker.runs.validate import find_excess, pack

LIMITS = Files(editable=["train.py"], max_bytes=10_000, max_text_bytes=2000)
CODE = "".join(f"def add_{n}(left, right):\n    return left + right + {n}\n\n\n" for n in range(150))


def test_lets_small_files_pass() -> None:
    assert find_excess({"train.py": "x = 1  # one\n", "other.py": "y" * 100_000}, LIMITS) is None
    assert find_excess({}, LIMITS) is None


def test_counts_bytes() -> None:
    assert find_excess({"train.py": "x" * 10_001}, LIMITS) == "train.py has 10,001 bytes; the contract allows 10,000"
    assert "has 12,000 bytes" in str(find_excess({"train.py": "é" * 6000}, LIMITS))


def in_names(draw: Random) -> str:
    return "".join(f"a{draw.randrange(10**6)}\n" for _ in range(1000))


HIDDEN: dict[str, Callable[[Random], str]] = {
    "string": lambda draw: f"x = '{draw.randbytes(2000).hex()}'\n",
    "comment": lambda draw: f"# {draw.randbytes(2000).hex()}\n",
    "number": lambda draw: f"x = {draw.getrandbits(20_000):#x}\n",
    "names": in_names,
    "order of names": lambda draw: " + ".join(draw.choices("abcdefghijklmnop", k=2490)),
    "operators": lambda draw: "x = " + "".join(draw.choices("+-~", k=9900)) + "1",
    "no Python": lambda draw: draw.randbytes(2000).hex() + "(",
}


@pytest.mark.parametrize("name", [name for name in HIDDEN if name not in ("order of names", "operators")])
def test_counts_knowledge_wherever_it_hides(name: str) -> None:
    text = HIDDEN[name](Random(1))
    assert f"{pack(text.encode()):,} bytes when compressed" in str(find_excess({"train.py": text}, LIMITS))
    unbounded = LIMITS.model_copy(update={"max_text_bytes": None})
    assert find_excess({"train.py": text}, unbounded) is None


@pytest.mark.parametrize(("name", "bits"), [("order of names", 4 * 2490), ("operators", 1.58 * 9900)])
def test_counts_bits_that_stand_in_an_order(name: str, bits: float) -> None:
    assert pack(HIDDEN[name](Random(1)).encode()) > bits / 8


def test_counts_files_together() -> None:
    limits = LIMITS.model_copy(update={"editable": ["a.py", "b.py"]})
    half = f"x = '{Random(1).randbytes(1000).hex()}'\n", f"x = '{Random(2).randbytes(1000).hex()}'\n"
    assert find_excess({"a.py": half[0], "b.py": ""}, limits) is None
    assert "a.py and b.py: " in str(find_excess({"a.py": half[0], "b.py": half[1]}, limits))


def test_code_that_says_little_costs_little() -> None:
    assert pack(CODE.encode()) < len(CODE) / 10
    for seed, limit in (("gpt", 32768), ("gpt-cpu", 4096)):
        assert pack((SEED / seed / "train.py").read_bytes()) < 0.7 * limit
