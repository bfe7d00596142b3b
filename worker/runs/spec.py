"""Input of a measurement, its progress, and the errors that prevent it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.contract import Contract
from shared.leases import Phase
from shared.runs import CurvePoint, Hardware
from worker.sandbox.base import Sandbox

if TYPE_CHECKING:  # data/prepare.py imports this package
    from worker.data.prepare import PreparedData
    from worker.runs.started_trainer import TrainerAhead


class RunStopped(Exception):
    """There is no measurement, through no fault of the commit; the lease is to be released."""


class RunImpossible(RunStopped):
    """This machine cannot run the project's harness (no torch, a broken sandbox): a retry will not help."""


class MachineFault(RunImpossible):
    """The project's own code fails here, and for a reason that is this machine's: the worker is to stop."""


@dataclass(frozen=True)
class RunSpec:
    """One measurement of one commit.

    `files` is the whole work tree, path -> text; `seed` is the harness's; `device` is `cpu` or `cuda:0`, as the
    sandbox names it; `cores` is the number of CPU cores the run may use; `folder`, which need not exist yet, keeps
    `result.json`, `summary.txt` and `log.txt`. `parent_curve` is for the early stop (early_stop.py), which `run_to_end`
    disables. `compiled` is an archive of the compiled code of the project's own files. With `holdout_key` the sealed
    data is scored, too, if the contract has such. `ahead` may have started its trainer already.
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
    holdout_key: str | None = None
    ahead: "TrainerAhead | None" = None


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run: the used `share` of the training budget (0 to 1), and the last logged `loss`.

    `parent_loss` is the parent's at the same share, if known. `peak_memory_mib` is the device's if it has memory of its
    own, else that of the trainer's processes.
    """

    phase: Phase
    step: int = 0
    loss: float | None = None
    share: float = 0.0
    tokens: int = 0
    tokens_per_second: float = 0.0
    peak_memory_mib: int = 0
    parent_loss: float | None = None
