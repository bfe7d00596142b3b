"""A module described by its parts: functions and classes each by itself, and the module without what is in them.

Most functions of a proposal are those of its parent, and their descriptions are remembered. What is left to compile is
an outline: the module with next to nothing in the bodies. A module's own code shows nothing of a body but the names
that are declared global there, and a body's code nothing of the module but which of the names whose methods it calls
are imported. Parts of the first kind stay in the outline, and bodies in the outline ask about the second. So what comes
out is exactly what compiling the whole would give; where that is not plain to see, the whole must be compiled.
"""

import __future__

import ast
import re
import symtable
import sys
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache, reduce
from keyword import iskeyword
from operator import or_
from threading import Lock
from types import CodeType
from typing import Generic, NamedTuple, TypeVar
from unicodedata import normalize

from coordinator.novelty.instructions import NOT_COMPILED, compile_source, describe

Value = TypeVar("Value")

PARTS_REMEMBERED = 2_048
OUTLINES_REMEMBERED = 64
MAX_PART = 16_384
"""Characters of a part that is remembered, at most; larger ones stay in the outline."""

ANNOTATIONS = __future__.annotations.compiler_flag
_IMPORTS_ANNOTATIONS = "from __future__ import annotations"
_FUTURES = reduce(or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names[1:]))
"""All but the first feature, `nested_scopes`, whose flag means something else by now."""

_KNOW_THEIR_LINE = sys.version_info >= (3, 13)
"""From Python 3.13 on a class has the number of its line in its code, so it cannot be compiled elsewhere."""

_OPENINGS = ("def ", "class ", "@", "async ")
_INSIDE = r"(?:(?:[ \t)\]}#][^\n]*)?\n)*+"
_DEFINITION = rf"(?:async )?(?:def|class) [^\n]*\n{_INSIDE}"
_PARTS = re.compile(
    rf"(?:@[^\n]*\n{_INSIDE})++(?:{_DEFINITION})?+|{_DEFINITION}|(?:(?!def |class |@|async )[^\n]*\n)++|[^\n]*\n"
)
"""Lines from a decorator or definition at the left edge to the last that is further right (or closes a bracket), and
lines between such. No backtracking: the time grows with the length, whatever a stranger sends."""


_ASKED = re.compile(r"(?<![\w.])(\w++)(?:[\s)\\]|#[^\n]*)*+\.")
"""A name with a dot behind it, wherever: walking the syntax tree would take longer than compiling it."""


class Part(NamedTuple):
    """A definition: its lines, the name that it defines, and how it stands in the outline.

    `asked` are the names whose methods it may call; its body in the outline calls one of each.
    """

    lines: str
    name: str
    outline: str
    asked: frozenset[str]


class Stub(NamedTuple):
    """Code in an outline: its number among the module's constants, its line and name, and its instructions."""

    number: int
    line: int
    name: str
    answer: bytes


def describe_by_parts(text: str) -> bytes | None:
    """As `describe` does of the whole module's code; None where it must be compiled as a whole, or cannot be."""
    parts = dict[int, Part]()
    outline = "".join(_outline(text if text.endswith("\n") else text + "\n", parts))
    compiled = _compile_outline(outline)
    if compiled is None:
        return None
    code, inside = compiled
    flags = code.co_flags & _FUTURES
    stubs = [stub for stub in inside if stub.line in parts and parts[stub.line].name == stub.name]
    # Only a definition gives code a name, and only one can begin on a line. If a part has no code, what looked like a
    # definition stands in a string, or below something that was passed over.
    if len(stubs) < len(parts) or flags not in (0, ANNOTATIONS):
        return None
    known = dict[int, bytes]()
    for stub in stubs:
        described = _describe_part(parts[stub.line], stub.answer, flags, outline)
        if described is None:
            return None
        known[stub.number] = described
    return describe(code, known)


@lru_cache(maxsize=OUTLINES_REMEMBERED)
def _compile_outline(outline: str) -> tuple[CodeType, list[Stub]] | None:
    """The module's code, and what is directly in it; None where it does not compile."""
    try:
        code = compile_source(outline)
    except NOT_COMPILED:
        return None
    inside = [
        Stub(number, constant.co_firstlineno, constant.co_name, constant.co_code)
        for number, constant in enumerate(code.co_consts)
        if isinstance(constant, CodeType)
    ]
    return code, inside


def _outline(text: str, parts: dict[int, Part]) -> Iterator[str]:
    """The pieces of a text's outline; its parts come into `parts`, by the line on which they begin there."""
    line = 1
    for piece in _PARTS.findall(text):
        part = _take_apart(piece) if piece.startswith(_OPENINGS) and len(piece) <= MAX_PART else None
        if part is not None:
            parts[line] = part
        line += piece.count("\n")
        yield part.outline if part is not None else piece


@lru_cache(maxsize=PARTS_REMEMBERED)
def _take_apart(lines: str) -> Part | None:
    """The definition that these lines are; None where it cannot be taken out of its module."""
    if "global" in lines or "\r" in lines or (_KNOW_THEIR_LINE and "class" in lines):
        return None
    try:
        statements = ast.parse(lines).body
    except NOT_COMPILED:
        return None
    whole = statements[0]
    if len(statements) != 1 or not isinstance(whole, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return None
    head = _cut_body(lines, whole.body[0])
    asked = frozenset(_list_asked(lines))
    body = ";".join(f"{name}.a()" for name in sorted(asked)) or "pass"
    if not head:
        return None
    below = lines.count("\n") - head.count("\n")  # so that what follows stands on its line
    return Part(lines, whole.name, f"{head}{body}" + "\n" * below, asked)


def _cut_body(lines: str, first: ast.stmt) -> str | None:
    """What stands above the first statement of a body."""
    rows = lines.encode().split(b"\n")
    decorators = getattr(first, "decorator_list", None)
    number, column = first.lineno - 1, first.col_offset
    if decorators:
        number = decorators[0].lineno - 1
        column = rows[number].find(b"@")
        if rows[number][:column].strip():
            return None
    return b"\n".join([*rows[:number], rows[number][:column]]).decode()


def _list_asked(lines: str) -> Iterator[str]:
    """The names whose methods are called, and others."""
    for name in set(_ASKED.findall(lines)):
        plain = name if name.isascii() else normalize("NFKC", name)  # as the compiler reads it
        if plain.isidentifier() and not iskeyword(plain):
            yield plain


def _describe_part(part: Part, answer: bytes, flags: int, outline: str) -> bytes | None:
    """The description of a part's code, as its module would have it; None where it does not compile.

    `answer` is the code that became of its body in the outline.
    """
    described = _DESCRIBED.find((part.lines, answer, flags))
    if described is not None:
        return described
    imported = _IMPORTED.find((part.outline, answer))
    if imported is None:
        imported = _list_imported(outline, part.asked)
        _IMPORTED.keep((part.outline, answer), imported)
    try:
        code = compile_source("".join(f"import {name}\n" for name in imported) + part.lines, flags)
    except NOT_COMPILED:
        return None
    inside = [one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == part.name]
    if len(inside) != 1:  # a generic function is inside of another
        return None
    described = describe(inside[0])
    _DESCRIBED.keep((part.lines, answer, flags), described)
    return described


def _list_imported(outline: str, names: frozenset[str]) -> list[str]:
    """Those of the names that the module imports somewhere."""
    table = symtable.symtable(outline, "a.py", "exec")
    return [symbol.get_name() for symbol in table.get_symbols() if symbol.is_imported() and symbol.get_name() in names]


class _Memory(Generic[Value]):
    """What was asked for lately; so many are remembered."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: OrderedDict[tuple[object, ...], Value] = OrderedDict()

    def find(self, key: tuple[object, ...]) -> Value | None:
        with self._lock:
            value = self._found.get(key)
            if value is not None:
                self._found.move_to_end(key)
            return value

    def keep(self, key: tuple[object, ...], value: Value) -> None:
        with self._lock:
            self._found[key] = value
            if len(self._found) > PARTS_REMEMBERED:
                self._found.popitem(last=False)


_DESCRIBED, _IMPORTED = _Memory[bytes](), _Memory[list[str]]()
