"""Facts about the device a worker trains on, found without importing torch; claims of CPU cores."""

import fcntl
import importlib.metadata
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from shared.runs import DeviceKind, Hardware
from worker.machine.gpu import Driver, DriverError, DriverReport, GpuReport, NvidiaDriver
from worker.sandbox.base import MIB, Gpu

CPU_INFO = Path("/proc/cpuinfo")

OLDEST_OF_CUDA_13 = (7, 5)
"""The compute capability of Turing, the oldest that CUDA 13 makes code for."""

ISA_BY_FLAG = (("avx512f", "avx512"), ("avx2", "avx2"), ("asimddp", "asimddp"), ("asimd", "asimd"))
"""Flags of /proc/cpuinfo that determine torch's matrix speed, best first, and their name in a hardware class."""


class HardwareError(RuntimeError):
    """The requested device is not usable; the message is one line with a remedy."""


@dataclass(frozen=True)
class Machine:
    """The machine a worker trains on: the facts for the coordinator, and the GPU if there is one."""

    hardware: Hardware
    gpu: Gpu | None = None

    @property
    def device(self) -> str:
        """The name inside sandboxes: `cpu`, or `cuda:0` for the only visible GPU."""
        return "cpu" if self.gpu is None else "cuda:0"


@dataclass(frozen=True)
class TorchBuild:
    """The installed torch according to its metadata; it is not imported."""

    version: str
    requires: tuple[str, ...] = ()

    @property
    def cuda_major(self) -> int | None:
        """Major version of CUDA it was built for, by its local version (`+cu128`) or its required runtime."""
        if local := re.search(r"\+cu(\d+)\d$", self.version):
            return int(local[1])
        pattern = re.compile(r"(?:nvidia-cuda-runtime(?:-cu\d+)?|cuda-toolkit)\b[^=]*==(\d+)\.")
        return next((int(found[1]) for line in self.requires if (found := pattern.match(line))), None)


def find_torch() -> TorchBuild:
    """The installed torch. Raises HardwareError if there is none."""
    try:
        return TorchBuild(importlib.metadata.version("torch"), tuple(importlib.metadata.requires("torch") or ()))
    except importlib.metadata.PackageNotFoundError as error:
        raise HardwareError("torch is not installed: `pip install 'research-swarm[worker]'`") from error


def detect_machine(
    device: str, cores: int | None = None, driver: Driver | None = None, torch: TorchBuild | None = None
) -> Machine:
    """Find `device` (`cpu` or `cuda:<index>`) for a worker with `cores` CPU cores (None: all available).

    Raises HardwareError if the device, a core or torch is missing, or torch and the driver do not fit.
    """
    available = len(os.sched_getaffinity(0))
    if cores is not None and not 1 <= cores <= available:
        raise HardwareError(f"{cores} CPU cores were requested; this process may use {available}")
    torch = torch or find_torch()
    if device == "cpu":
        return Machine(_describe_cpu(cores or available, torch.version))
    kind, _, index = device.partition(":")
    if kind != "cuda" or not index.isdecimal():
        raise HardwareError(f"there is no device {device!r}: use `--device cpu`, or `--gpu N`")
    if "+rocm" in torch.version or "+xpu" in torch.version:
        raise HardwareError(
            f"torch {torch.version} is not for NVIDIA's GPUs, and only these can be used yet: use `--device cpu`"
        )
    report = _ask_driver(driver)
    found = find_gpu(report, int(index))
    if torch.version.endswith("+cpu"):
        raise HardwareError(f"torch {torch.version} cannot use a GPU: install a CUDA build, or use `--device cpu`")
    _require_whole(found)
    if torch.cuda_major is not None and torch.cuda_major >= 13 and found.capability < OLDEST_OF_CUDA_13:
        capability = ".".join(map(str, found.capability))
        raise HardwareError(
            f"torch {torch.version} has no code for the {found.model} (compute capability {capability}): CUDA 13 "
            "begins with 7.5, Turing. Install torch for CUDA 12.6: "
            "`pip install torch --index-url https://download.pytorch.org/whl/cu126`"
        )
    # Any driver of torch's major version of CUDA or a later one will do (NVIDIA's minor version compatibility).
    if torch.cuda_major is not None and report.cuda[0] < torch.cuda_major:
        supported = ".".join(map(str, report.cuda))
        raise HardwareError(
            f"torch {torch.version} is built for CUDA {torch.cuda_major}, and the NVIDIA driver {report.version} "
            f"supports CUDA {supported}: update the driver, or install torch for CUDA {report.cuda[0]}"
        )
    hardware = Hardware(
        kind=DeviceKind.CUDA, model=found.model, memory_mib=found.memory_mib, cores=cores or available,
        power_cap_watts=found.power_cap_watts, torch_version=torch.version, precision=find_precision(found.capability),
    )  # fmt: skip
    return Machine(hardware, found.gpu)


def find_precision(capability: tuple[int, int]) -> str:
    """The arithmetic of a seed's matrices on a GPU: what its matrix units have since Ampere and since Volta."""
    return "bfloat16" if capability >= (8, 0) else "float16" if capability >= (7, 0) else "float32"


def _require_whole(found: GpuReport) -> None:
    """Raise HardwareError for a GPU that a run's processes cannot use together."""
    if found.is_split:
        raise HardwareError(
            f"GPU {found.index} is split by MIG, and a worker needs a whole one: "
            f"`sudo nvidia-smi -i {found.index} -mig 0`"
        )
    if found.mode != "DEFAULT":
        raise HardwareError(
            f"GPU {found.index} is in the compute mode {found.mode}, and a run has several processes on it: "
            f"`sudo nvidia-smi -i {found.index} -c DEFAULT`"
        )


def list_devices(device: str, driver: Driver | None = None, visible: str | None = None) -> list[str]:
    """The devices of a setting: `cuda:0,1` are two, `cuda:all` are all GPUs. Raises HardwareError if one is missing.

    `visible` is CUDA_VISIBLE_DEVICES, by which a scheduler says which GPUs are this process's: `all` are these, and
    another one is an error.
    """
    kind, _, numbers = device.partition(":")
    if kind != "cuda" or (numbers.isdecimal() and visible is None):
        return [device]
    report = _ask_driver(driver)
    shown = list(report.gpus) if visible is None else find_visible(report, visible)
    if numbers == "all":
        if not report.gpus:
            raise HardwareError("this machine has no NVIDIA GPU: use `--device cpu` to train on the processor")
        if not shown:
            raise HardwareError(
                f"CUDA_VISIBLE_DEVICES={visible} names no whole GPU of this machine: correct or unset it"
            )
        return [f"cuda:{gpu.index}" for gpu in shown]
    wanted = [find_gpu(report, int(index)) for index in dict.fromkeys(numbers.split(","))]
    for gpu in wanted:
        if gpu not in shown:
            raise HardwareError(
                f"GPU {gpu.index} is not of those that CUDA_VISIBLE_DEVICES={visible} leaves to this process: "
                "use `--gpu all` for these, or unset the variable"
            )
    return [f"cuda:{gpu.index}" for gpu in wanted]


def find_visible(report: DriverReport, visible: str) -> list[GpuReport]:
    """The GPUs that CUDA_VISIBLE_DEVICES shows, which are those before its first unknown name: numbers, or beginnings
    of UUIDs.
    """
    shown = []
    for name in (part.strip() for part in visible.split(",")):
        found = [
            gpu
            for gpu in report.gpus
            if str(gpu.index) == name or (name[:4] == "GPU-" and gpu.gpu.uuid.startswith(name))
        ]
        if len(found) != 1:
            break
        shown += found
    return shown


@contextmanager
def hold_gpu(machine: Machine) -> Iterator[None]:
    """Hold a machine's GPU, if it has one, against other workers of this user. Raises HardwareError."""
    if machine.gpu is None:
        yield
        return
    folder = Path(tempfile.gettempdir(), f"swarm-gpus-{os.geteuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / machine.gpu.uuid).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HardwareError(
                f"another worker already uses this {machine.hardware.model}: two would make each other slower, and "
                "their results wrong. Stop that one (`swarm-worker status` names it), or use another GPU"
            ) from error
        yield


def _ask_driver(driver: Driver | None) -> DriverReport:
    try:
        return (driver or NvidiaDriver()).describe()
    except DriverError as error:
        raise HardwareError(str(error)) from error


def find_gpu(report: DriverReport, index: int) -> GpuReport:
    """The GPU of that index. Raises HardwareError."""
    if index >= len(report.gpus):
        there = ", ".join(f"{gpu.index}: {gpu.model}" for gpu in report.gpus) or "none"
        raise HardwareError(f"there is no GPU {index}: this machine has {len(report.gpus)} ({there})")
    return report.gpus[index]


def _describe_cpu(cores: int, torch_version: str) -> Hardware:
    info = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    facts = {key.strip().lower(): value.strip() for key, value in fields.items()}
    flags = facts.get("flags", facts.get("features", "")).split()
    level = next((name for flag, name in ISA_BY_FLAG if flag in flags), "")
    return Hardware(
        kind=DeviceKind.CPU,
        model=(facts.get("model name") or platform.processor() or platform.machine())[:120],
        memory_mib=psutil.virtual_memory().total // MIB,
        cores=cores,
        isa="-".join(part for part in (platform.machine(), level) if part)[:60],
        torch_version=torch_version,
    )


@contextmanager
def claim_cores(count: int) -> Iterator[frozenset[int]]:
    """Hold `count` of this process's cores, or all if it has fewer; those that no other worker holds come first."""
    folder = Path(tempfile.gettempdir(), f"swarm-cores-{os.geteuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    free: list[int] = []
    taken: list[int] = []
    with ExitStack() as stack:
        for core in sorted(os.sched_getaffinity(0)):
            if len(free) == count:
                break
            file = stack.enter_context((folder / str(core)).open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                taken.append(core)
            else:
                free.append(core)
        yield frozenset((free + taken)[:count])
