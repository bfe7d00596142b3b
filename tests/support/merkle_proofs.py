"""Checks the proofs that the coordinator gives of a history, as their reader would (RFC 9162)."""

from collections.abc import Sequence

from shared.merkle import EMPTY_ROOT, hash_node, list_consistency, list_inclusion


def is_included(leaf_hash: bytes, number: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether a proof leads from a leaf to the root of a tree."""
    if not 0 <= number < size:
        return False
    ranges = list_inclusion(number, size)
    if len(ranges) != len(proof):
        return False
    joined = leaf_hash
    for (start, _), other in zip(ranges, proof, strict=True):
        joined = hash_node(joined, other) if start > number else hash_node(other, joined)
    return joined == root


def is_consistent(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that a tree begins with the leaves of an older one."""
    if not 0 <= old <= size or len(proof) != len(list_consistency(old, size)):
        return False
    if old in (0, size):
        return old_root == (EMPTY_ROOT if old == 0 else root)
    ranges, rest = list_consistency(old, size), list(proof)
    before = after = old_root
    if ranges[0][1] == old:  # the older tree is no subtree of the newer
        before = after = rest.pop(0)
        ranges = ranges[1:]
    for (start, _), other in zip(ranges, rest, strict=True):
        if start < old:
            before = hash_node(other, before)
            after = hash_node(other, after)
        else:
            after = hash_node(after, other)
    return before == old_root and after == root
