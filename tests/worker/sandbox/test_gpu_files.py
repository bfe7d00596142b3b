"""The files of a GPU that a sandbox shows; no GPU is needed."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gpus import build_libraries
from worker.sandbox import gpu_files
from worker.sandbox.base import Gpu, SandboxUnavailable
from worker.sandbox.bubblewrap import BubblewrapSandbox
from worker.sandbox.confinement import readable_folders
from worker.sandbox.gpu_files import bind_gpu, find_devices, find_groups

GPU = Gpu("GPU-5e0f1c2a-aaaa-bbbb-cccc-0123456789ab", 3)
VIDEO = 44


def make_devices(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_shows_one_gpu_and_what_all_share(tmp_path: Path) -> None:
    (tmp_path / "nvidia-caps").mkdir()  # of MIG, which is refused
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


def test_bubblewrap_refuses_a_gpu_that_is_not_there() -> None:
    with pytest.raises(SandboxUnavailable, match="nvidia4095 is missing"):
        BubblewrapSandbox(Gpu("GPU-none", 4095))


@pytest.mark.parametrize(
    ("mode", "uid", "groups"),
    [(0o666, 0, ()), (0o660, 0, (VIDEO,)), (0o666, 1000, ())],
)
def test_roots_sandboxes_get_the_groups_that_open_the_devices(
    tmp_path: Path, mode: int, uid: int, groups: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (device,) = find_devices(Gpu("GPU-1"), make_devices(tmp_path, "dxg"))
    found = os.stat_result((stat.S_IFCHR | mode, 1, 1, 1, 0, VIDEO, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda *_, **__: found)
    assert find_groups([device], uid) == groups


def test_a_device_that_nobody_but_root_may_open_is_named_with_what_to_do(tmp_path: Path) -> None:
    device = make_devices(tmp_path, "nvidia3") / "nvidia3"
    device.chmod(0o600)
    with pytest.raises(SandboxUnavailable, match=rf"^only root may open {device}.*: `chmod 666"):
        find_groups([str(device)], 0)


@pytest.mark.parametrize(("mode", "remedy"), [(0o660, "usermod"), (0o600, "sudo chmod 666")])
def test_a_plain_user_who_may_not_open_a_device_is_told_what_to_do(
    tmp_path: Path, mode: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_devices(tmp_path, "nvidia3") / "nvidia3"
    device.chmod(mode)
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may be root, who may open anything
    with pytest.raises(SandboxUnavailable, match=f"^this user may not open .*{remedy}"):
        find_groups([str(device)], 1000)


IN_THE_SANDBOX = """
import ctypes, os, sys
ctypes.CDLL("libcuda.so.1")
for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
    os.close(os.open(f"{sys.argv[1]}/{name}", os.O_RDWR))
print("reached", os.getgroups() != [], os.geteuid())
"""
START = """
import sys
from pathlib import Path
from worker.machine.gpu import NvidiaDriver
from worker.sandbox import gpu_files
from worker.sandbox.base import ProcessLimits, SandboxRequest
from worker.sandbox.bubblewrap import BubblewrapSandbox

devices, code, project = sys.argv[1:]
gpu_files.DEVICES = Path(devices)
gpu = NvidiaDriver().describe().gpus[0].gpu  # loads the library of NVML
argv, limits = (sys.executable, "-I", "-c", code, devices), ProcessLimits(512, 32, 8)
process = BubblewrapSandbox(gpu).start(SandboxRequest(argv, limits, Path(project), device="cuda:0"))
print((process.wait(60) or process.kill()).log_tail)
"""


@pytest.fixture
def devices() -> Iterator[Path]:
    """Device nodes that only root and a group may open; not below /tmp, which a sandbox covers."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        os.mknod(folder / name, stat.S_IFCHR | 0o660, os.makedev(1, 3))
        os.chown(folder / name, 0, VIDEO)
        (folder / name).chmod(0o660)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")
def test_reaches_devices_of_a_group_and_a_driver_that_only_a_variable_leads_to(devices: Path, project: Path) -> None:
    """As on images of clouds: /dev/nvidia0 is root:video 0660, and libcuda.so.1 stands in no linker's cache."""
    libraries = build_libraries(project / "driver")
    command = [sys.executable, "-c", START, str(devices), IN_THE_SANDBOX, str(project)]
    environment = os.environ | {"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(Path(__file__).parents[3])}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["reached", "True", "1000"], ended.stdout + ended.stderr


def test_a_driver_that_the_linker_finds_needs_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libcuda.so.1").touch()
    maps, cache = tmp_path / "maps", tmp_path / "cache"
    maps.write_text(f"7f00-7f01 r-xp 00000000 08:01 42    {tmp_path}/libnvidia-ml.so.580.65.06\n")
    monkeypatch.setattr(gpu_files, "MAPPED_FILES", maps)
    monkeypatch.setattr(gpu_files, "LINKER_CACHE", cache)
    assert gpu_files.find_driver_folder() == str(tmp_path), "without a cache"
    assert str(tmp_path) in readable_folders(GPU) and str(tmp_path) not in readable_folders(), (
        "as WSL's /usr/lib/wsl/lib"
    )
    cache.write_bytes(b"\0libcuda.so.1\0/gone/libcuda.so.1\0")
    assert gpu_files.find_driver_folder() == str(tmp_path)
    cache.write_bytes(f"\0libcuda.so.1\0{tmp_path}/libcuda.so.1\0".encode())
    assert gpu_files.find_driver_folder() is None
