"""Deltas: a text as copies from an earlier version and insertions.

The format is git's own (gitformat-pack, "Deltified representation"), so a stored delta can be sent in a pack as it is.
The matching is ours: its time is linear in the number of lines for any input (docs/decisions/0004). Common beginning
and end are cut off; between them runs of lines are matched, and then bytes at both ends of the rest, which turns a
changed constant into a few bytes.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate

from dulwich.errors import ApplyDeltaError
from dulwich.pack import apply_delta as apply_git_delta

MAX_COPY, MAX_INSERT = 0xFFFF, 127
"""Maximum bytes of one copy or insert instruction. Longer copies are possible, but every reader accepts these."""

MIN_COPY = 8
"""Minimum bytes of a copy; its instruction takes up to 7."""

STRIDE = 16
"""Number of lines compared at once."""

MAX_CACHED_BASES = 32
"""Number of bases whose lines are cached; many experiments start from the same few parents."""

MAX_CACHED_BYTES = 65_536
"""Maximum size of a cached base in bytes."""

Match = tuple[int, int, int]
"""Offset in the base, offset in the target, and number of equal bytes."""


class DeltaDamagedError(Exception):
    """A delta does not fit its base, or is malformed."""


def make_delta(base: bytes, target: bytes) -> bytes:
    """Instructions that make `target` from `base`."""
    delta = bytearray(_encode_size(len(base)) + _encode_size(len(target)))
    copy_from = copy_to = at = 0  # a copy that may still grow: its ends in the base, and its end in the target
    for base_from, target_from, length in _match(base, target):
        gap = target[at:target_from]
        head = _count_common_head(base[copy_to : min(copy_to + len(gap), base_from)], gap)
        rest = gap[head:]
        tail = _count_common_tail(base[max(copy_to + head, base_from - len(rest)) : base_from], rest)
        inserted = rest[: len(rest) - tail]
        if inserted or copy_to + head != base_from - tail:
            delta += _encode_copy(copy_from, copy_to + head) + _encode_insert(inserted)
            copy_from = base_from - tail
        copy_to, at = base_from + length, target_from + length
    return bytes(delta + _encode_copy(copy_from, copy_to))


def apply_delta(base: bytes, delta: bytes) -> bytes:
    """The target that `make_delta` was given. Raises DeltaDamagedError."""
    try:
        return b"".join(apply_git_delta(base, delta))
    except ApplyDeltaError as error:
        raise DeltaDamagedError(str(error)) from error


def _match(base: bytes, target: bytes) -> Iterator[Match]:
    """Common parts, in the target's order: the beginning, runs of lines, and last the end, which may be empty.

    Most experiments change little, so beginning and end are long, and few lines are left to look up.
    """
    head = _count_common_head(base, target)
    tail = _count_common_tail(base[head:], target[head:])
    yield 0, 0, head
    first = target.rfind(b"\n", 0, head) + 1
    if first < head:
        first = target.find(b"\n", head) + 1 or len(target)
    last = target.rfind(b"\n", 0, len(target) - tail) + 1
    if first < last:
        yield from _match_lines(base, target[first:last], first, head)
    yield len(base) - tail, len(target) - tail, tail


def _match_lines(base: bytes, lines: bytes, offset: int, near: int) -> Iterator[Match]:
    """Runs of whole lines that the base has as well, in order; `lines` start at `offset` in the target.

    A run begins at a line that the base has once, or where the previous run ended (at first after `near`); blank lines
    and lone brackets, which are common, are matched only as parts of runs.
    """
    find_lines = _find_lines_cached if len(base) <= MAX_CACHED_BYTES else _find_lines
    old, old_offsets, unique = find_lines(base)
    new = lines.splitlines(keepends=True)
    ends, old_ends = len(new), len(old)
    expected, position = bisect_left(old_offsets, near), 0
    while position < ends:
        line = new[position]
        start = expected if expected < old_ends and old[expected] == line else unique.get(line, old_ends)
        end, first = start, position
        while old[end : end + STRIDE] == new[position : position + STRIDE] and position + STRIDE <= ends:
            end, position = end + STRIDE, position + STRIDE
        while end < old_ends and position < ends and old[end] == new[position]:
            end, position = end + 1, position + 1
        length = old_offsets[end] - old_offsets[start]
        if length >= MIN_COPY:
            expected = end
            yield old_offsets[start], offset, length
        position = max(position, first + 1)
        offset += length or len(line)


def _find_lines(base: bytes) -> tuple[list[bytes], list[int], dict[bytes, int]]:
    """The lines, the offset of each (and of the end), and the numbers of the lines that occur once."""
    lines = base.splitlines(keepends=True)
    times = Counter(lines)
    unique = {line: number for number, line in enumerate(lines) if times[line] == 1}
    return lines, list(accumulate(map(len, lines), initial=0)), unique


_find_lines_cached = lru_cache(maxsize=MAX_CACHED_BASES)(_find_lines)


def _count_common_head(one: bytes, other: bytes) -> int:
    """Number of equal bytes at the beginning. Comparing halves is far faster here than comparing bytes."""
    low, high = 0, min(len(one), len(other))
    if one[:1] != other[:1]:
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _count_common_tail(one: bytes, other: bytes) -> int:
    """Number of equal bytes at the end."""
    return _count_common_head(one[::-1], other[::-1]) if one[-1:] == other[-1:] else 0


def _encode_size(size: int) -> bytes:
    """A number in groups of seven bits, the lowest first."""
    encoded = bytearray()
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*encoded, size])


def _encode_copy(start: int, end: int) -> bytes:
    """Copy instructions: a byte that says which bytes of offset and length follow, then those that are not zero."""
    encoded = bytearray()
    for offset in range(start, end, MAX_COPY):
        numbers = offset.to_bytes(4, "little") + min(MAX_COPY, end - offset).to_bytes(2, "little")
        head = 0x80
        for index, byte in enumerate(numbers):
            if byte:
                head |= 1 << index
        encoded.append(head)
        encoded += numbers.replace(b"\0", b"")
    return bytes(encoded)


def _encode_insert(data: bytes) -> bytes:
    """Insert instructions: a length, and the bytes."""
    if len(data) <= MAX_INSERT:
        return bytes([len(data)]) + data if data else b""
    pieces = (data[start : start + MAX_INSERT] for start in range(0, len(data), MAX_INSERT))
    return b"".join(bytes([len(piece)]) + piece for piece in pieces)
