"""Exchanges letters: `python -m harness.substitute <descriptor>`, started by the worker in a sandbox for each run.

What stands in the edited file, or in the texts of a machine's own programs, then resembles the text no more. Capitals
are exchanged as their small letters are, and all else stays, so what an honest codec finds is as before.
"""

import os
import string
from random import Random

from harness.channel import Channel, run


def substitute(channel: Channel, begin: dict, *data: int) -> None:
    table = draw_table(begin["draw"])
    for source, target in zip(data[:2], data[2:], strict=True):
        os.pwrite(target, os.pread(source, os.fstat(source).st_size, 0).translate(table), 0)
    channel.send("substituted")


def draw_table(draw: str) -> bytes:
    """A table for `bytes.translate`."""
    letters = string.ascii_lowercase
    others = "".join(Random(draw).sample(letters, len(letters)))
    return bytes.maketrans((letters + letters.upper()).encode(), (others + others.upper()).encode())


if __name__ == "__main__":
    run(substitute)
