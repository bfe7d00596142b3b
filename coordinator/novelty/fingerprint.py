"""A name for what code does, whatever it looks like: comments, layout, docstrings and names of locals do not count.

Python files are compiled, never run, and the compiler's output is hashed: its instructions know no layout, and locals
by number only. Fingerprints of different Python versions differ, so a coordinator that moves to a new Python sees code
from before as new; that code is still known by its files. What does not compile counts as text.

Compiling a file of 25 kB takes milliseconds, and of most proposals all but one function was seen before. So
`outlines.py` compiles what is new of a file, where it can: what comes out is the same.
"""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256

from coordinator.novelty.instructions import NOT_COMPILED, compile_source, describe
from coordinator.novelty.outlines import describe_by_parts

FILES_REMEMBERED = 128
"""Many proposals start from the same few parents, whose files are compared with each."""


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
    if not path.endswith(".py"):
        return text.encode() + b"\0"
    described = describe_by_parts(text)
    if described is not None:
        return described
    try:
        return describe(compile_source(text))
    except NOT_COMPILED:
        return text.encode() + b"\0"
