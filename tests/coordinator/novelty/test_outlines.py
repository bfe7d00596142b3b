"""What is compiled by parts comes out as what is compiled whole."""

from pathlib import Path
from random import Random

import pytest

from coordinator.novelty.instructions import NOT_COMPILED, compile_source, describe
from coordinator.novelty.outlines import describe_by_parts

PROGRAM = '''"""A model."""
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
    total.add(math.sqrt(total)).mul(torch.ones(3))
    return [item.lower() for item in range(scale) if item in {1, "two", 3.0}]

class Model(torch.Module if torch else object):
    @property
    def width(self):
        return (np  # with a remark
            .ones(3))

    async def run(self, other=lambda: 0): return await other.run()

def count(
    a,
    b=1,
):
    global COUNT
    COUNT = a.index(b)

COUNT = WIDTH
if WIDTH > 3:
    def small(x): return x.numpy()
else:
    from math import sqrt as count
'''

EDGES = {
    "a definition in a string": 'x = """\ndef f():\n    return 1\n"""\ndef g():\n    return x\n',
    "left edge in a string": 'def f():\n    return """\nleft\n"""\ndef g():\n    return 2\n',
    "a string that opens and closes": "x = \"\"\"\ndef f(a='''\"\"\"; y = 1 #'''):\n    return 2\n",
    "a global of a function": "x = 1\ndef f():\n    global x\n    x = 2\ndef g():\n    return x\n",
    "an import that never comes": "if 0:\n    import np\ndef f():\n    return np.ones(3)\n",
    "a local import": "def f():\n    import np\n    return np.ones(3)\n",
    "an import in another function": "def f():\n    import np\ndef g():\n    return np.ones(3)\n",
    "a future": "from __future__ import annotations\ndef f(a: np.x) -> int:\n    def g(b: a.c): return b\n",
    "a future in a string": '"""\nfrom __future__ import annotations\n"""\ndef f(a: int):\n    return a\n',
    "another future": "from __future__ import barry_as_FLUFL\ndef f(a):\n    return a <> 1\n",
    "no newline at the end": "def f():\n    return 1",
    "other newlines": "def f():\r\n    return 1\r\nx = 2\r\n",
    "old newlines": "def f():\n    return 1\rx = 2\n",
    "the same twice": "def f():\n    return 1\ndef f():\n    return 1\n",
    "a line": "def f(): return lambda: 1\nclass A: x = lambda: 2\n",
    "a decorator alone": "@f\nx = 1\n",
    "not of a function": "def f():\n    pass\nelse:\n    pass\n",
    "return outside": "def f():\n    pass\nreturn 1\n",
    "twice the same argument": "def f(a, a):\n    pass\n",
    "a lambda of a class's bases": "class A(*(lambda: [object])()):\n    def f(self): return self.f()\n",
    "a continued line": "x = \\\n1\ndef f():\n    return x \\\n",
    "other letters": "import ﬁ\ndef f():\n    return ﬁ.a() + fi.b()\n",
    "nothing": "",
    "a null": "def f():\n    return '\0'\n",
}


def _describe_whole(text: str) -> bytes | None:
    try:
        return describe(compile_source(text))
    except NOT_COMPILED:
        return None


@pytest.mark.parametrize("name", EDGES)
def test_edges(name: str) -> None:
    assert describe_by_parts(EDGES[name]) in (None, _describe_whole(EDGES[name]))


def test_programs_are_described_by_parts() -> None:
    texts = [PROGRAM, *(path.read_text() for folder in ("seed", "shared") for path in Path(folder).rglob("*.py"))]
    assert all(describe_by_parts(text) == _describe_whole(text) is not None for text in texts)


def test_what_a_name_is_counts_where_its_methods_are_called() -> None:
    """Of what is imported, methods are called in another way; parts that were seen before know nothing of that."""
    body = "def f():\n    return np.ones(3)\n"
    for above in ("", "import np\n", "from a import np\n", "import np.linalg\n", "import np.linalg as lin\n"):
        assert describe_by_parts(above + body) == _describe_whole(above + body)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("seed", range(4))
def test_any_edit_of_lines(seed: int) -> None:
    random = Random(seed)
    texts = [PROGRAM, Path("seed/gpt-cpu/train.py").read_text(), *EDGES.values()]
    by_parts = compiled = 0
    for _ in range(150):
        lines = random.choice(texts[:2] * 10 + texts[2:]).splitlines(keepends=True) or ["\n"]
        for _ in range(random.choice((1, 1, 2, 4))):
            at, other = random.randrange(len(lines)), random.choice(lines)
            lines[at : at + random.choice((0, 1))] = random.choice(([], [other], [f"    {other}"], [other.strip(" ")]))
            lines = lines or ["\n"]
        text = "".join(lines)
        described, whole = describe_by_parts(text), _describe_whole(text)
        assert described in (None, whole)
        compiled, by_parts = compiled + (whole is not None), by_parts + (described is not None)
    assert by_parts > 0.7 * compiled > 0
