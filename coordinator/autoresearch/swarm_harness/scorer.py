"""Takes the script's own number: `python -m swarm_harness.scorer <descriptor>`. The project is marked self-scored."""

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
        channel.send("rejected", reason="what the script left is no number")
        return
    if not math.isfinite(metric):
        channel.send("rejected", reason=f"the script says that its metric is {metric}")
        return
    channel.send("scored", metric=metric, scored_bytes=message["count"])


if __name__ == "__main__":
    main()
