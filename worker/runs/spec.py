"""What a measurement is asked for, and what it tells while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.contract import Contract
from shared.hardware import Hardware
from shared.leases import Phase
from shared.runs import CurvePoint
from worker.sandbox import Sandbox

if TYPE_CHECKING:  # data/prepare.py imports this package
    from worker.data.prepare import PreparedData


class RunStopped(Exception):
    """There is no measurement, through no fault of the commit; the message says why. The lease is to be given back."""


class RunImpossible(RunStopped):
    """This machine could not run the project's harness (no torch, a broken sandbox ...): trying again will not help."""


@dataclass(frozen=True)
class RunSpec:
    """One measurement of one commit.

    `files` is the whole work tree, path -> text; `seed` is the harness's; `device` is `cpu` or `cuda:0`, as the
    sandbox names it; `cores` is the number of CPU cores the run may use; `folder`, which need not exist yet, keeps
    `result.json`, `summary.txt` and `log.txt`. `parent_curve` is what the run is compared with while it trains
    (early_stop.py), and `run_to_end` lets it go on although it is hopeless. `compiled` is an archive of what the
    project's untouched code compiled.
    """

    files: Mapping[str, str]
    commit_sha: str
    contract: Contract
    seed: int
    device: str
    cores: int
    data: "PreparedData"
    sandbox: Sandbox
    hardware: Hardware
    folder: Path
    parent_curve: Sequence[CurvePoint] = ()
    run_to_end: bool = False
    compiled: Path | None = None


@dataclass(frozen=True)
class RunProgress:
    """Where a run is: `share` of the training budget is used, 0 to 1; `loss` is the last one the commit logged.

    `parent_loss` is its parent's at the same share, where that is known.

    `peak_memory_mib` is that of the device where it has memory of its own, else that of the trainer's processes.
    """

    phase: Phase
    step: int
    loss: float | None
    share: float
    tokens: int = 0
    tokens_per_second: float = 0.0
    peak_memory_mib: int = 0
    parent_loss: float | None = None
