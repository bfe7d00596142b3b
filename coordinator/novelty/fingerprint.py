"""Fingerprints of code that ignore comments, layout, docstrings and the names of local variables.

Python files are compiled, never run, and their bytecode is hashed. Bytecode differs between
Python versions: after an upgrade of the coordinator, older code is recognised by its files only. A file that does not
compile counts as text.
"""

import ast
import dis
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from types import CodeType

NO_DOCSTRINGS = 2
"""`optimize` of `compile`: docstrings and assertions go."""

FILES_REMEMBERED = 128
"""Number of cached files: many proposals change few files of the same parents."""

_NOT_COMPILED = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
_NO_OP = dis.opmap["NOP"]
_CLASSES_STORE_LINES = sys.version_info >= (3, 13)
"""From Python 3.13 on, the bytecode of a class contains its line number."""


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
        try:
            return b"code\0" + b"".join(_list_parts(_compile(text)))
        except _NOT_COMPILED:
            pass
    return b"text\0" + text.encode()


def _compile(text: str) -> CodeType:
    source: str | ast.Module = text
    if _CLASSES_STORE_LINES:
        source = ast.parse(text)
        for node in ast.walk(source):
            if hasattr(node, "lineno"):
                node.lineno = node.end_lineno = 1  # type: ignore[attr-defined]  # as of those that have lines
    code = compile(source, "a.py", "exec", dont_inherit=True, optimize=NO_DOCSTRINGS)
    assert isinstance(code, CodeType)
    return code


def _list_parts(code: CodeType) -> Iterator[bytes]:
    """The parts of the bytecode that do not depend on layout or on the names of locals."""
    arguments = code.co_argcount + code.co_kwonlyargcount
    names = (code.co_name, code.co_names, code.co_varnames[:arguments], code.co_flags, arguments)
    yield b"%b\0%b\0%b\0" % (_without_no_ops(code.co_code), code.co_exceptiontable, repr(names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _list_parts(constant)
        elif isinstance(constant, frozenset):  # its order changes from process to process
            yield repr(sorted(map(repr, constant))).encode() + b"\0"
        else:
            yield repr(constant).encode() + b"\0"


def _without_no_ops(code: bytes) -> bytes:
    """Instructions, two bytes each, less those that statements such as `pass` leave behind."""
    if _NO_OP not in code:
        return code
    return b"".join(code[at : at + 2] for at in range(0, len(code), 2) if code[at] != _NO_OP)
