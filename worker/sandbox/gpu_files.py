"""Files by which a process reaches a GPU: device nodes, the groups that may open them, the driver's libraries."""

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from worker.sandbox.base import Gpu, SandboxUnavailable

DEVICES = Path("/dev")
SHARED_DEVICES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
WSL_DEVICE = "dxg"
"""The device node of all GPUs under the Windows Subsystem for Linux."""

MODPROBE_TIMEOUT_SECONDS = 20.0
LINKER_CACHE = Path("/etc/ld.so.cache")
MAPPED_FILES = Path("/proc/self/maps")


def find_devices(gpu: Gpu, folder: Path | None = None) -> list[str]:
    """The device nodes of a GPU below `folder` (/dev). Raises SandboxUnavailable if one is missing."""
    folder = folder or DEVICES
    if (folder / WSL_DEVICE).exists():
        return [str(folder / WSL_DEVICE)]
    names = [f"nvidia{gpu.minor}", *SHARED_DEVICES]
    missing = [name for name in names if not (folder / name).exists() and name != "nvidia-uvm-tools"]
    if missing:
        raise SandboxUnavailable(
            f"the GPU's device {folder / missing[0]} is missing: run `nvidia-modprobe -u -c 0` once, or `nvidia-smi`; "
            "a container has to be given it (`--gpus all`)"
        )
    return [str(folder / name) for name in names if (folder / name).exists()]


def find_groups(devices: Sequence[str], uid: int) -> tuple[int, ...]:
    """The groups that a sandbox needs to open device nodes, if the worker's user is `uid`; a sandbox of root's has none
    of its own. Raises SandboxUnavailable if it cannot open one.
    """
    groups = set()
    for device in devices:
        found = Path(device).stat()
        is_open_to_group = stat.S_IMODE(found.st_mode) & 0o060 == 0o060
        if uid != 0 and not os.access(device, os.R_OK | os.W_OK):
            remedy = f"`sudo usermod --append --groups {found.st_gid} $USER`, and log in again"
            raise SandboxUnavailable(
                f"this user may not open {device}: {remedy if is_open_to_group else f'`sudo chmod 666 {device}`'}"
            )
        if uid != 0 or stat.S_IMODE(found.st_mode) & 0o006 == 0o006:
            continue
        if not is_open_to_group:
            raise SandboxUnavailable(
                f"only root may open {device}, and no sandbox is root: `chmod 666 {device}`, and after each restart "
                "(the driver's option NVreg_DeviceFileMode=0666)"
            )
        groups.add(found.st_gid)
    return tuple(sorted(groups))


def prepare_gpu(gpu: Gpu) -> None:
    """Make the driver create its device nodes, as the first CUDA program after a boot would, and look whether a sandbox
    can open this GPU's. Raises SandboxUnavailable."""
    program = shutil.which("nvidia-modprobe")
    if program is not None:
        subprocess.run([program, "-u", "-c", "0"], timeout=MODPROBE_TIMEOUT_SECONDS, check=False)  # noqa: S603 - nothing of a stranger's
    find_groups(find_devices(gpu), os.geteuid())


def bind_gpu(gpu: Gpu, folder: Path | None = None) -> Iterator[str]:
    """bubblewrap's options for a GPU, to follow the one that creates /dev. Raises SandboxUnavailable."""
    for device in find_devices(gpu, folder):
        yield from ("--dev-bind", device, device)
    yield from ("--ro-bind", "/sys", "/sys")


def find_driver_folder() -> str | None:
    """The folder of libcuda.so.1 where the linker finds it through LD_LIBRARY_PATH alone, as in images of clouds.

    It is that of NVML, which this process has loaded and which comes with the same driver. None where the linker's
    cache has libcuda.so.1.
    """
    try:
        cached = re.findall(rb"/[^\0]*/libcuda\.so\.1(?=\0)", LINKER_CACHE.read_bytes())
    except OSError:
        cached = []
    if any(Path(os.fsdecode(path)).exists() for path in cached):
        return None
    loaded = re.findall(r"(/\S*)/libnvidia-ml\.so", MAPPED_FILES.read_text())
    return next((folder for folder in loaded if Path(folder, "libcuda.so.1").exists()), None)
