"""Runs the edited file's `answer`: `python -m harness.host <descriptor>`, in a sandbox that saw neither build nor data.

It has the edited file and what `build` returned. It does not know the right answers, and its clock does not count.
"""

import json
import mmap
import os

from harness.channel import Channel, Fault, open_channel
from harness.trainer import import_edited


def main() -> None:
    channel = open_channel()
    begin, (handover, request, answer) = channel.expect("begin")
    try:
        serve(channel, begin, handover, mmap.mmap(request, 0), mmap.mmap(answer, 0))
    except BaseException as error:
        channel.fail(error, begin["editable"])
        raise


def serve(channel: Channel, begin: dict, handover: int, request: mmap.mmap, memory: mmap.mmap) -> None:
    """Answer questions for as long as the worker wants."""
    edited = import_edited(begin["editable"][0], ("build", "answer"))
    built = os.pread(handover, begin["size"], 0)
    channel.send("loaded")
    while True:
        message, _ = channel.expect("ask")
        words = edited.answer(built, request[: message["count"]].decode())
        said = json.dumps(words).encode()
        if len(said) > len(memory):
            raise Fault(f"the answer takes {len(said):,} bytes; {len(memory):,} are allowed")
        memory[: len(said)] = said
        channel.send("answered", count=len(said))


if __name__ == "__main__":
    main()
