"""What a command line says about one start, besides the settings."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """`script` is what the scripted agent replays; `parent` is the process of its team (worker/multi_gpu.py)."""

    script: Path | None = None
    once: bool = False
    max_jobs: int | None = None
    plain: bool = False
    no_color: bool = False
    parent: int | None = None
