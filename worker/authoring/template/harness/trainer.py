"""Runs the edited file's `build`: `python -m harness.trainer <descriptor>`, started in a sandbox.

Importing the edited file costs no budget. The clock runs from `start` to `trained`, and is the worker's own.
"""

import json
import os

from harness.channel import Channel, Fault, import_edited, run


def build(channel: Channel, begin: dict, handover: int) -> None:
    edited = import_edited(begin, "build", "answer")
    channel.send("start")
    _, (train,) = channel.expect("started")
    examples = json.loads(os.pread(train, os.fstat(train).st_size, 0))
    built = edited.build(examples)
    if not isinstance(built, bytes) or len(built) > begin["handover_bytes"]:
        raise Fault(f"build(examples) must return at most {begin['handover_bytes']:,} bytes")
    os.pwrite(handover, built, 0)
    # A project that trains sends `progress` now and then, with step and loss: people see it, and a curve is kept.
    channel.send("trained", size=len(built))


if __name__ == "__main__":
    run(build)
