"""Merkle trees over an append-only list, as RFC 6962 and RFC 9162 define them, with SHA-256.

A tree is known by its complete subtrees: subtree `index` of `level` covers the leaves from `index << level` on,
`1 << level` of them. It is complete with the leaf `((index + 1) << level) - 1`, and never changes after that.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

EMPTY_ROOT = sha256(b"").digest()


class Subtree(NamedTuple):
    """A complete subtree. `last` is the number of the leaf that completed it."""

    level: int
    last: int


def hash_leaf(leaf: bytes) -> bytes:
    return sha256(b"\0" + leaf).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def split(start: int, end: int) -> list[Subtree]:
    """The complete subtrees that the leaves from `start` to before `end` consist of, the largest first. `start` is a
    multiple of the largest."""
    found = []
    for level in reversed(range((end - start).bit_length())):
        if (end - start) >> level & 1:
            found.append(Subtree(level, start + ((end - start) >> level << level) - 1))
    return found


def join(hashes: Sequence[bytes]) -> bytes:
    """The hash of the leaves whose subtrees, as `split` names them, have these hashes."""
    if not hashes:
        return EMPTY_ROOT
    *left, joined = hashes
    for one in reversed(left):
        joined = hash_node(one, joined)
    return joined


class GrowingTree:
    """A tree to which leaves are appended; it holds the hashes of `split(0, size)` alone."""

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        self.size = size
        self._edge = list(edge)

    def append(self, leaf: bytes) -> list[bytes]:
        """Add a leaf; returns the hashes of the subtrees that it completes, by level."""
        completed = [hash_leaf(leaf)]
        rest = self.size
        while rest & 1:
            completed.append(hash_node(self._edge.pop(), completed[-1]))
            rest >>= 1
        self._edge.append(completed[-1])
        self.size += 1
        return completed

    def root(self) -> bytes:
        return join(self._edge)


def _largest_power_below(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


Range = tuple[int, int]
"""The leaves from the first number to before the second."""


def list_inclusion(number: int, size: int) -> list[Range]:
    """The ranges whose hashes prove that a leaf is in the tree of `size` leaves, the nearest first."""
    start, end, found = 0, size, list[Range]()
    while end - start > 1:
        middle = start + _largest_power_below(end - start)
        found.append((middle, end) if number < middle else (start, middle))
        start, end = (start, middle) if number < middle else (middle, end)
    return found[::-1]


def list_consistency(old: int, size: int) -> list[Range]:
    """The ranges whose hashes prove that the tree of `size` leaves begins with the `old` first ones."""
    if old in (0, size):
        return []
    start, end, found = 0, size, list[Range]()
    while old != end:
        middle = start + _largest_power_below(end - start)
        found.append((middle, end) if old <= middle else (start, middle))
        start, end = (start, middle) if old <= middle else (middle, end)
    return ([] if start == 0 else [(start, end)]) + found[::-1]
