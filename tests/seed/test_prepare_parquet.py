"""Token files from parquet shards: every byte is counted once."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import pyarrow
import pyarrow.parquet
import pytest
import rustbpe
from harness.channel import Fault
from harness.prepare import cut_windows, save_validation
from harness.prepare_parquet import encode, first_texts, learn, read_texts

TEXTS = ["Ein König saß im Café, über dem 12345 Möwen kreisten. 👑\n", "the cat sat on the mat\n"] * 60


def pack(table: pyarrow.Table) -> bytes:
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content)
    return content.getvalue()


@contextmanager
def opened(content: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("shard")
    os.write(descriptor, content)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def shard() -> Iterator[int]:
    with opened(pack(pyarrow.table({"text": TEXTS}))) as descriptor:
        yield descriptor


def byte_lengths(tokenizer: rustbpe.Tokenizer) -> numpy.ndarray:
    return numpy.array([len(token) for token, _ in tokenizer.get_mergeable_ranks()] + [0])


def test_reads_a_shard_more_than_once(shard: int) -> None:
    for _ in range(2):
        assert [text for texts in read_texts("a", shard) for text in texts] == TEXTS


@pytest.mark.parametrize(
    "content", [b"", b"<html>Please log in</html>", pack(pyarrow.table({"body": TEXTS}))], ids=["empty", "html", "body"]
)
def test_names_a_file_that_is_no_shard(content: bytes) -> None:
    with (
        opened(content) as descriptor,
        pytest.raises(Fault, match=r"a\.parquet is no parquet file with a column `text`"),
    ):
        list(read_texts("a.parquet", descriptor))


def test_leaves_out_rows_without_a_text() -> None:
    with opened(pack(pyarrow.table({"text": ["one", None, "two"]}))) as descriptor:
        assert list(read_texts("a", descriptor)) == [["one", "two"]]


def test_says_that_there_is_too_little_to_validate() -> None:
    one, none = cut_windows(numpy.zeros(20, dtype=numpy.uint16), 16), numpy.zeros((0, 17), dtype=numpy.uint16)
    with pytest.raises(Fault, match="the validation text is too small"):
        save_validation(-1, one, none, numpy.zeros(20, dtype=numpy.uint16), numpy.ones(1, dtype=int))


def test_takes_as_much_text_as_the_tokenizer_wants(shard: int) -> None:
    first = list(first_texts({"a": shard, "b": shard}, limit=100))
    assert first == TEXTS[:3]
    assert len(list(first_texts({"a": shard, "b": shard}, limit=10**9))) == 2 * len(TEXTS)


@pytest.mark.parametrize("vocab_size", [257, 300])
def test_stands_for_every_byte_however_the_text_falls_apart(vocab_size: int) -> None:
    """With 256 tokens an emoji is four of them; each decodes to U+FFFD, which would count three bytes."""
    tokenizer = learn(iter(TEXTS), vocab_size)
    lengths = byte_lengths(tokenizer)
    assert len(lengths) == vocab_size
    (tokens,) = encode(tokenizer, iter([TEXTS]))
    assert lengths[tokens].sum() == sum(len(text.encode()) for text in TEXTS)
    assert (tokens == vocab_size - 1).sum() == len(TEXTS)


@pytest.mark.parametrize("vocab_size", [257, 300])
@pytest.mark.parametrize("length", [16, 40])
def test_cuts_windows_of_all_tokens(vocab_size: int, length: int) -> None:
    tokenizer = learn(iter(TEXTS), vocab_size)
    (tokens,) = encode(tokenizer, iter([TEXTS]))
    windows = cut_windows(tokens, length)
    assert windows.shape == (len(tokens) // (length + 1), length + 1)
    assert numpy.array_equal(windows.ravel(), tokens[: windows.size])
