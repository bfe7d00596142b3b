"""Decompresses: `python -m harness.host <descriptor>`, in a sandbox that never saw the text."""

import mmap
import os

from harness.channel import Channel, Fault, import_edited, run


def serve(channel: Channel, begin: dict, _request: int, answer: int) -> None:
    """Answer each request with the text. The packed bytes come when the scorer's clock runs, after the import."""
    codec = import_edited(begin, "compress", "decompress")
    memory = mmap.mmap(answer, 0)
    channel.send("imported")
    load, (handover,) = channel.expect("load")
    packed = os.pread(handover, load["size"], 0)
    channel.send("loaded")
    while True:
        channel.expect("ask")
        text = codec.decompress(packed)
        if not isinstance(text, bytes):
            raise Fault(f"decompress(packed) returned a {type(text).__name__}, not bytes")
        memory[: min(len(text), len(memory))] = text[: len(memory)]
        channel.send("answered", count=len(text))


if __name__ == "__main__":
    run(serve)
