"""Makes token files from the text: `python -m harness.prepare <descriptor>`, started by the worker in a sandbox.

The text is that of one file of a source package: JSON lines, each with a `text`. Settings (`[data.settings]` in
swarm.toml): `member` is that file's path in the package, `vocab_size` the tokenizer's size, `sequence_length` a
window's, `validation_percent` the share at the end that is kept for validation, `scored_bytes` about how many bytes
of it are scored.

The training file is the tokens, uint16. The validation file is an .npz: `windows`, int64 of shape (windows,
sequence_length + 1), spread evenly over the validation text, and `byte_lengths` of all tokens.
"""

import json
import os
import tarfile

import numpy

from harness.channel import Channel, run
from harness.tokenizer import Tokenizer, learn
from harness.windows import size_memories


def main(channel: Channel, begin: dict, train: int, validation: int, source: int) -> None:
    settings = begin["settings"]
    text = read_text(source, settings["member"])
    border = text.rindex(b"\n", 0, len(text) * (100 - settings["validation_percent"]) // 100) + 1
    tokenizer = learn(text[:border], settings["vocab_size"])
    with os.fdopen(train, "wb") as file:
        file.write(numpy.array(tokenizer.encode(text[:border]), dtype=numpy.uint16).tobytes())
    with os.fdopen(validation, "wb") as file:
        windows = cut_windows(text[border:], tokenizer, settings["sequence_length"], settings["scored_bytes"])
        numpy.savez(file, windows=windows, byte_lengths=numpy.array(tokenizer.byte_lengths))
    send_prepared(channel, len(tokenizer.byte_lengths), settings["sequence_length"])


def send_prepared(channel: Channel, vocab_size: int, sequence_length: int) -> None:
    """Send every run's facts to the supervisor. A scorer asks two hosts, so that the second cannot remember."""
    rows, request_bytes, answer_bytes = size_memories(sequence_length, vocab_size)
    facts = {"vocab_size": vocab_size, "sequence_length": sequence_length, "rows": rows}
    channel.send("prepared", facts=facts, request_bytes=request_bytes, answer_bytes=answer_bytes, hosts=2)


def read_text(source: int, member: str) -> bytes:
    """The texts of all lines, one each line."""
    with os.fdopen(source, "rb") as file, tarfile.open(fileobj=file) as package:
        lines = package.extractfile(member).read().splitlines()
    return "".join(json.loads(line)["text"] + "\n" for line in lines).encode()


def cut_windows(text: bytes, tokenizer: Tokenizer, length: int, scored_bytes: int) -> numpy.ndarray:
    """Windows of `length` + 1 tokens, without overlap, that hold about `scored_bytes` together."""
    tokens = numpy.array(tokenizer.encode(text))
    windows = tokens[: len(tokens) // (length + 1) * (length + 1)].reshape(-1, length + 1)
    wanted = max(1, round(len(windows) * scored_bytes / len(text)))
    return windows[numpy.linspace(0, len(windows) - 1, min(wanted, len(windows))).round().astype(int)]


if __name__ == "__main__":
    run(main)
