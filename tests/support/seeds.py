"""A seed that is small enough to read, for tests that do not train."""

from pathlib import Path

CONTRACT = """\
[project]
name = "{name}"
title = "A small question"
question = "What lowers the loss of a tiny thing?"
version = 1

[objective]
metric = "val_bpb"
unit = "bits per byte"
min_effect = 0.002
plausible_floor = 1.0

[budget]
training_seconds = 20
may_end_early = false

[files]
editable = ["train.py"]
max_bytes = 4096

[evidence]
noise_sd = 0.005
effect_sd = 0.05

[packs]
without_findings = 0  # no chance in tests
"""

TRAIN = "LEARNING_RATE = 0.003\nDEPTH = 4\n"


def write_seed(folder: Path, name: str = "tiny") -> Path:
    """Write a seed into `folder` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "swarm.toml").write_text(CONTRACT.format(name=name))
    (folder / "train.py").write_text(TRAIN)
    (folder / "program.md").write_text("# Lower val_bpb\n")
    return folder
