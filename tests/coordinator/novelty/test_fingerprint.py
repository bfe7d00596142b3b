"""Code that counts as the same."""

from pathlib import Path
from random import Random

import pytest

from coordinator.novelty.fingerprint import describe_by_pieces, describe_statements, fingerprint

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


PROGRAM = '''"""A model.
with a line at the left edge
"""
from __future__ import annotations
import math, numpy as np
try:
    import torch
except ImportError:
    torch = None

WIDTH = 96
"""How wide."""

@staticmethod
@(lambda f: f)
def build(config: dict[str, int] = {1: 2}, scale=[x for x in range(3)]) -> int:
    """Make it."""
    total = np.sum(config)  # a sum
    return [item.lower() for item in range(scale) if item in {1, "two", 3.0}]

class Model(torch.Module if torch else object):
    async def run(self, other=lambda: 0): return await other.run()

def count(
    a,
    b=1,
):
    global COUNT
    COUNT = a.index(b)

COUNT = WIDTH; DEPTH = 3
if WIDTH > 3:
    def small(x): return x.numpy()
elif WIDTH > 2:
    pass
else:
    from math import sqrt as count
'''
EDGES = {
    "a definition in a string": 'x = """\ndef f():\n    return 1\n"""\ndef g():\n    return x\n',
    "left edge in a string": 'def f():\n    return """\nleft\n"""\ndef g():\n    return 2\n',
    "a string that opens and closes": "x = \"\"\"\ndef f(a='''\"\"\"; y = 1 #'''):\n    return 2\n",
    "no newline at the end": "def f():\n    return 1",
    "other newlines": "def f():\r\n    return 1\r\nx = 2\r\n",
    "old newlines": "def f():\n    return 1\rx = 2\n",
    "a form feed": "def f():\n    return 1\n\x0cx = 2\ny = 3\n",
    "a line": "def f(): return lambda: 1\nclass A: x = lambda: 2\n",
    "a decorator alone": "@f\nx = 1\n",
    "not of a function": "def f():\n    pass\nelse:\n    pass\n",
    "return outside": "def f():\n    pass\nreturn 1\n",
    "a quotation in a remark": 'x = 1  # """\ny = 2\nz = 3\n',
    "quotations that stay open": 'x = 1\ny = """\nz = 3\n',
    "a continued line": "x = \\\n1\ndef f():\n    return x \\\n",
    "continued at the left edge": "x = 1 + \\\ny\nz = (\na)\n",
    "continued into nothing": "x = 1 \\\n",
    "a match": "match x:\n  case 1:\n    pass\ncase = 2\n",
    "an unfinished try": "try:\n    x = 1\ny = 2\n",
    "a form feed after a space": "x = 1\n \x0cy = 2\n",
    "several in a line": "x = 1; y = 2\n",
    "a semicolon in a remark": "x = 1  # a; b\n# c; d\ny = 2\n",
    "a semicolon behind a text": "x = '#'; y = 2\n",
    "a semicolon at a text's end": 'x = """\n  # a"""; y = 2\n',
    "semicolons within": "class A(\n  B,\n): x = 1; y = 2\n",
    "a semicolon at a function's end": 'def f():\n  """A text\n  that ends"""; return 1\nx = 1\n',
    "a semicolon in a continued function": "def f(): return 1 \\\n  ; y = 2\nx = 1\n",
    "decorated": "# a; b\n@f(\n  1,\n)\n# c\n@g; h\n",
    "decorated twice": "@f(\n  1,\n)\n\n# c\n@g\nclass A:\n  x = 1; y = 2\n",
    "decorated in steps": "@f\n  \nasync  def g(): return 1; return 2\n",
    "nearly a function": "defer = 1; y = 2\nclassy = 3; z = 4\n",
    "a text with a prefix": 'r"""A model."""\nx = 1\n',
    "remarks around": "  # one\n#two\nx = (\n  1,\n# three\n)  # four\n# five\n",
    "a generator and a class": "def f(n):\n    yield n\n\n    class A:\n        x: int = n\n\n    return A\n",
    "only a comment": "# nothing\n",
    "nothing": "",
}


@pytest.mark.parametrize("text", [PROGRAM, *EDGES.values()], ids=["program", *EDGES])
def test_pieces_tell_what_the_whole_tells(text: str) -> None:
    assert describe_by_pieces(text) == describe_statements(text)


@pytest.mark.parametrize("text", [PROGRAM, *EDGES.values()], ids=["program", *EDGES])
def test_each_piece_tells_what_it_tells_among_others(text: str) -> None:
    assert describe_by_pieces(text) == describe_statements("pass\n" + text)


def test_long_texts_at_the_left_edge_are_read_as_a_whole() -> None:
    text = "x = (\n" + "left,\n" * 500 + ")\ny = 2\n"
    assert describe_by_pieces(text) is None
    assert fingerprint({"train.py": text}) == fingerprint({"train.py": text + "# the end\n"})
    assert fingerprint({"train.py": text}) != fingerprint({"train.py": text.replace("y = 2", "y = 3")})


@pytest.mark.parametrize("begin", ["x = (\n", "def f():\n", "@f\n", ""])
@pytest.mark.parametrize("line", ["  a # b\n", "# a\n", "\n", "  # a; b\n", "@f\n", "# a '\n"])
def test_no_text_is_read_in_endlessly_many_ways(begin: str, line: str) -> None:
    for end in ("  x; y\n", "  'a'; y # b\n", "\f\n", "!\n"):
        text = begin + line * 500 + end
        assert fingerprint({"train.py": text}) != fingerprint({"train.py": text + "z = 1\n"})


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("seed", range(4))
def test_any_edit_of_lines(seed: int) -> None:
    random = Random(seed)
    texts = [PROGRAM, Path("seed/gpt-cpu/train.py").read_text(), *EDGES.values()]
    compiled = 0
    for _ in range(150):
        lines = random.choice(texts[:2] * 10 + texts[2:]).splitlines(keepends=True) or ["\n"]
        for _ in range(random.choice((1, 1, 2, 4))):
            at, other = random.randrange(len(lines)), random.choice(lines)
            lines[at : at + random.choice((0, 1))] = random.choice(([], [other], [f"    {other}"], [other.strip(" ")]))
            lines = lines or ["\n"]
        by_pieces, whole = describe_by_pieces("".join(lines)), describe_statements("".join(lines))
        assert by_pieces == whole == describe_statements("pass\n" + "".join(lines))
        compiled += whole is not None
    assert compiled > 30


def test_where_a_class_stands_does_not_count() -> None:
    code = "class Model:\n    def run(self):\n        return 1\n"
    assert fingerprint({"a.py": code}) == fingerprint(
        {"a.py": "\n\n# a model\n" + code.replace("    def", "\n    def")}
    )


def test_what_does_nothing_does_not_count() -> None:
    assert fingerprint({"a.py": "x = 1\npass\n'a remark'\nassert x\n"}) == fingerprint({"a.py": "x = 1\n"})
    assert fingerprint({"a.py": "x = 1; y = 2\n"}) == fingerprint({"a.py": "x = 1\ny = 2\n"})
    assert fingerprint({"a.py": "x = 1; y = 2\n"}) != fingerprint({"a.py": "y = 2\nx = 1\n"})


@pytest.mark.parametrize("count", range(1, 12))
def test_statements_that_do_nothing_do_not_move_the_end_of_a_block(count: int) -> None:
    inside = "def f(c, x):\n if c:\n  x = 1\n return x\n"
    outside = "def f(c, x):\n if c:\n" + "  pass\n" * count + " x = 1\n return x\n"
    assert fingerprint({"train.py": inside}) != fingerprint({"train.py": outside})


@pytest.mark.parametrize(
    ("one", "other"), [("a, b", "a, *, b"), ("a, b", "a, b, /"), ("a, /, **k", "a, **k"), ("a, /, b", "a, *, b")]
)
def test_kinds_of_arguments_count(one: str, other: str) -> None:
    codes = [f"def f({arguments}): return a\n" for arguments in (one, other)]
    assert fingerprint({"train.py": codes[0]}) != fingerprint({"train.py": codes[1]})
