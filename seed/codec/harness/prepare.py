"""Cuts the text out of its package: `python -m harness.prepare <descriptor>`, started by the worker in a sandbox.

The text is that of one file of a source package: JSON lines, each with a `text`. Settings (`[data.settings]` in
swarm.toml): `member` is that file's path in the package, `held_out_bytes` how much of its end is to be compressed.
Both files made hold these bytes, for the trainer to compress and the scorer to compare.
"""

import json
import os
import tarfile

from harness.channel import Channel, run


def prepare(channel: Channel, begin: dict, train: int, validation: int, source: int) -> None:
    settings = begin["settings"]
    text = read_text(source, settings["member"])[-settings["held_out_bytes"] :]
    for descriptor in (train, validation):
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
    # The request says nothing; the answer's last byte shows whether there is more than there should be.
    channel.send("prepared", facts={}, request_bytes=1, answer_bytes=len(text) + 1, hosts=1)


def read_text(source: int, member: str) -> bytes:
    """The texts of all lines, one each line."""
    with os.fdopen(source, "rb") as file, tarfile.open(fileobj=file) as package:
        lines = package.extractfile(member).read().splitlines()
    return "".join(json.loads(line)["text"] + "\n" for line in lines).encode()


if __name__ == "__main__":
    run(prepare)
