"""The vocabulary's numbers of a run."""

import io
import os

import numpy
import pytest
from harness import substitute

VOCABULARY = 300
BYTE_LENGTHS = numpy.array([1] * 256 + [2] * (VOCABULARY - 257) + [0])
FEATURES = numpy.arange(80.0).reshape(20, 4)


class Line:
    """A channel that is only written to."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, kind: str) -> None:
        self.sent.append(kind)


def memory(content: bytes) -> int:
    descriptor = os.memfd_create("data")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def renumber(
    draw: str, tokens: numpy.ndarray, windows: numpy.ndarray
) -> tuple[numpy.ndarray, dict[str, numpy.ndarray]]:
    """Both files as a run gets them: training tokens, and the arrays of the validation file."""
    packed = io.BytesIO()
    features = {"features": FEATURES, "sealed_features": FEATURES}
    numpy.savez(packed, windows=windows, sealed_windows=windows[:3], byte_lengths=BYTE_LENGTHS, **features)
    files = [tokens.astype(numpy.uint16).tobytes(), packed.getvalue()]
    own = [memory(bytes(len(content))) for content in files]
    line, kept = Line(), os.dup(own[1])
    substitute.substitute(line, {"draw": draw}, *map(memory, files), *own)  # type: ignore[arg-type]
    assert line.sent == ["substituted"]
    assert os.fstat(own[0]).st_size == len(files[0]) and os.fstat(kept).st_size == len(files[1])
    drawn = numpy.load(io.BytesIO(os.pread(kept, len(files[1]), 0)), allow_pickle=False)
    return numpy.frombuffer(os.pread(own[0], len(files[0]), 0), dtype=numpy.uint16), dict(drawn)


def test_all_data_of_a_run_have_the_same_new_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(substitute, "TOKENS_AT_ONCE", 700)
    random = numpy.random.default_rng(0)
    tokens, windows = random.integers(VOCABULARY, size=5000), random.integers(VOCABULARY, size=(20, 33))
    own, arrays = renumber("a1" * 32, tokens, windows)
    numbers = substitute.draw_numbers("a1" * 32, BYTE_LENGTHS)
    assert sorted(numbers) == list(range(VOCABULARY)) and (numbers != numpy.arange(VOCABULARY)).sum() > 250
    assert (own == numbers[tokens]).all() and (arrays["windows"] == numbers[windows]).all()
    assert arrays["windows"].dtype == windows.dtype
    assert (arrays["sealed_windows"] == arrays["windows"][:3]).all() and (arrays["features"] == FEATURES).all()
    assert (arrays["byte_lengths"][arrays["windows"]] == BYTE_LENGTHS[windows]).all(), "as many bytes are scored"
    assert numbers[-1] == VOCABULARY - 1, "the token at the beginning of a document is known"
    again, _ = renumber("a1" * 32, tokens, windows)
    other, _ = renumber("b2" * 32, tokens, windows)
    assert (again == own).all() and (other != own).mean() > 0.9
