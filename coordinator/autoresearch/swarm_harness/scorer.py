"""Reads the metric that the script printed, which no check covers: `python -m swarm_harness.scorer <descriptor>`."""

import json
import math
import mmap

from swarm_harness.channel import open_channel


def main() -> None:
    channel = open_channel()
    _, (_, _, answer) = channel.expect("begin")
    memory = mmap.mmap(answer, 0, access=mmap.ACCESS_READ)
    channel.send("ask", count=0)
    message, _ = channel.expect("answered")
    try:
        metric = float(json.loads(memory[: message["count"]])["metric"])
    except (ValueError, KeyError, TypeError):
        channel.send("rejected", reason="the script's result is no number")
        return
    if not math.isfinite(metric):
        channel.send("rejected", reason=f"the script's metric is {metric}")
        return
    channel.send("scored", metric=metric, scored_bytes=message["count"])


if __name__ == "__main__":
    main()
