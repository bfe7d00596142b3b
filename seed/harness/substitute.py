"""Numbers the vocabulary anew: `python -m harness.substitute <descriptor>`, started by the worker for each run.

What a file brings along about tokens is then of use only if it finds them again by what it counts in its training data.
A token that stands for no byte, as the one at the beginning of a document, keeps its number.
"""

import io
import mmap
import os

import numpy

from harness.channel import Channel, run

TOKENS_AT_ONCE = 1 << 22


def substitute(channel: Channel, begin: dict, train: int, validation: int, own_train: int, own_validation: int) -> None:
    with os.fdopen(validation, "rb") as file:
        arrays = dict(numpy.load(io.BytesIO(file.read()), allow_pickle=False))
    numbers = draw_numbers(begin["draw"], arrays["byte_lengths"])
    renumber(numbers, train, own_train)
    with os.fdopen(own_validation, "wb") as file:
        numpy.savez(file, **renumber_arrays(numbers, arrays))
    channel.send("substituted")


def draw_numbers(draw: str, byte_lengths: numpy.ndarray) -> numpy.ndarray:
    """Each token's new number, uint16 of shape (vocabulary,)."""
    numbers = numpy.arange(len(byte_lengths), dtype=numpy.uint16)
    moved = numpy.flatnonzero(byte_lengths)
    numbers[moved] = numpy.random.default_rng(int(draw, 16)).permutation(moved)
    return numbers


def renumber(numbers: numpy.ndarray, train: int, own_train: int) -> None:
    """Fill a file of the size of `train` with its tokens in new numbers."""
    tokens = numpy.frombuffer(mmap.mmap(train, 0, access=mmap.ACCESS_READ), dtype=numpy.uint16)
    own = numpy.frombuffer(mmap.mmap(own_train, 0), dtype=numpy.uint16)
    for first in range(0, len(tokens), TOKENS_AT_ONCE):
        part = slice(first, first + TOKENS_AT_ONCE)
        numpy.take(numbers, tokens[part], out=own[part])


def renumber_arrays(numbers: numpy.ndarray, arrays: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
    """The arrays of the validation file: windows hold tokens, `byte_lengths` has one entry each."""
    own = {
        name: numbers[held].astype(held.dtype) if name.endswith("windows") else held for name, held in arrays.items()
    }
    own["byte_lengths"] = numpy.empty_like(arrays["byte_lengths"])
    own["byte_lengths"][numbers] = arrays["byte_lengths"]
    return own


if __name__ == "__main__":
    run(substitute)
