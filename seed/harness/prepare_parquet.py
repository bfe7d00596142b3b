"""Makes token files from parquet shards: `python -m harness.prepare_parquet <descriptor>`, started in a sandbox.

Each shard has a column `text`, a document a row. Settings (`[data.settings]` in swarm.toml): `validation_shard` is the
file that nothing is trained on, `vocab_size` the tokenizer's size, `tokenizer_bytes` how much text it is trained on,
`sequence_length` a window's, `holdout_percent` the share of the validation shard that is sealed, at its end.

Every document begins with a token of its own, the last of the vocabulary, which stands for no byte. A token's length is
that of its bytes, not of what they decode to: half a character decodes to U+FFFD, which has three. The files made are
those of prepare.py.
"""

import os
from collections.abc import Iterator
from itertools import chain

import numpy
import pyarrow
import pyarrow.parquet
import rustbpe

from harness.channel import Channel, Fault, run
from harness.difficulty import MAX_COUNTED
from harness.prepare import cut_windows, save_validation, send_prepared

DOCUMENTS_AT_ONCE = 1024


def main(channel: Channel, begin: dict, train: int, validation: int, *sources: int) -> None:
    settings = begin["settings"]
    shards = dict(zip(begin["sources"], sources, strict=True))
    held_out = shards.pop(settings["validation_shard"])
    tokenizer = learn(first_texts(shards, settings["tokenizer_bytes"]), settings["vocab_size"])
    counted: list[numpy.ndarray] = []
    with os.fdopen(train, "wb") as file:
        for name, shard in shards.items():
            for tokens in encode(tokenizer, read_texts(name, shard)):
                file.write(tokens.tobytes())
                if sum(map(len, counted)) < MAX_COUNTED:
                    counted.append(tokens)
    byte_lengths = numpy.array([len(token) for token, _ in tokenizer.get_mergeable_ranks()] + [0])
    tokens = encode(tokenizer, read_texts(settings["validation_shard"], held_out))
    windows = cut_windows(numpy.concatenate([numpy.empty(0, numpy.uint16), *tokens]), settings["sequence_length"])
    border = len(windows) * (100 - settings["holdout_percent"]) // 100
    save_validation(validation, windows[:border], windows[border:], numpy.concatenate(counted), byte_lengths)
    send_prepared(channel, settings, windows[:border], byte_lengths)


def read_texts(name: str, shard: int) -> Iterator[list[str]]:
    """Batches of a shard's documents, without empty rows. Raises Fault if it is no such shard."""
    with os.fdopen(os.dup(shard), "rb") as file:
        file.seek(0)
        try:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(DOCUMENTS_AT_ONCE, columns=["text"]):
                yield batch.column("text").cast(pyarrow.string()).drop_null().to_pylist()
        except (pyarrow.ArrowException, KeyError) as error:
            raise Fault(f"{name} is no parquet file with a column `text`: {error}") from error


def first_texts(shards: dict[str, int], limit: int) -> Iterator[str]:
    """Documents from the first shard on, about `limit` bytes of them."""
    batches = chain.from_iterable(read_texts(name, shard) for name, shard in shards.items())
    done = 0
    for text in chain.from_iterable(batches):
        if done >= limit:
            return
        done += len(text.encode())
        yield text


def learn(texts: Iterator[str], vocab_size: int) -> rustbpe.Tokenizer:
    """A byte-pair encoding of `vocab_size` - 1 tokens; one more is for the beginning of a document."""
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(texts, vocab_size - 1)
    return tokenizer


def encode(tokenizer: rustbpe.Tokenizer, batches: Iterator[list[str]]) -> Iterator[numpy.ndarray]:
    """The tokens (uint16) of each batch of documents."""
    start = [tokenizer.vocab_size]
    for texts in batches:
        yield numpy.array([token for ids in tokenizer.batch_encode(texts) for token in start + ids], dtype=numpy.uint16)


if __name__ == "__main__":
    run(main)
