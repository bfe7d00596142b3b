"""Merkle trees against the vectors that implementations of RFC 6962 share, and proofs that were tampered with."""

from itertools import pairwise

import pytest

from shared import merkle
from shared.merkle import GrowingTree, Range, Subtree
from tests.support.merkle_proofs import is_consistent, is_included

LEAVES = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", bytes(range(0x40, 0x44)),
          bytes(range(0x50, 0x58)), bytes(range(0x60, 0x70))]  # fmt: skip
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
SIZES = 40


class Stored:
    """A tree that keeps all subtrees, as the database does."""

    def __init__(self, count: int) -> None:
        self.hashes: dict[Subtree, bytes] = {}
        tree = GrowingTree()
        for number in range(count):
            leaf = LEAVES[number] if number < len(LEAVES) else str(number).encode()
            self.hashes |= {Subtree(level, number): found for level, found in enumerate(tree.append(leaf))}

    def hash_range(self, one: Range) -> bytes:
        return merkle.join([self.hashes[part] for part in merkle.split(*one)])

    def root(self, size: int) -> bytes:
        return self.hash_range((0, size))


@pytest.fixture(scope="module")
def stored() -> Stored:
    return Stored(SIZES + 1)


def test_roots_are_those_of_the_rfc(stored: Stored) -> None:
    assert [stored.root(size).hex() for size in range(1, 9)] == list(ROOTS)
    assert merkle.EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_tree_goes_on_from_its_edge(stored: Stored) -> None:
    for size in range(8, SIZES):
        edge = [stored.hashes[part] for part in merkle.split(0, size)]
        tree = GrowingTree(size, edge)
        tree.append(str(size).encode())
        assert tree.root() == stored.root(size + 1)


def test_each_leaf_is_proved_and_nothing_else(stored: Stored) -> None:
    for size in range(1, SIZES):
        for number in range(size):
            leaf, root = stored.hashes[Subtree(0, number)], stored.root(size)
            proof = [stored.hash_range(one) for one in merkle.list_inclusion(number, size)]
            assert is_included(leaf, number, size, proof, root)
            assert not is_included(leaf, number, size, proof, stored.root(size + 1))
            assert not is_included(leaf, number + 1, size, proof, root)
            assert not is_included(merkle.hash_leaf(b"other"), number, size, proof, root)
            assert not is_included(leaf, number, size, [*proof, root], root)
            for place, (one, next_) in enumerate(pairwise(proof)):
                swapped = [*proof[:place], next_, one, *proof[place + 2 :]]
                assert one == next_ or not is_included(leaf, number, size, swapped, root)


def test_a_tree_begins_with_each_older_one_and_no_other(stored: Stored) -> None:
    for size in range(1, SIZES):
        for old in range(size + 1):
            before, after = stored.root(old), stored.root(size)
            proof = [stored.hash_range(one) for one in merkle.list_consistency(old, size)]
            assert is_consistent(old, before, size, after, proof)
            assert not is_consistent(old, merkle.hash_leaf(b"other"), size, after, proof)
            assert old in (0, size) or not is_consistent(old, before, size, stored.root(size + 1), proof)
            assert not is_consistent(old, before, size, after, [*proof, after])
