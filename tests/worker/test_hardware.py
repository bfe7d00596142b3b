"""What a worker says about its device."""

import os
import platform

import pytest

from shared.hardware import DeviceKind
from worker.hardware import HardwareError, detect_hardware


def test_describes_the_processor() -> None:
    hardware = detect_hardware("cpu")
    assert hardware.kind is DeviceKind.CPU
    assert hardware.cores == len(os.sched_getaffinity(0))
    assert hardware.memory_mib > 256
    assert hardware.model
    assert hardware.isa.startswith(platform.machine())
    assert hardware.torch_version.startswith("2.")
    assert hardware.hardware_class == f"cpu · {hardware.cores} cores · {hardware.isa}"


def test_counts_only_the_cores_asked_for() -> None:
    assert detect_hardware("cpu", 1).cores == 1


@pytest.mark.parametrize("cores", [0, -1, 100_000])
def test_refuses_cores_that_are_not_there(cores: int) -> None:
    with pytest.raises(HardwareError, match=rf"^{cores} CPU cores were asked for; this process may use \d+$"):
        detect_hardware("cpu", cores)


@pytest.mark.parametrize("device", ["cuda", "cuda:x", "tpu:0", "", "cuda:-1"])
def test_refuses_a_device_it_does_not_know(device: str) -> None:
    with pytest.raises(HardwareError, match="there is no device"):
        detect_hardware(device)


def test_never_falls_back_to_the_processor() -> None:
    """On any machine: no GPU has this number, whether torch, the driver or the GPU is what is missing."""
    with pytest.raises(HardwareError) as refusal:
        detect_hardware("cuda:4096")
    assert "\n" not in str(refusal.value)
    assert "use `--device cpu`" in str(refusal.value) or "there is no GPU 4096" in str(refusal.value)
