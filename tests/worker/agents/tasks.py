"""Tasks for agents, as the worker would make them from a lease."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from shared.contract import parse_contract
from shared.experiments import Posterior, Setting, Trial
from shared.leases import BaseCommit
from worker.agents.base import Draft, Task
from worker.agents.search_space import read_values

TRAIN = '''\
"""A model — small."""
import math

LEARNING_RATE = 0.003  # range: 1e-4 to 3e-2, log
DEPTH: int = 4  # range: 1 to 8
HEADS = 4  # choices: 2, 4, 8
BETA = 0.95
WEIGHT_DECAY = 0.0
USE_BIAS = False
SEQUENCE_LENGTH = 128  # fixed
NAME = "tiny"


def build(config):
    WIDTH = 64
    return WIDTH
'''

CONTRACT = parse_contract("""
[project]
name = "tiny"
title = "A small question"
version = 1
[objective]
metric = "val_bpb"
unit = "bits per byte"
min_effect = 0.002
plausible_floor = 1.0
[budget]
training_seconds = 20
[files]
editable = ["train.py"]
[evidence]
noise_sd = 0.005
effect_sd = 0.05
""")


def sha_of(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def settings_of(source: str = TRAIN, **changes: Setting) -> dict[str, Setting]:
    return read_values(source) | changes


def make_trial(
    name: str, metric: float | None, outcome: str = "ok", parent: str | None = None, **changes: Any
) -> Trial:
    return Trial(
        sha=sha_of(name),
        parent_sha=sha_of(parent) if parent else None,
        title=name,
        axis="",
        settings=settings_of(**changes),
        metric_mean=metric,
        metric_sd=None if metric is None else 0.005,
        outcome=outcome,
    )


def make_task(
    trials: Sequence[Trial] = (),
    seed: int = 1,
    source: str = TRAIN,
    refused: tuple[Draft, ...] = (),
    files: Mapping[str, str] | None = None,
    metric: float | None = 3.3,
) -> Task:
    posterior = None if metric is None else Posterior(metric_mean=metric, metric_sd=0.005, runs=1)
    base = BaseCommit(sha=sha_of("root"), files=dict(files or {"train.py": source}), posterior=posterior)
    return Task(CONTRACT, base, "# Lower val_bpb", "", tuple(trials), seed, refused)
