"""Runs the script: `python -m swarm_harness.trainer <descriptor>`, started by the worker in a sandbox.

The clock runs from the script's start to its end. What it prints is the log; the last line `metric: NUMBER` is the
result. Nothing checks how the script came to it.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from swarm_harness.channel import Channel, Fault, run

PROJECT = Path(__file__).resolve().parents[1]
LINE = re.compile(r"^(\w+):\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf|nan)\s*$")


def train(channel: Channel, begin: dict, handover: int, *_: int) -> None:
    settings = begin["settings"]
    channel.send("start")
    channel.expect("started")
    metric = run_script(settings["script"], settings["metric"])
    if metric is None:
        raise Fault(f"{settings['script']} printed no line `{settings['metric']}: NUMBER`")
    result = json.dumps({"metric": metric}).encode()
    os.pwrite(handover, result, 0)
    channel.send("trained", size=len(result))


def run_script(script: str, metric: str) -> float | None:
    """Run it to its end; the number in its last line `metric: NUMBER`. Raises Fault if it fails."""
    value = None
    environment = {**os.environ, "HOME": os.getcwd(), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-B", "-u", str(PROJECT / script)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        for line in process.stdout:
            sys.stdout.write(line)
            found = LINE.match(line)
            if found and found[1] == metric:
                value = float(found[2])
    sys.stdout.flush()
    if process.returncode:
        raise Fault(f"{script} ended with exit status {process.returncode}")
    return value


if __name__ == "__main__":
    run(train)
