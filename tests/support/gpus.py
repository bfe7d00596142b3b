"""Drivers for machines without a GPU: one that answers from data, and NVIDIA's libraries with a fake behind them."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from worker.machine.gpu import DriverError, DriverReport, GpuProcess, GpuReport, PowerLimit, PowerRefused
from worker.sandbox.base import Gpu

H100 = GpuReport(1, Gpu("GPU-11111111-2222-3333-4444-555555555555", 1), "NVIDIA H100 80GB HBM3", 81559, 700, (9, 0))
OLD = GpuReport(
    0, Gpu("GPU-00000000-2222-3333-4444-555555555555", 0), "NVIDIA GeForce GTX 1060 3GB", 3072, None, (6, 1)
)


@dataclass
class FakeDriver:
    """Implements `Driver`; `error` is raised instead of any answer. Power limits are set only by root, and what is set
    is gone at once where the driver `forgets` it."""

    gpus: tuple[GpuReport, ...]
    cuda: tuple[int, int] = (13, 0)
    processes: list[GpuProcess] = field(default_factory=list)
    error: DriverError | None = None
    celsius: int | None = None
    watts: int | None = None
    is_root: bool = True
    forgets: bool = False

    def describe(self) -> DriverReport:
        if self.error is not None:
            raise self.error
        return DriverReport("580.65.06", self.cuda, self.gpus)

    def list_processes(self, gpu: Gpu) -> list[GpuProcess]:
        if self.error is not None:
            raise self.error
        return self.processes

    def read_celsius(self, gpu: Gpu) -> int | None:
        if self.error is not None:
            raise self.error
        return self.celsius

    def read_power_limit(self, gpu: Gpu) -> PowerLimit | None:
        if self.error is not None:
            raise self.error
        return None if self.watts is None else PowerLimit(self.watts, 100)

    def set_power_limit(self, gpu: Gpu, watts: int) -> None:
        if self.error is not None:
            raise self.error
        if not self.is_root:
            raise PowerRefused("only root may")
        self.watts = self.watts if self.forgets else watts


FAKE_SOURCE = Path(__file__).with_name("fake_nvml.c")
FAKE_LIBRARIES = ("libnvidia-ml.so.1", "libcuda.so.1")


def build_libraries(folder: Path) -> Path:
    """Make the driver's libraries in `folder`, for a process whose LD_LIBRARY_PATH names it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FAKE_LIBRARIES:
        subprocess.run(["gcc", "-w", "-shared", "-fPIC", FAKE_SOURCE, "-o", folder / name], check=True)
    return folder
