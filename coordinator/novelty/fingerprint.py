"""A name for what code does, whatever it looks like: comments, layout, docstrings and names of locals do not count.

Python files are compiled, never run, and the compiler's output is hashed: its instructions know no layout, and locals
by number only. Fingerprints of different Python versions differ, so a coordinator that moves to a new Python sees code
from before as new; that code is still known by its files. What does not compile counts as text.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from types import CodeType

FILES_REMEMBERED = 128
"""Many proposals start from the same few parents, whose files are compared with each."""

NO_DOCSTRINGS = 2
"""`optimize` of `compile`: docstrings and assertions go."""


def fingerprint(files: Mapping[str, str]) -> str:
    """SHA-256, in hexadecimal, of what these files do, by path."""
    digest = sha256()
    for path, text in sorted(files.items()):
        digest.update(f"{path}\0".encode())
        digest.update(_digest_file(path, text))
    return digest.hexdigest()


@lru_cache(maxsize=FILES_REMEMBERED)
def _digest_file(path: str, text: str) -> bytes:
    digest = sha256()
    for part in _normalise(path, text):
        digest.update(part)
        digest.update(b"\0")
    return digest.digest()


def _normalise(path: str, text: str) -> Iterator[bytes]:
    if path.endswith(".py"):
        try:
            code = compile(text, path, "exec", dont_inherit=True, optimize=NO_DOCSTRINGS)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            yield text.encode()
            return
        yield from _describe(code)
    else:
        yield text.encode()


def _describe(code: CodeType) -> Iterator[bytes]:
    """Everything that tells two functions apart, but not where they stand nor what their locals are called."""
    arguments = code.co_argcount + code.co_kwonlyargcount
    yield code.co_code
    yield code.co_exceptiontable
    yield repr((code.co_name, code.co_names, code.co_varnames[:arguments], code.co_flags, arguments)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _describe(constant)
        elif isinstance(constant, frozenset):  # its order changes from process to process
            yield repr(sorted(map(repr, constant))).encode()
        else:
            yield repr(constant).encode()
