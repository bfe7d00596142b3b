"""worker/machine/hardware.py: torch is tried where runs will use it."""

import pytest

from worker.machine.hardware import HardwareError, try_torch
from worker.sandbox import Gpu, Sandbox
from worker.sandbox.choose import UnconfinedSandbox


def test_torch_adds_numbers_in_the_sandbox(sandbox: Sandbox) -> None:
    try_torch(sandbox, "cpu")


def test_a_gpu_that_torch_cannot_use_is_a_line_and_no_fall_back() -> None:
    """The GPU has a UUID that no machine has, so that this fails wherever it runs."""
    with pytest.raises(HardwareError) as refusal:
        try_torch(UnconfinedSandbox(Gpu("GPU-00000000-0000-0000-0000-000000000000", 0)), "cuda:0")
    assert str(refusal.value).startswith("torch cannot use cuda:0 in the sandbox unconfined: ")
    assert "\n" not in str(refusal.value)
