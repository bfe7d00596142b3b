"""Hardware of a run, and the class within which measurements may be compared."""

from enum import StrEnum

from pydantic import Field

from shared.protocol import Message


class DeviceKind(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"


class Hardware(Message):
    """Facts about the device a worker trains on.

    For a GPU: model name, memory in MiB, power cap in watts. For a CPU: `isa` (for example `x86_64-avx2`) and
    the number of cores the worker may use. `precision` is the arithmetic the seed's matrices use on it.
    """

    kind: DeviceKind
    model: str = Field(min_length=1, max_length=120)
    memory_mib: int = Field(gt=0)
    cores: int = Field(gt=0)
    isa: str = Field(default="", max_length=60)
    power_cap_watts: int | None = Field(default=None, gt=0)
    torch_version: str = Field(default="", max_length=60)
    precision: str = Field(default="float32", max_length=20)

    @property
    def hardware_class(self) -> str:
        """The name of the class: only runs of one class are ever compared (docs/glossary.md).

        GPU: model, memory in GiB, power cap, torch's major version, precision. CPU: cores and ISA.
        """
        if self.kind is DeviceKind.CPU:
            return f"cpu · {self.cores} cores · {self.isa or 'unknown isa'}"
        major = self.torch_version.split(".", 1)[0] or "?"
        cap = f"{self.power_cap_watts} W" if self.power_cap_watts else "no cap"
        return f"{self.model} · {round(self.memory_mib / 1024)} GiB · {cap} · torch {major} · {self.precision}"
