"""Small parquet shards in the manner of seed/gpt's."""

import io
from random import Random

import pyarrow
import pyarrow.parquet

SHARDS = ("shard_00000.parquet", "shard_00001.parquet", "shard_06542.parquet")
"""Two to train on, and the one that validates."""


def make_shards() -> dict[str, bytes]:
    """All of them, by name."""
    return {name: make_shard(number) for number, name in enumerate(SHARDS)}


def make_shard(seed: int) -> bytes:
    """400 documents with some regularity to learn."""
    draw = Random(seed)
    nouns, verbs = ("king", "river", "lamp", "café", "city", "stone"), ("saw", "gave", "took", "made", "kept")
    sentence = "The {} {} the {} of {}. "
    texts = [
        "".join(
            sentence.format(draw.choice(nouns), draw.choice(verbs), draw.choice(nouns), draw.randrange(100))
            for _ in range(draw.randint(2, 20))
        )
        for _ in range(400)
    ]
    return write_shard(texts)


def write_shard(texts: list[str]) -> bytes:
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), content, row_group_size=100)
    return content.getvalue()
