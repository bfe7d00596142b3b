"""Makes the questions: `python -m harness.prepare <descriptor>`, started by the worker once, in a sandbox.

It gets two empty files to fill, then the files that the contract's [[data.sources]] name. The first file goes to the
trainer when the clock starts, the second to the scorer alone: what the edited file must not know belongs there. The
questions are drawn by chance: from a seed in this file, which all can read, anybody could answer them in advance.
"""

import json
import os
import random

from harness.channel import Channel, run

ANSWER_BYTES = 4096


def prepare(channel: Channel, begin: dict, train: int, validation: int, *_sources: int) -> None:
    settings = begin["settings"]
    examples = make_texts(random.Random(1), 5, settings["words"])
    questions = make_texts(random.SystemRandom(), settings["texts"], settings["words"])
    for descriptor, texts in ((train, examples), (validation, questions)):
        with os.fdopen(descriptor, "w") as file:
            json.dump(texts, file)
    # How large the memories between scorer and host must be, and what all processes shall know.
    request_bytes = max(len(text.encode()) for text in questions)
    channel.send("prepared", facts={}, request_bytes=request_bytes, answer_bytes=ANSWER_BYTES, hosts=1)


def make_texts(draw: random.Random, count: int, words: int) -> list[str]:
    """Texts of made-up words, some of them much more frequent than others."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    known = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(500)]
    weights = [1 / rank for rank in range(1, len(known) + 1)]
    return [" ".join(draw.choices(known, weights, k=words)) for _ in range(count)]


if __name__ == "__main__":
    run(prepare)
