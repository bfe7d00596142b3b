"""What counts as the same code."""

import pytest

from coordinator.novelty.fingerprint import fingerprint

CODE = '''"""A model."""
import math
WIDTH = 96

def build(config, scale=1):
    """Make it."""
    total = config + WIDTH  # a sum
    return [math.sqrt(total) for item in range(scale) if item in {1, "two", 3.0}]
'''

SAME = {
    "comments": CODE.replace("# a sum", "# something else") + "# the end\n",
    "layout": CODE.replace("WIDTH = 96", "WIDTH   =  (\n    96\n)\n\n"),
    "docstrings": CODE.replace('"""A model."""', '"""Another one."""').replace('"""Make it."""', '"""Do."""'),
    "locals": CODE.replace("total", "amount").replace("item", "entry"),
}
OTHER = {
    "a constant": CODE.replace("96", "97"),
    "a type of number": CODE.replace("96", "96.0"),
    "an operator": CODE.replace("config + WIDTH", "config - WIDTH"),
    "an argument": CODE.replace("scale", "count"),
    "a global": CODE.replace("WIDTH", "DEPTH"),
    "a function that is called": CODE.replace("sqrt", "exp"),
}


@pytest.mark.parametrize("name", SAME)
def test_looks_do_not_count(name: str) -> None:
    assert SAME[name] != CODE
    assert fingerprint({"train.py": SAME[name]}) == fingerprint({"train.py": CODE})


@pytest.mark.parametrize("name", OTHER)
def test_what_it_does_counts(name: str) -> None:
    assert fingerprint({"train.py": OTHER[name]}) != fingerprint({"train.py": CODE})


def test_what_does_not_compile_counts_as_text() -> None:
    broken = "def build(:\n"
    assert fingerprint({"train.py": broken}) == fingerprint({"train.py": broken})
    assert fingerprint({"train.py": broken}) != fingerprint({"train.py": broken + "\n"})
    assert fingerprint({"train.py": "x = '\0'"}) != fingerprint({"train.py": CODE})
    assert fingerprint({"train.py": "(" * 5000}) != fingerprint({"train.py": CODE})


def test_paths_and_other_files_count() -> None:
    assert fingerprint({"train.py": CODE}) != fingerprint({"model.py": CODE})
    assert fingerprint({"notes.txt": "a # b"}) != fingerprint({"notes.txt": "a # c"})
