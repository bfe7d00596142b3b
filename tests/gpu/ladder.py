"""Exercises one device: facts, each step that a run takes, in each sandbox that works, then runs of the seed.

python -m tests.gpu.ladder             runs of 30 s: cold, warm twice, and unconfined
python -m tests.gpu.ladder noise       three seeds, 100 s each
python -m tests.gpu.ladder full        one run of 300 s
python -m tests.gpu.ladder --device cpu --seconds 2   tries this program itself

Each mode stays below nine minutes. The exit status is 1 if a step or a run fails. The text is synthetic: speed is real,
the metric is not. A machine without this project's packages needs them first: tests/gpu/bare.sh.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from shared.runs import RunOutcome
from tests.bench.bench_train import choose_trees, count_operations, find_peak, write_shards
from tests.bench.report import format_table
from tests.support.tiny_project import serve_folder
from worker.authoring.local_run import WorkTree, open_runner
from worker.authoring.view import View
from worker.commands.options import WorkerCommandError
from worker.machine.hardware import HardwareError, Machine, detect_machine
from worker.machine.probe import CPU_STEPS, GPU_STEPS, try_steps
from worker.sandbox.base import SandboxUnavailable
from worker.sandbox.choose import CONFINING, SandboxName, choose_sandbox
from worker.sandbox.gpu_files import find_driver_folder
from worker.sandbox.landlock import find_version
from worker.settings import load_settings

LIMIT_SECONDS = 490.0
"""No run begins that would end after this."""

QUERY = "name,driver_version,memory.total,compute_mode,persistence_mode,mig.mode.current"
HEADINGS = (
    "sandbox", "compiled", "seed", "start, s", "tokens/s", "MFU, %", "steps", "trained, s", "hand-over, s",
    "scoring, s", "outside, s", "memory, MiB", "metric", "outcome",
)  # fmt: skip


class Run(NamedTuple):
    """A run of the seed: warm if it begins with compiled code."""

    sandbox: SandboxName
    seed: int = 1
    warm: bool = True


class Mode(NamedTuple):
    """The runs of a mode, and the budget of each in seconds."""

    seconds: float
    runs: tuple[Run, ...]


MODES = {
    "ladder": Mode(30.0, (Run("auto", warm=False), Run("auto"), Run("auto", seed=2), Run("unconfined"))),
    "noise": Mode(100.0, tuple(Run("auto", seed) for seed in (1, 2, 3))),
    "full": Mode(300.0, (Run("auto"),)),
}


def list_facts() -> Iterator[str]:
    """Lines about what decides whether a GPU works here."""
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
        yield subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    for device in sorted(path for pattern in ("nvidia*", "dxg") for path in Path("/dev").glob(pattern)):
        found = device.stat()
        yield f"{found.st_mode & 0o777:o} {found.st_uid}:{found.st_gid} {device}"
    yield f"a folder for libcuda that the linker does not know: {find_driver_folder()}"
    yield f"compiler: {shutil.which('gcc') or shutil.which('cc')}"
    yield f"Python.h: {Path(sysconfig.get_paths()['include'], 'Python.h').exists()}, {sys.version.split()[0]}"
    yield f"bwrap: {shutil.which('bwrap')}, landlock: {find_version()}, user: {os.getuid()}, cores: {os.cpu_count()}"


def climb(machine: Machine, names: Sequence[str], tell: Callable[[str], None]) -> int:
    """Try each step in each sandbox; the number of those that fail."""
    failed = 0
    for name in names:
        try:
            sandbox = choose_sandbox(name, machine.gpu)  # type: ignore[arg-type]  # names of CONFINING
        except SandboxUnavailable as error:
            tell(f"{name}: not here: {error}")
            continue
        for step in try_steps(sandbox, machine.device, CPU_STEPS if machine.gpu is None else GPU_STEPS):
            tell(f"{name:12} {step.name:12} {'ok  ' if step.ok else 'FAIL'} {step.found}  {step.advice}".rstrip())
            failed += not step.ok
    return failed


def run_seed(device: str, mode: Mode, folder: Path, address: str) -> Iterator[tuple[str, ...]]:
    """A row for each run that there is time for."""
    begun, tree = time.monotonic(), list(choose_trees(device != "cpu", mode.seconds).values())[-1]
    for run in mode.runs:
        if time.monotonic() - begun + mode.seconds < LIMIT_SECONDS:
            yield (
                run.sandbox,
                "warm" if run.warm else "cold",
                str(run.seed),
                *measure(run, tree, device, folder, address),
            )


def measure(run: Run, tree: WorkTree, device: str, folder: Path, address: str) -> tuple[str, ...]:
    """The rest of a row, from the start on; only the reason if there is no run."""
    flags = {"device": device, "sandbox": run.sandbox, "data_dir": folder / "worker", "data_mirror": address}
    try:
        with open_runner(load_settings(flags), View(as_json=False)) as runner:
            report = runner.measure(tree, run.seed, compiles_ahead=run.warm)
            seconds, peak = report.seconds, find_peak(report.hardware)
            speed = report.tokens / max(seconds.training, 1e-9)
            share = f"{100 * speed * count_operations(tree, runner) / peak:.1f}" if peak else "–"
    except WorkerCommandError as error:
        return (*("–" for _ in HEADINGS[4:]), str(error))
    if report.outcome is not RunOutcome.OK:
        print(report.log_tail)
    last = report.curve[-1].seconds if report.curve else 0.0
    return (
        f"{seconds.starting:.1f}", f"{speed:,.0f}", share, str(report.steps), f"{seconds.training:.2f}",
        f"{seconds.training - last:.2f}", f"{seconds.scoring:.1f}", f"{seconds.total - seconds.training:.1f}",
        f"{report.peak_memory_mib:,}", f"{report.metric or 0:.4f}", f"{report.outcome.value} {report.reason}".strip(),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", nargs="?", default="ladder", choices=MODES)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, help="the budget of each run")
    parser.add_argument("--sandboxes", nargs="*", default=[*CONFINING, "unconfined"], help="for the steps")
    parser.add_argument("--runs", type=int, help="only the first so many")
    given = parser.parse_args(arguments)
    mode = MODES[given.mode]
    mode = Mode(given.seconds or mode.seconds, mode.runs[: given.runs])
    try:
        machine = detect_machine(given.device)
    except HardwareError as error:
        sys.exit(str(error))
    print(machine.hardware.hardware_class, *list_facts(), sep="\n")
    failed = climb(machine, given.sandboxes if given.mode == "ladder" else (), print)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, serve_folder(Path(name)) as address:
        Path(name).chmod(0o755)
        write_shards(Path(name), on_gpu=machine.gpu is not None)
        rows = list(run_seed(given.device, mode, Path(name), address))
    print(format_table(HEADINGS, rows))
    return int(failed > 0 or not all(row[-1] == RunOutcome.OK for row in rows))


if __name__ == "__main__":
    sys.exit(main())
