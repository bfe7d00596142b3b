"""Prepares nothing: `python -m swarm_harness.prepare <descriptor>`. The script has its own data.

Settings (`[data.settings]` in swarm.toml): `script` is the file to run, `metric` the key of the line to read.
"""

import os

from swarm_harness.channel import Channel, run

ANSWER_BYTES = 4096


def prepare(channel: Channel, _begin: dict, train: int, validation: int, *_sources: int) -> None:
    for descriptor in (train, validation):
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"none\n")
    channel.send("prepared", facts={}, request_bytes=1, answer_bytes=ANSWER_BYTES, hosts=1)


if __name__ == "__main__":
    run(prepare)
