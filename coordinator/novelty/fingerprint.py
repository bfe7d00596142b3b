"""A name for what code does, whatever it looks like: comments, layout, docstrings and names of locals do not count.

Python files are compiled, never run, and the compiler's output is hashed: its instructions know no layout, and locals
by number only. Fingerprints of different Python versions differ, so a coordinator that moves to a new Python sees code
from before as new; that code is still known by its files. What does not compile counts as text.

Compiling a file of 25 kB takes milliseconds, and of a proposal all but a few lines were seen before. So each statement
at the left edge is compiled by itself, and what came of it is remembered by its lines.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from types import CodeType

NO_DOCSTRINGS = 2
"""`optimize` of `compile`: docstrings and assertions go."""

FILES_REMEMBERED = 128
"""Many proposals start from the same few parents, whose files are compared with each."""

PIECES_REMEMBERED = 8_192
LARGEST_REMEMBERED = 16_384
"""Characters of a piece, at most."""

MAX_ATTEMPTS = 16
"""So often a piece is tried with one more; what has more lines at the left edge is read as a whole."""

_NOT_COMPILED = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
_CODE_KNOWS_ITS_LINE = sys.version_info >= (3, 13)
"""From Python 3.13 on the code of a class holds the number of its line."""

_ENDS = re.compile(r"\n(?=[A-Za-z_@])")
"""Where something at the left edge may end, and the next begin."""

_ANY = r"[^\n\r\f]*\n"
_REST = r"""(?>[^\n\r\f;]*\n|[^\n\r\f;'"#]*#[^\n\r\f'"]*\n)"""
_WITHIN = r"[ \t#)\]}]"
_ONE_STATEMENT = re.compile(
    rf"(?:[ \t]*(?:#[^\n\r]*)?\n)*+(?:"
    rf"(?:@{_ANY}(?:{_WITHIN}{_ANY}|\n)*+)*+(?:async[ \t]+def|def|class)[ \t]{_ANY}(?:{_WITHIN}{_ANY}|\n)*+"
    rf"|[A-Za-z_]{_REST}(?:{_WITHIN}{_REST}|\n)*+)"
)
"""Plainly one statement: one line begins at the left edge, besides comments, decorators and closing brackets, and none
has a `;` outside of a comment, which in a function or class ends nothing. A form feed within a line would be another
left edge. Nothing that matched is tried in another way (`*+`, `?>`): two ways for each line would be endless."""

_CONTINUES = ("else", "elif", "except", "finally")
_MARKS = ('"""', "'''")
"""A text between an odd number of these seems to go on."""


def fingerprint(files: Mapping[str, str]) -> str:
    """SHA-256, in hexadecimal, of what these files do, by path."""
    digest = sha256()
    for path, text in sorted(files.items()):
        digest.update(f"{path}\0".encode())
        digest.update(_digest_file(path, text))
    return digest.hexdigest()


@lru_cache(maxsize=FILES_REMEMBERED)
def _digest_file(path: str, text: str) -> bytes:
    return sha256(_normalise(path, text)).digest()


def _normalise(path: str, text: str) -> bytes:
    if path.endswith(".py"):
        described = describe_by_pieces(text)
        if described is None:
            described = describe_statements(text)
        if described is not None:
            return b"statements\0" + described
    return b"text\0" + text.encode()


def describe_by_pieces(text: str) -> bytes | None:
    """As `describe_statements`, by pieces that are remembered. None where the pieces are not plain to see.

    If the beginning of a file is a whole program and the rest starts at the left edge, both can be read apart.
    What is no whole program (a decorator, a `try`, an open quotation mark) takes the next piece along.
    """
    described, piece, is_open, attempts = list[bytes](), list[str](), [0, 0], 0
    *parts, last = _ENDS.split(text)
    parts = [*(f"{part}\n" for part in parts), last]
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        piece.append(part)
        if _MARKS[0] in part or _MARKS[1] in part:
            is_open = [was ^ part.count(mark) % 2 for was, mark in zip(is_open, _MARKS, strict=True)]
        if following and (is_open[0] or is_open[1] or following.startswith(_CONTINUES)):
            continue  # it only spares an attempt: a longer piece tells the same
        known = _describe_piece("".join(piece) if len(piece) > 1 else part)
        if known is not None:
            described.append(known)
            piece, is_open, attempts = [], [0, 0], 0
        elif (attempts := attempts + 1) > MAX_ATTEMPTS:
            return None
    return None if piece else b"".join(described)


def describe_statements(text: str) -> bytes | None:
    """32 bytes for each statement at the left edge that does anything; None if the text does not compile."""
    try:
        if not _CODE_KNOWS_ITS_LINE and _ONE_STATEMENT.fullmatch(text):
            return _describe_code(_compile(text))  # spares to turn its tree into Python's objects and back
        return b"".join(_describe_code(_compile(_alone(statement))) for statement in ast.parse(text).body)
    except _NOT_COMPILED:
        return None


def _describe_piece(piece: str) -> bytes | None:
    return _remember_piece(piece) if len(piece) <= LARGEST_REMEMBERED else describe_statements(piece)


_remember_piece = lru_cache(maxsize=PIECES_REMEMBERED)(describe_statements)


def _describe_code(code: CodeType) -> bytes:
    if code.co_code == _NOTHING.co_code and code.co_consts == _NOTHING.co_consts:
        return b""
    return sha256(b"".join(_list_parts(code))).digest()


def _alone(statement: ast.stmt) -> ast.Module:
    if _CODE_KNOWS_ITS_LINE:
        for node in ast.walk(statement):
            if hasattr(node, "lineno"):
                node.lineno = node.end_lineno = 1  # type: ignore[attr-defined]  # as of those that have lines
    return ast.Module([statement], type_ignores=[])


def _compile(source: ast.Module | str) -> CodeType:
    code = compile(source, "a.py", "exec", dont_inherit=True, optimize=NO_DOCSTRINGS)
    assert isinstance(code, CodeType)
    return code


_NOTHING = _compile("pass")


def _list_parts(code: CodeType) -> Iterator[bytes]:
    """Everything that tells two pieces of code apart, but not where they stand nor what their locals are called."""
    arguments = code.co_argcount + code.co_kwonlyargcount
    names = (code.co_name, code.co_names, code.co_varnames[:arguments], code.co_flags, arguments)
    yield b"%b\0%b\0%b\0" % (code.co_code, code.co_exceptiontable, repr(names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _list_parts(constant)
        elif isinstance(constant, frozenset):  # its order changes from process to process
            yield repr(sorted(map(repr, constant))).encode() + b"\0"
        else:
            yield repr(constant).encode() + b"\0"
