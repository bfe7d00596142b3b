"""Does the device wait for a slow model? A worker with an endpoint on loopback that takes seconds for each answer.

A tenth of the answers cannot be used. The goal is an idle share below 3 % and wall / sum at most 1.08, however slow the
model is; the table says how many experiments were the model's. `bench_worker --slow-model 30` runs it.
"""

import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

from swarm import Client
from tests.bench.bench_worker import WORK, Bench, open_bench
from tests.support.chat_server import PAPER, Body, Response, say, serve_chat
from tests.support.device_time import read_device_time

HEADINGS = (
    "runs", "a run, s", "an answer, s", "experiments by the model", "wall time, s", "wall / sum of run times",
    "device idle", "between two runs, ms: median", "most",
)  # fmt: skip
POLL_SECONDS = 0.5


class SlowModel:
    """Answers after so many seconds, with another constant for each draft; each tenth answer is of no use."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._numbers = seconds, itertools.count(1)

    def __call__(self, body: Body) -> Response:
        number = next(self._numbers)
        form = body["response_format"]["json_schema"]["name"]
        if form == "ShortReply":  # before the first job
            return say({"answer": "blue"})
        time.sleep(self._seconds)
        if number % 10 == 0:
            return say("Should I continue?")
        if form == "PaperReply":
            return say(PAPER)
        found = re.search(r"\nNICE_LENGTH = \d+", body["messages"][1]["content"])
        edit = {"file": "codec.py", "search": found[0] if found else "", "replace": f"\nNICE_LENGTH = {200 + number}"}
        words = {"title": f"A length of {200 + number}", "hypothesis": "It may.", "axis": "NICE_LENGTH", "value": ""}
        words |= {"direction": "up", "refuted_by": "No change.", "insists": "Each length is wanted."}
        return say(words | {"predicted_effect": None, "edits": [edit], "files": []})


def measure_slow(runs: int, answer_seconds: float, run_seconds: float) -> tuple[str, ...]:
    """A row of the table: `runs` experiments, after a run of the seed that does not count."""
    with tempfile.TemporaryDirectory() as name, open_bench(Path(name), run_seconds) as (bench, code):
        bench.work(1, bench.write_script(code, 1, 0.0))
        with serve_chat(SlowModel(answer_seconds)) as server:
            began, log = work_until(bench, server.url, Path(name), 1 + runs)
        done = sorted(bench.list_runs()[1 : 1 + runs], key=lambda run: run.started_at)
        with Client(bench.url) as client:
            every = [client.get_experiment(row.id) for row in client.list_experiments("codec")]
    by_model = sum(one.finding is not None and one.finding.agent == "openai slow" for one in every)
    gaps = [(after.started_at - before.finished_at).total_seconds() for before, after in pairwise(done)]
    total, wall = sum(run.seconds.total for run in done), done[-1].finished_at.timestamp() - began
    return (
        str(runs), f"{mean(run.seconds.total for run in done):.2f}", f"{answer_seconds:g}", str(by_model),
        f"{wall:.1f}", f"{wall / total:.3f}", f"{read_device_time(log.splitlines()).idle_share:.1%}",
        f"{1000 * median(gaps):.0f}", f"{1000 * max(gaps):.0f}",
    )  # fmt: skip


def work_until(bench: Bench, address: str, folder: Path, runs: int) -> tuple[float, str]:
    """Let a worker with the model at an address go on until so many runs are reported, then finish; when its process
    was started, in seconds since the epoch, and its log."""
    command = [
        sys.executable, "-c", WORK, "--device", "cpu", "--cores", "1", "--plain", "--coordinator", bench.url,
        "--data-dir", str(folder / "slow"), "--agent", "openai", "--model", "slow", "--base-url", address,
    ]  # fmt: skip
    log, began = folder / "slow.log", time.time()
    environment = {**os.environ, **bench.environment}
    with log.open("w") as file, subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process:
        try:
            while len(bench.list_runs()) < runs:
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
                time.sleep(POLL_SECONDS)
            process.send_signal(signal.SIGTERM)
            process.wait()
        finally:
            process.kill()
    return began, log.read_text()
