"""What a sandboxed process needs in order to use one of NVIDIA's GPUs, and no other.

The driver's libraries need no bind of their own: they lie with the system's. The rest was found by others who ran CUDA
inside bubblewrap, for this has not run on a GPU yet: device nodes must be bound as devices, drivers from 570 on open
`nvidia-uvm-tools`, and without /sys `cuInit` answers with error 304. The probe tries it before a job is
taken (worker/machine/probe.py).
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from worker.sandbox.base import Gpu, SandboxUnavailable

DEVICES = Path("/dev")
SHARED_DEVICES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
WSL_DEVICE = "dxg"
"""Under the Windows Subsystem for Linux the one device node of all GPUs."""

WAKE_SECONDS = 20.0


def find_devices(gpu: Gpu, folder: Path = DEVICES) -> list[str]:
    """The device nodes that belong to a GPU, below `folder`. Raises SandboxUnavailable if they are not there."""
    if (folder / WSL_DEVICE).exists():
        return [str(folder / WSL_DEVICE)]
    names = [f"nvidia{gpu.minor}", *SHARED_DEVICES]
    missing = [name for name in names if not (folder / name).exists() and name != "nvidia-uvm-tools"]
    if missing:
        raise SandboxUnavailable(
            f"the GPU's device {folder / missing[0]} is missing: run `nvidia-modprobe -u -c 0` once, or `nvidia-smi`"
        )
    return [str(folder / name) for name in names if (folder / name).exists()]


def wake_driver() -> None:
    """Let the driver make its device nodes, as the first CUDA program after a start of the machine would."""
    program = shutil.which("nvidia-modprobe")
    if program is not None:
        subprocess.run([program, "-u", "-c", "0"], timeout=WAKE_SECONDS, check=False)  # noqa: S603 - nothing of a stranger's


def gpu_environment(gpu: Gpu | None) -> dict[str, str]:
    """Variables that make a GPU the only one that CUDA sees; without one, none is seen."""
    return {"CUDA_VISIBLE_DEVICES": "" if gpu is None else gpu.uuid}


def bind_gpu(gpu: Gpu, folder: Path = DEVICES) -> Iterator[str]:
    """bubblewrap's options that show a GPU. They come after the one that makes /dev. Raises SandboxUnavailable."""
    for device in find_devices(gpu, folder):
        yield from ("--dev-bind", device, device)
    yield from ("--ro-bind", "/sys", "/sys")
