"""Compresses: `python -m harness.trainer <descriptor>`, started by the worker in a sandbox.

Importing the edited file costs no budget. Then the clock starts, and only then does the text come.
"""

import os

from harness.channel import Channel, Fault, import_edited, run


def compress(channel: Channel, begin: dict, handover: int) -> None:
    codec = import_edited(begin, "compress", "decompress")
    channel.send("start")
    _, (text,) = channel.expect("started")
    content = os.pread(text, os.fstat(text).st_size, 0)
    packed = codec.compress(content)
    if not isinstance(packed, bytes):
        raise Fault(f"compress(text) returned a {type(packed).__name__}, not bytes")
    if len(packed) > begin["handover_bytes"]:
        raise Fault(f"compress(text) returned {len(packed):,} bytes; {begin['handover_bytes']:,} are allowed")
    os.pwrite(handover, packed, 0)
    channel.send("trained", size=len(packed))


if __name__ == "__main__":
    run(compress)
