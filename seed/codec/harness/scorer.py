"""Judges a codec it never sees: `python -m harness.scorer <descriptor>`, with the text, in a sandbox.

It asks the host for the text, compares every byte and measures the time, which runs before the host gets the packed
bytes. The metric is bits per byte: the bits of what
`compress` returned and of the edited file itself, over the bytes of the text. The file counts because whatever
knowledge stands in it need not be sent; comments cost less than `min_effect`.
"""

import mmap
import os
import time

from harness.channel import Channel, Rejected, run


def score(channel: Channel, begin: dict, validation: int, _request: int, answer: int) -> None:
    with os.fdopen(validation, "rb") as file:
        text = file.read()
    asked_at = time.monotonic()
    channel.send("ask", count=0)
    message, _ = channel.expect("answered")
    took, allowed = time.monotonic() - asked_at, begin["settings"]["decompress_seconds"]
    if took > allowed:
        raise Rejected(f"decompressing took {took:.2f} s; {allowed:g} s are allowed")
    found = mmap.mmap(answer, 0, access=mmap.ACCESS_READ)[: message["count"]]
    if found != text:
        pairs = enumerate(zip(found, text, strict=False))
        position = next((i for i, (a, b) in pairs if a != b), min(len(found), len(text)))
        raise Rejected(
            f"what decompress returned, {message['count']:,} bytes, is not the text of {len(text):,}: "
            f"they differ from byte {position:,} on"
        )
    bits = 8 * (begin["size"] + begin["editable_bytes"])
    channel.send("scored", metric=bits / len(text), scored_bytes=len(text))


if __name__ == "__main__":
    run(score)
