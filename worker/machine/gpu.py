"""Asks NVIDIA's driver (NVML) which GPUs this machine has, and which processes use them; sets their power limits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pynvml

from worker.sandbox.base import MIB, Gpu

MODES = {1: "EXCLUSIVE_THREAD", 2: "PROHIBITED", 3: "EXCLUSIVE_PROCESS"}
"""Values of nvmlComputeMode_t in which several programs cannot use a GPU at a time."""

Answer = TypeVar("Answer")


class DriverError(RuntimeError):
    """The driver does not answer, or not for this GPU; the message is one line with a remedy."""


class PowerRefused(DriverError):
    """This process may not change a GPU's power limit."""


@dataclass(frozen=True)
class PowerLimit:
    """A GPU's power limit, and the least that it takes, in watts."""

    watts: int
    least: int


@dataclass(frozen=True)
class GpuReport:
    """One GPU: `index` as nvidia-smi numbers it; memory in MiB; the enforced power limit in watts, None without one.

    `capability` is the compute capability (major, minor); `mode` is nvidia-smi's name of the compute mode; `is_split`
    says that MIG divides it.
    """

    index: int
    gpu: Gpu
    model: str
    memory_mib: int
    power_cap_watts: int | None
    capability: tuple[int, int]
    mode: str = "DEFAULT"
    is_split: bool = False


@dataclass(frozen=True)
class DriverReport:
    """A driver: its version, the newest CUDA that it supports (major, minor), and its GPUs in the order of index."""

    version: str
    cuda: tuple[int, int]
    gpus: tuple[GpuReport, ...]


@dataclass(frozen=True)
class GpuProcess:
    """A process that uses a GPU. `computes` is false if it only draws, such as a desktop or a game."""

    pid: int
    memory_mib: int
    computes: bool


class Driver(Protocol):
    """Interface of a driver. Its methods raise DriverError."""

    def describe(self) -> DriverReport: ...
    def list_processes(self, gpu: Gpu) -> list[GpuProcess]: ...
    def read_celsius(self, gpu: Gpu) -> int | None: ...
    def read_power_limit(self, gpu: Gpu) -> PowerLimit | None: ...
    def set_power_limit(self, gpu: Gpu, watts: int) -> None: ...


class NvidiaDriver:
    """Implements `Driver` by NVML, opened for each question because a driver may be updated meanwhile."""

    def describe(self) -> DriverReport:
        with _opened():
            cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            return DriverReport(
                version=pynvml.nvmlSystemGetDriverVersion(),
                cuda=(cuda // 1000, cuda % 1000 // 10),
                gpus=tuple(_report(index, handle) for index, handle in enumerate(handles)),
            )

    def list_processes(self, gpu: Gpu) -> list[GpuProcess]:
        with _opened():
            handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            computing = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
            drawing = pynvml.nvmlDeviceGetGraphicsRunningProcesses(handle)
        pids = {process.pid for process in computing}
        return [
            GpuProcess(process.pid, (process.usedGpuMemory or 0) // MIB, computes=process.pid in pids)
            for process in (*computing, *(process for process in drawing if process.pid not in pids))
        ]

    def read_celsius(self, gpu: Gpu) -> int | None:
        """The GPU's temperature; None if it does not tell. Raises DriverError."""
        with _opened():
            handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            return _if_supported(lambda one: pynvml.nvmlDeviceGetTemperature(one, pynvml.NVML_TEMPERATURE_GPU), handle)

    def read_power_limit(self, gpu: Gpu) -> PowerLimit | None:
        """The GPU's power limit; None if it has none that can be set. Raises DriverError."""
        with _opened():
            handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            limit = _if_supported(pynvml.nvmlDeviceGetPowerManagementLimit, handle)
            bounds = _if_supported(pynvml.nvmlDeviceGetPowerManagementLimitConstraints, handle)
        return None if limit is None or bounds is None else PowerLimit(limit // 1000, -(-bounds[0] // 1000))

    def set_power_limit(self, gpu: Gpu, watts: int) -> None:
        """Set the GPU's power limit. Raises PowerRefused, DriverError."""
        with _opened():
            try:
                pynvml.nvmlDeviceSetPowerManagementLimit(pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid), watts * 1000)
            except pynvml.NVMLError_NoPermission as error:
                raise PowerRefused("only root may change a GPU's power limit") from error


@contextmanager
def _opened() -> Iterator[None]:
    """NVML while the block runs; its errors become DriverError, with a remedy."""
    try:
        pynvml.nvmlInit()
        try:
            yield
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError_LibRmVersionMismatch as error:
        raise DriverError(
            "the NVIDIA driver was updated, and its old part still runs: restart this machine (or reload its modules)"
        ) from error
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
        raise DriverError(explain_absence(str(error))) from error
    except pynvml.NVMLError as error:
        raise DriverError(f"the NVIDIA driver fails ({error}): does `nvidia-smi` work? Restart this machine") from error


def explain_absence(error: str, devices: Path = Path("/dev")) -> str:
    """Advice for where NVML says that there is no driver, by the device nodes of this machine."""
    if (devices / "dxg").exists():
        remedy = "update NVIDIA's driver on Windows, which brings its libraries here; install none in WSL"
    elif (devices / "kfd").exists():
        remedy = "this machine has a GPU of AMD's, and only NVIDIA's can be used yet"
    else:
        remedy = "install it"
    return f"no NVIDIA driver answers ({error}): {remedy}, or use `--device cpu` to train on the processor"


def _report(index: int, handle: Any) -> GpuReport:
    power_cap = _if_supported(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return GpuReport(
        index=index,
        gpu=Gpu(pynvml.nvmlDeviceGetUUID(handle), _if_supported(pynvml.nvmlDeviceGetMinorNumber, handle)),
        model=pynvml.nvmlDeviceGetName(handle)[:120],
        memory_mib=pynvml.nvmlDeviceGetMemoryInfo(handle).total // MIB,
        power_cap_watts=None if power_cap is None else power_cap // 1000,
        capability=(major, minor),
        mode=MODES.get(_if_supported(pynvml.nvmlDeviceGetComputeMode, handle) or 0, "DEFAULT"),
        is_split=(_if_supported(pynvml.nvmlDeviceGetMigMode, handle) or [0])[0] == pynvml.NVML_DEVICE_MIG_ENABLE,
    )


def _if_supported(ask: Callable[[Any], Answer], handle: Any) -> Answer | None:
    try:
        return ask(handle)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return None
