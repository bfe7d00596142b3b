"""Reads the metric that the script printed, which no check covers: `python -m swarm_harness.scorer <descriptor>`."""

import json
import math
import mmap

from swarm_harness.channel import Channel, Rejected, run


def score(channel: Channel, _begin: dict, _validation: int, _request: int, answer: int) -> None:
    memory = mmap.mmap(answer, 0, access=mmap.ACCESS_READ)
    channel.send("ask", count=0)
    message, _ = channel.expect("answered")
    try:
        metric = float(json.loads(memory[: message["count"]])["metric"])
    except (ValueError, KeyError, TypeError) as error:
        raise Rejected("the script's result is no number") from error
    if not math.isfinite(metric):
        raise Rejected(f"the script's metric is {metric}")
    channel.send("scored", metric=metric, scored_bytes=message["count"])


if __name__ == "__main__":
    run(score)
