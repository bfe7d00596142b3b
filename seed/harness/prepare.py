"""Makes token files from the text: `python -m harness.prepare <descriptor>`, started by the worker in a sandbox.

The text is that of one file of a source package: JSON lines, each with a `text`. Settings (`[data.settings]` in
swarm.toml): `member` is that file's path in the package, `vocab_size` the tokenizer's size, `sequence_length` a
window's, `validation_percent` the share of the text that is kept for validation, in blocks spread evenly over it, and
`holdout_percent` the share of these blocks that is sealed.

The training file is the tokens, uint16. The validation file is an .npz: `windows`, uint16 of shape (windows,
sequence_length + 1), the pool that ordinary runs draw from (draw.py), `sealed_windows` for runs with a key to them, the
features of both to balance draws by (`features`, `sealed_features`), and `byte_lengths` of all tokens.
"""

import json
import os
import tarfile
from collections.abc import Sequence

import numpy

from harness.channel import Channel, Fault, run
from harness.difficulty import describe_windows
from harness.draw import choose_count
from harness.tokenizer import learn
from harness.windows import size_memories

BLOCK_BYTES = 4096


def main(channel: Channel, begin: dict, train: int, validation: int, source: int) -> None:
    settings = begin["settings"]
    kept, held_out = split(cut_blocks(read_text(source, settings["member"])), settings["validation_percent"])
    pool, sealed = split(held_out, settings["holdout_percent"])
    tokenizer = learn(b"".join(kept), settings["vocab_size"])
    tokens = numpy.array(tokenizer.encode(b"".join(kept)), dtype=numpy.uint16)
    with os.fdopen(train, "wb") as file:
        file.write(tokens.tobytes())
    length, byte_lengths = settings["sequence_length"], numpy.array(tokenizer.byte_lengths)
    windows, sealed_windows = (cut_windows(tokenizer.encode(b"".join(part)), length) for part in (pool, sealed))
    save_validation(validation, windows, sealed_windows, tokens, byte_lengths)
    send_prepared(channel, settings, windows, byte_lengths)


def send_prepared(channel: Channel, settings: dict, windows: numpy.ndarray, byte_lengths: numpy.ndarray) -> None:
    """Send every run's facts to the supervisor. A scorer asks two hosts, so that the second cannot remember."""
    length, vocab_size = settings["sequence_length"], len(byte_lengths)
    count = choose_count(byte_lengths[windows[:, 1:]].sum(axis=1), settings["scored_bytes"])
    rows, request_bytes, answer_bytes = size_memories(length, vocab_size, count)
    facts = {"vocab_size": vocab_size, "sequence_length": length, "rows": rows}
    channel.send("prepared", facts=facts, request_bytes=request_bytes, answer_bytes=answer_bytes, hosts=2)


def read_text(source: int, member: str) -> bytes:
    """The texts of all lines, one each line."""
    with os.fdopen(source, "rb") as file, tarfile.open(fileobj=file) as package:
        lines = package.extractfile(member).read().splitlines()
    return "".join(json.loads(line)["text"] + "\n" for line in lines).encode()


def cut_blocks(text: bytes) -> list[bytes]:
    """Blocks of whole lines, each of BLOCK_BYTES and the rest of a line."""
    blocks, begin = [], 0
    while begin < len(text):
        end = text.find(b"\n", begin + BLOCK_BYTES) + 1 or len(text)
        blocks.append(text[begin:end])
        begin = end
    return blocks


def split(blocks: list[bytes], percent: int) -> tuple[list[bytes], list[bytes]]:
    """The blocks without a `percent` of them, spread evenly, and these."""
    taken = [(at + 1) * percent // 100 > at * percent // 100 for at in range(len(blocks))]
    kept = [block for block, is_taken in zip(blocks, taken, strict=True) if not is_taken]
    return kept, [block for block, is_taken in zip(blocks, taken, strict=True) if is_taken]


def cut_windows(tokens: Sequence[int] | numpy.ndarray, length: int) -> numpy.ndarray:
    """All windows of `length` + 1 tokens from the beginning on, without overlap, uint16."""
    count = len(tokens) // (length + 1)
    return numpy.array(tokens[: count * (length + 1)], dtype=numpy.uint16).reshape(count, length + 1)


def save_validation(
    descriptor: int, windows: numpy.ndarray, sealed: numpy.ndarray, train: numpy.ndarray, byte_lengths: numpy.ndarray
) -> None:
    """Write the validation file. `train` are training tokens. Raises Fault if there are fewer than two windows."""
    if len(windows) < 2:
        raise Fault("the validation text is too small for two windows")
    features = describe_windows(numpy.concatenate([windows, sealed]), train, byte_lengths)
    parts = {"features": features[: len(windows)], "sealed_features": features[len(windows) :]}
    with os.fdopen(descriptor, "wb") as file:
        numpy.savez(file, windows=windows, sealed_windows=sealed, byte_lengths=byte_lengths, **parts)


if __name__ == "__main__":
    run(main)
