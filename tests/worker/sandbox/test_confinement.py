"""The environment and the limits of a sandboxed process on a GPU; no GPU is needed."""

from pathlib import Path

import pytest

from worker.sandbox.base import Gpu, ProcessLimits, SandboxRequest, SandboxUnavailable
from worker.sandbox.confinement import sandbox_environment
from worker.sandbox.process import resource_limits

GPU = Gpu("GPU-5e0f1c2a-aaaa-bbbb-cccc-0123456789ab", 3)
LIMITS = ProcessLimits(memory_mib=300, processes=24, disk_mib=8)


def request(device: str) -> SandboxRequest:
    return SandboxRequest(("/bin/true",), LIMITS, Path("/"), device=device)


def test_cuda_sees_the_gpu_by_its_uuid_and_only_where_it_was_asked_for() -> None:
    def seen(device: str, gpu: Gpu | None) -> str:
        return sandbox_environment(request(device), "/project", "/tmp", gpu)["CUDA_VISIBLE_DEVICES"]

    assert seen("cuda:0", GPU) == GPU.uuid
    assert seen("cpu", GPU) == ""
    with pytest.raises(SandboxUnavailable, match="its sandbox has no GPU"):
        seen("cuda:0", None)


def test_addresses_are_not_bounded_on_a_gpu() -> None:
    assert "RLIMIT_AS" in resource_limits(request("cpu"))
    assert "RLIMIT_AS" not in resource_limits(request("cuda:0"))


def test_no_process_has_the_priorities_that_its_user_may_have() -> None:
    """Some users may run before all others, as for sound; only root without limits could try it here."""
    limits = resource_limits(request("cpu"))
    assert (limits["RLIMIT_RTPRIO"], limits["RLIMIT_NICE"]) == (0, 0)
