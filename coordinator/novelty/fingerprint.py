"""Fingerprints of code that ignore comments, layout, docstrings and the names of local variables.

Python files are compiled, never run, and the bytecode of each top-level statement is hashed. Bytecode differs between
Python versions: after an upgrade of the coordinator, older code is recognised by its files only. A file that does not
compile counts as text.

Compiling a whole file of 27 kB takes 3 to 10 ms, and most statements of a proposal were seen before. So the text is cut
into pieces at lines that begin at the left edge, and the result of each piece is cached (docs/decisions/0009).
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
"""Number of cached files: many proposals change few files of the same parents."""

PIECES_REMEMBERED = 8_192
"""Number of cached pieces."""

LARGEST_REMEMBERED = 16_384
"""Longest piece that is cached, in characters."""

MAX_ATTEMPTS = 16
"""Number of times that a piece which does not compile takes the next one along, before the file is read whole."""

_NOT_COMPILED = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
_CLASSES_STORE_LINES = sys.version_info >= (3, 13)
"""From Python 3.13 on, the bytecode of a class contains its line number."""

_ENDS = re.compile(r"\n(?=[A-Za-z_@])")
"""The places between two lines of which the second begins at the left edge."""

_ANY = r"[^\n\r\f]*\n"
_REST = r"""(?>[^\n\r\f;]*\n|[^\n\r\f;'"#]*#[^\n\r\f'"]*\n)"""
_WITHIN = r"[ \t#)\]}]"
_ONE_STATEMENT = re.compile(
    rf"(?:[ \t]*(?:#[^\n\r]*)?\n)*+(?:"
    rf"(?:@{_ANY}(?:{_WITHIN}{_ANY}|\n)*+)*+(?:async[ \t]+def|def|class)[ \t]{_ANY}(?:{_WITHIN}{_ANY}|\n)*+"
    rf"|[A-Za-z_]{_REST}(?:{_WITHIN}{_REST}|\n)*+)"
)
"""A text that is certainly one statement: one line begins at the left edge, besides comments, decorators and closing
brackets, and none has a `;` outside of a comment (in a function or class it may). A form feed within a line would be
another left edge. Possessive quantifiers (`*+`, `?>`) keep the time linear."""

_CONTINUES = ("else", "elif", "except", "finally")
_MARKS = ('"""', "'''")
"""Quotation marks of texts over several lines: after an odd number of them a text goes on."""


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
    """The same as `describe_statements`, from cached pieces. None where the text cannot be cut safely.

    A beginning that is a whole program, before a line at the left edge, can be read apart from the rest. A piece that
    is no whole program (a decorator, a `try`, an open quotation mark) takes the next piece along.
    """
    described, piece, is_open, attempts = list[bytes](), list[str](), [0, 0], 0
    *parts, last = _ENDS.split(text)
    parts = [*(f"{part}\n" for part in parts), last]
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        piece.append(part)
        if _MARKS[0] in part or _MARKS[1] in part:
            is_open = [was ^ part.count(mark) % 2 for was, mark in zip(is_open, _MARKS, strict=True)]
        if following and (is_open[0] or is_open[1] or following.startswith(_CONTINUES)):
            continue  # this only saves an attempt: a longer piece gives the same result
        known = _describe_piece("".join(piece) if len(piece) > 1 else part)
        if known is not None:
            described.append(known)
            piece, is_open, attempts = [], [0, 0], 0
        elif (attempts := attempts + 1) > MAX_ATTEMPTS:
            return None
    return None if piece else b"".join(described)


def describe_statements(text: str) -> bytes | None:
    """32 bytes for each top-level statement that has an effect; None if the text does not compile."""
    try:
        if not _CLASSES_STORE_LINES and _ONE_STATEMENT.fullmatch(text):
            return _describe_code(_compile(text))  # building a tree of Python objects is slower
        return b"".join(_describe_code(_compile(_isolate(statement))) for statement in ast.parse(text).body)
    except _NOT_COMPILED:
        return None


def _describe_piece(piece: str) -> bytes | None:
    return _remember_piece(piece) if len(piece) <= LARGEST_REMEMBERED else describe_statements(piece)


_remember_piece = lru_cache(maxsize=PIECES_REMEMBERED)(describe_statements)


def _describe_code(code: CodeType) -> bytes:
    if code.co_code == _NOTHING.co_code and code.co_consts == _NOTHING.co_consts:
        return b""
    return sha256(b"".join(_list_parts(code))).digest()


def _isolate(statement: ast.stmt) -> ast.Module:
    if _CLASSES_STORE_LINES:
        for node in ast.walk(statement):
            if hasattr(node, "lineno"):
                node.lineno = node.end_lineno = 1  # type: ignore[attr-defined]  # as of those that have lines
                node.col_offset = node.end_col_offset = 0  # type: ignore[attr-defined]
    return ast.Module([statement], type_ignores=[])


def _compile(source: ast.Module | str) -> CodeType:
    code = compile(source, "a.py", "exec", dont_inherit=True, optimize=NO_DOCSTRINGS)
    assert isinstance(code, CodeType)
    return code


_NOTHING = _compile("pass")


def _list_parts(code: CodeType) -> Iterator[bytes]:
    """The parts of the bytecode that do not depend on layout or on the names of locals."""
    arguments = code.co_argcount + code.co_kwonlyargcount
    names: tuple[object, ...] = (
        code.co_name, code.co_names, code.co_varnames[:arguments], code.co_flags, arguments
    )  # fmt: skip
    if code.co_posonlyargcount or code.co_kwonlyargcount:
        names += (code.co_posonlyargcount, code.co_kwonlyargcount)
    yield b"%b\0%b\0%b\0" % (code.co_code, code.co_exceptiontable, repr(names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _list_parts(constant)
        elif isinstance(constant, frozenset):  # its order changes from process to process
            yield repr(sorted(map(repr, constant))).encode() + b"\0"
        else:
            yield repr(constant).encode() + b"\0"
