"""A driver that answers from data, for machines without a GPU."""

from dataclasses import dataclass, field

from worker.machine.gpu import DriverError, DriverReport, GpuProcess, GpuReport
from worker.sandbox.base import Gpu

H100 = GpuReport(1, Gpu("GPU-11111111-2222-3333-4444-555555555555", 1), "NVIDIA H100 80GB HBM3", 81559, 700)
OLD = GpuReport(0, Gpu("GPU-00000000-2222-3333-4444-555555555555", 0), "NVIDIA GeForce GTX 1060 3GB", 3072, None)


@dataclass
class FakeDriver:
    """Implements `Driver`; `error` is raised instead of any answer."""

    gpus: tuple[GpuReport, ...]
    cuda: tuple[int, int] = (13, 0)
    processes: list[GpuProcess] = field(default_factory=list)
    error: DriverError | None = None

    def describe(self) -> DriverReport:
        if self.error is not None:
            raise self.error
        return DriverReport("580.65.06", self.cuda, self.gpus)

    def list_processes(self, gpu: Gpu) -> list[GpuProcess]:
        if self.error is not None:
            raise self.error
        return self.processes
