"""Asks and judges: `python -m harness.scorer <descriptor>`, in a sandbox without the edited file.

Nothing that the host says is believed: the scorer works the right answers out by itself, and holds its own watch. The
metric is the mean time of the faster half of the answers, in milliseconds, because whatever else the machine does can
only make an answer slower.
"""

import json
import mmap
import os
import random
import re
import time
from collections import Counter

from harness.channel import Channel, Rejected, run


def score(channel: Channel, _begin: dict, validation: int, request: int, answer: int) -> None:
    with os.fdopen(validation) as file:
        texts = json.load(file)
    random.shuffle(texts)  # in an order that nobody can foresee
    memories = mmap.mmap(request, 0), mmap.mmap(answer, 0, access=mmap.ACCESS_READ)
    seconds = sorted(ask(channel, text, *memories) for text in texts)
    fast = seconds[: max(1, len(seconds) // 2)]
    scored_bytes = sum(len(text.encode()) for text in texts)
    channel.send("scored", metric=1000 * sum(fast) / len(fast), scored_bytes=scored_bytes)


def ask(channel: Channel, text: str, request: mmap.mmap, answer: mmap.mmap) -> float:
    """How long the host takes for a text, in seconds. Raises Rejected for a wrong answer."""
    question = text.encode()
    asked_at = time.monotonic()  # before the host can see anything of the question
    request[: len(question)] = question
    channel.send("ask", count=len(question))
    message, _ = channel.expect("answered")
    took = time.monotonic() - asked_at
    said = answer[: message["count"]].decode(errors="replace")
    if said != json.dumps(find_words(text)):
        raise Rejected(f"for one of the texts the answer was {said[:100]}, which is wrong")
    return took


def find_words(text: str) -> list[str]:
    """The right answer."""
    counts = Counter(re.findall("[a-z]+", text))
    return sorted(counts, key=lambda word: (-counts[word], word))[:10]


if __name__ == "__main__":
    run(score)
