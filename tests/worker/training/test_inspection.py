"""worker/training/inspection.py: an edited file's sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contract import Files
from worker.training.inspection import count_text, find_excess

LIMITS = Files(editable=["train.py"], max_bytes=100, max_text_bytes=20)


def test_lets_small_files_pass() -> None:
    assert find_excess({"train.py": "x = 1  # one\n", "other.py": "y" * 1000}, LIMITS) is None


def test_counts_bytes() -> None:
    assert find_excess({"train.py": "x" * 101}, LIMITS) == "train.py has 101 bytes; the contract allows 100"
    assert "has 120 bytes" in str(find_excess({"train.py": "é" * 60}, LIMITS))


@pytest.mark.parametrize(
    "text",
    ["x = 'aaaaaaaaaaaaaaaaaaaa'\n", "# aaaaaaaaaaaaaaaaaaaaa\n", '"""aaaaaaaaaa\naaaaaaaaaa"""\n', f"x = {10**25}\n"],
    ids=["string", "comment", "docstring", "number"],
)
def test_counts_what_could_be_a_text(text: str) -> None:
    assert "strings, numbers and comments" in str(find_excess({"train.py": text}, LIMITS))
    unbounded = LIMITS.model_copy(update={"max_text_bytes": None})
    assert find_excess({"train.py": text}, unbounded) is None


def test_code_is_free() -> None:
    assert count_text("def add(left, right):\n    return left + right\n") == 0
    assert count_text("x = 'ab' + b'cd'\n") == len("'ab'") + len("b'cd'")


@given(st.text(max_size=200))
def test_what_is_no_python_counts_whole_or_less(text: str) -> None:
    assert 0 <= count_text(text) <= len(text.encode("utf-8", "surrogatepass"))
