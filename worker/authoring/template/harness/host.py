"""Runs the edited file's `answer`: `python -m harness.host <descriptor>`, in a sandbox that saw neither build nor data.

It has the edited file, and from the first question on what `build` returned. It does not know the right answers, and
its clock does not count.
"""

import json
import mmap
import os

from harness.channel import Channel, Fault, import_edited, run


def serve(channel: Channel, begin: dict, request: int, answer: int) -> None:
    """Answer questions for as long as the worker wants."""
    edited = import_edited(begin, "build", "answer")
    questions, memory = mmap.mmap(request, 0), mmap.mmap(answer, 0)
    channel.send("imported")
    load, (handover,) = channel.expect("load")  # after the scorer's first question: its clock runs
    built = os.pread(handover, load["size"], 0)
    channel.send("loaded")
    while True:
        message, _ = channel.expect("ask")
        words = edited.answer(built, questions[: message["count"]].decode())
        encoded = json.dumps(words).encode()
        if len(encoded) > len(memory):
            raise Fault(f"the answer takes {len(encoded):,} bytes; {len(memory):,} are allowed")
        memory[: len(encoded)] = encoded
        channel.send("answered", count=len(encoded))


if __name__ == "__main__":
    run(serve)
