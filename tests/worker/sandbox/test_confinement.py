"""The options that show a GPU inside a sandbox; no GPU is needed."""

from pathlib import Path

import pytest

from worker.sandbox.base import Gpu, ProcessLimits, SandboxRequest, SandboxUnavailable
from worker.sandbox.bubblewrap import BubblewrapSandbox
from worker.sandbox.confinement import bind_gpu, find_devices, sandbox_environment
from worker.sandbox.process import resource_limits

GPU = Gpu("GPU-5e0f1c2a-aaaa-bbbb-cccc-0123456789ab", 3)
LIMITS = ProcessLimits(memory_mib=300, processes=24, disk_mib=8)


def make_devices(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def request(device: str) -> SandboxRequest:
    return SandboxRequest(("/bin/true",), LIMITS, Path("/"), device=device)


def test_shows_one_gpu_and_what_all_share(tmp_path: Path) -> None:
    folder = make_devices(
        tmp_path, "nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"
    )
    names = [Path(device).name for device in find_devices(GPU, folder)]
    assert names == ["nvidia3", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"]


def test_binds_its_devices_as_devices_and_sys_read_only(tmp_path: Path) -> None:
    folder = make_devices(tmp_path, "nvidia3", "nvidiactl", "nvidia-uvm")
    devices = [str(folder / name) for name in ("nvidia3", "nvidiactl", "nvidia-uvm")]
    expected = [word for device in devices for word in ("--dev-bind", device, device)]
    assert list(bind_gpu(GPU, folder)) == [*expected, "--ro-bind", "/sys", "/sys"]


def test_under_windows_all_gpus_have_one_device(tmp_path: Path) -> None:
    assert find_devices(Gpu("GPU-1"), make_devices(tmp_path, "dxg")) == [str(tmp_path / "dxg")]


@pytest.mark.parametrize("there", [(), ("nvidia3", "nvidiactl"), ("nvidiactl", "nvidia-uvm")])
def test_a_device_that_is_missing_is_named_with_what_to_do(tmp_path: Path, there: tuple[str, ...]) -> None:
    with pytest.raises(SandboxUnavailable, match=r"device .*/nvidia\S+ is missing: run `nvidia-modprobe"):
        find_devices(GPU, make_devices(tmp_path, *there))


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


def test_bubblewrap_refuses_a_gpu_that_is_not_there() -> None:
    with pytest.raises(SandboxUnavailable, match="nvidia4095 is missing"):
        BubblewrapSandbox(Gpu("GPU-none", 4095))
