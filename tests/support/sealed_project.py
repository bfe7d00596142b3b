"""A project with sealed windows whose runs take a second: its harness needs the standard library only.

The edited file states a LEVEL. Training adds noise to it, a third of what the contract says so that checkers agree
closely; each window that is scored adds its own, and windows are drawn as those of the seeds are: by the run's seed, or
by the key to the sealed ones.
"""

from pathlib import Path
from random import Random

from shared.seeds import CHANNEL_FILE
from worker.runs.processes import derive_draw

NAME = "levels"
NOISE_SD = 0.001

CONTRACT = f"""\
[project]
name = "{NAME}"
title = "A level"
question = "How low does a level go?"
version = 1

[objective]
metric = "level"
unit = "units"
min_effect = 0.005
plausible_floor = 0.1

[budget]
training_seconds = 60
may_end_early = true
handover_seconds = 1
starting_seconds = 60
scoring_seconds = 60

[limits]
memory_mib = 512

[files]
editable = ["train.py"]

[commands]
holdout = "harness.scorer"

[evidence]
noise_sd = {NOISE_SD}
effect_sd = 0.05

[packs]
without_findings = 0

[jobs]
improve = 1
draft = 0
adopt = 0
ablate = 0
tune = 0
combine = 0
replicate = 4
control = 0
"""

TRAIN = '''\
"""A level. Lower is better."""

LEVEL = 2.0


def find_level():
    return LEVEL
'''

PREPARE = """\
import json
import os
from random import Random

from harness.channel import run


def prepare(channel, begin, train, validation):
    random = Random(5)
    windows = {name: [random.gauss(0, 0.0006) for _ in range(512)] for name in ("pool", "sealed")}
    for descriptor, content in ((train, b"-"), (validation, json.dumps(windows).encode())):
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    channel.send("prepared", facts={}, request_bytes=1, answer_bytes=1, hosts=1)


run(prepare)
"""

TRAINER = """\
import os
from random import Random

from harness.channel import import_edited, run


def train(channel, begin, handover):
    module = import_edited(begin, "find_level")
    channel.send("start")
    channel.expect("started")
    result = repr(module.find_level() + Random(begin["seed"]).gauss(0, 0.0002)).encode()
    os.pwrite(handover, result, 0)
    channel.send("trained", size=len(result))


run(train)
"""

HOST = """\
import os

from harness.channel import run


def serve(channel, begin, _request, _answer):
    channel.send("imported")
    load, (handover,) = channel.expect("load")
    level = float(os.pread(handover, load["size"], 0))
    channel.send("loaded")
    while True:
        channel.expect("ask")
        channel.send("answered", count=int(level * 1e9))


run(serve)
"""

SCORER = """\
import json
import os
from random import Random

from harness.channel import run


def score(channel, begin, validation, _request, _answer):
    with os.fdopen(validation, "rb") as file:
        windows = json.load(file)["sealed" if begin["sealed"] else "pool"]
    channel.send("ask", count=0)
    message, _ = channel.expect("answered")
    drawn = Random(begin["draw"]).sample(windows, 16)
    channel.send("scored", metric=message["count"] / 1e9 + sum(drawn) / len(drawn), scored_bytes=len(drawn))


run(score)
"""


def average_windows(kind: str, draw: str | int) -> float:
    """The average of the windows that a run scores: of `kind` pool by a lease's seed, or sealed by a key."""
    random = Random(5)
    windows = {name: [random.gauss(0, 0.0006) for _ in range(512)] for name in ("pool", "sealed")}
    drawn = Random(draw if isinstance(draw, str) else derive_draw(draw)).sample(windows[kind], 16)
    return sum(drawn) / len(drawn)


def write_sealed_seed(folder: Path) -> Path:
    """Write the project's seed into a folder; returns it."""
    harness = folder / "harness"
    harness.mkdir(parents=True)
    (harness / "__init__.py").touch()
    (harness / "channel.py").write_text(CHANNEL_FILE.read_text())
    for name, text in (("prepare", PREPARE), ("trainer", TRAINER), ("host", HOST), ("scorer", SCORER)):
        (harness / f"{name}.py").write_text(text)
    (folder / "swarm.toml").write_text(CONTRACT)
    (folder / "train.py").write_text(TRAIN)
    (folder / "program.md").write_text("# Lower the level\n")
    return folder
