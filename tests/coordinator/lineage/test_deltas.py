"""Deltas are small, take linear time for any input, and have git's format."""

import subprocess
import time
import zlib
from hashlib import sha1
from pathlib import Path
from random import Random

import pytest
from dulwich.object_format import SHA1
from dulwich.objects import Blob
from dulwich.pack import REF_DELTA, pack_header_chunks, pack_object_header
from hypothesis import given
from hypothesis import strategies as st

from coordinator.lineage.deltas import DeltaDamagedError, apply_delta, make_delta

LINES = [b"a\n", b"\n", b"    return x\n", b"WIDTH = 128\n", b"y" * 300 + b"\n", b"no end of line", b"dos\r\n"]
CONTENTS = st.lists(st.sampled_from(LINES), max_size=30).map(b"".join) | st.binary(max_size=80)


@given(CONTENTS, CONTENTS)
def test_any_content_comes_back(base: bytes, target: bytes) -> None:
    assert apply_delta(base, make_delta(base, target)) == target


def make_program(lines: int = 500) -> bytes:
    random = Random(7)
    return b"".join(b"    weight_%d = scale * %.6f\n" % (number, random.random()) for number in range(lines))


def test_a_changed_constant_takes_a_few_bytes() -> None:
    base = make_program()
    target = base.replace(b"weight_250 = scale", b"weight_250 = ratio")
    delta = make_delta(base, target)
    assert apply_delta(base, delta) == target
    assert len(delta) < 30, "two copies, a short insertion and both sizes"


def test_moved_and_repeated_parts_are_copied() -> None:
    base = make_program()
    half = len(base) // 2
    middle = base.index(b"\n", half) + 1
    for target in (base[middle:] + base[:middle], base + base[middle:], base[:middle] + b"# new\n" + base[middle:]):
        assert len(make_delta(base, target)) < 60
        assert apply_delta(base, make_delta(base, target)) == target


@pytest.mark.parametrize(
    "lines",
    [
        [b"x = 1\n"] * 20_000,
        [b"a" * (number % 60) + b"\n" for number in range(4_000)],
        [b"%d\n" % Random(number).randrange(10**9) for number in range(12_000)],
    ],
)
def test_no_content_takes_long(lines: list[bytes]) -> None:
    base = b"".join(lines)
    Random(1).shuffle(lines)
    target = b"".join(lines)[1:]
    began = time.process_time()
    assert apply_delta(base, make_delta(base, target)) == target
    assert time.process_time() - began < 10.0, "CPU seconds; the longest takes a 250th"


def test_git_reads_our_deltas(tmp_path: Path) -> None:
    base, target = make_program(), make_program().replace(b"0.5", b"0.25") + b"x" * 200_000
    delta = make_delta(base, target)
    base_name = Blob.from_string(base).id.decode()
    pack = b"".join(pack_header_chunks(2))
    pack += bytes(pack_object_header(Blob.type_num, None, len(base), SHA1)) + zlib.compress(base)
    pack += bytes(pack_object_header(REF_DELTA, bytes.fromhex(base_name), len(delta), SHA1)) + zlib.compress(delta)
    (tmp_path / "x.pack").write_bytes(pack + sha1(pack, usedforsecurity=False).digest())
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "git"], check=True)
    subprocess.run(["git", "-C", tmp_path / "git", "index-pack", tmp_path / "x.pack"], check=True, capture_output=True)
    (tmp_path / "x.pack").rename(tmp_path / "git/objects/pack/pack-1.pack")
    (tmp_path / "x.idx").rename(tmp_path / "git/objects/pack/pack-1.idx")
    name = Blob.from_string(target).id.decode()
    read = subprocess.run(["git", "-C", tmp_path / "git", "cat-file", "blob", name], check=True, capture_output=True)
    assert read.stdout == target


@pytest.mark.parametrize("delta", [b"", b"\x05", b"\x05\x05\x90\x09", b"\x04\x01\x01a", b"\xff" * 20])
def test_what_is_no_delta_is_refused(delta: bytes) -> None:
    with pytest.raises(DeltaDamagedError):
        apply_delta(b"hello", delta)
