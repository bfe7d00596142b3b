"""Returns the trainer's result as the answer: `python -m swarm_harness.host <descriptor>`."""

import mmap
import os

from swarm_harness.channel import Channel, run


def serve(channel: Channel, _begin: dict, _request: int, answer: int) -> None:
    memory = mmap.mmap(answer, 0)
    channel.send("imported")
    load, (handover,) = channel.expect("load")
    result = os.pread(handover, load["size"], 0)
    channel.send("loaded")
    while True:
        channel.expect("ask")
        memory[: len(result)] = result
        channel.send("answered", count=len(result))


if __name__ == "__main__":
    run(serve)
