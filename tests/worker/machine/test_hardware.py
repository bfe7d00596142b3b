"""Facts about the device, and claims of CPU cores."""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.runs import DeviceKind
from tests.support.gpus import H100, OLD, FakeDriver
from worker.machine.gpu import DriverError
from worker.machine.hardware import HardwareError, TorchBuild, detect_machine, hold_gpu, list_devices

CUDA_12, CUDA_13 = TorchBuild("2.13.0+cu128"), TorchBuild("2.13.0+cu130")


def test_describes_the_processor() -> None:
    hardware = detect_machine("cpu").hardware
    assert hardware.kind is DeviceKind.CPU
    assert hardware.cores == len(os.sched_getaffinity(0))
    assert hardware.memory_mib > 256
    assert hardware.model
    assert hardware.isa.startswith(platform.machine())
    assert hardware.torch_version.startswith("2.")
    assert hardware.hardware_class == f"cpu · {hardware.cores} cores · {hardware.isa}"


def test_counts_only_the_cores_asked_for() -> None:
    assert detect_machine("cpu", 1).hardware.cores == 1


@pytest.mark.parametrize("cores", [0, -1, 100_000])
def test_refuses_cores_that_are_not_there(cores: int) -> None:
    with pytest.raises(HardwareError, match=rf"^{cores} CPU cores were requested; this process may use \d+$"):
        detect_machine("cpu", cores)


@pytest.mark.parametrize("device", ["cuda", "cuda:x", "tpu:0", "", "cuda:-1"])
def test_refuses_a_device_it_does_not_know(device: str) -> None:
    with pytest.raises(HardwareError, match="there is no device"):
        detect_machine(device)


def test_never_falls_back_to_the_processor() -> None:
    """On any machine: no GPU has this number, whether torch, the driver or the GPU is what is missing."""
    with pytest.raises(HardwareError) as refusal:
        detect_machine("cuda:4096")
    assert "\n" not in str(refusal.value)
    assert "use `--device cpu`" in str(refusal.value) or "there is no GPU 4096" in str(refusal.value)


def test_describes_a_gpu_as_its_driver_does() -> None:
    machine = detect_machine("cuda:1", 1, FakeDriver((OLD, H100)), CUDA_12)
    assert machine.gpu == H100.gpu
    assert machine.device == "cuda:0"  # the only one that a sandbox shows
    assert machine.hardware.hardware_class == "NVIDIA H100 80GB HBM3 · 80 GiB · 700 W · torch 2 · bfloat16"
    assert machine.hardware.memory_mib == H100.memory_mib


@pytest.mark.parametrize(
    ("torch", "cuda_major"),
    [
        (TorchBuild("2.13.0+cu128"), 12),
        (TorchBuild("2.13.0", ("filelock", "nvidia-cuda-runtime-cu12==12.8.90; platform_system == 'Linux'")), 12),
        (TorchBuild("2.13.0", ("nvidia-cuda-runtime==13.0.96",)), 13),
        (TorchBuild("2.13.0", ("cuda-toolkit[cublas,cudart]==13.0.2",)), 13),
        (TorchBuild("2.13.0", ("filelock", "nvidia-cudnn-cu12==9.10.2.21")), None),
    ],
)
def test_reads_from_torchs_metadata_what_it_was_built_for(torch: TorchBuild, cuda_major: int | None) -> None:
    assert torch.cuda_major == cuda_major


def test_a_driver_too_old_for_torch_is_refused_and_an_older_minor_version_is_not() -> None:
    detect_machine("cuda:0", 1, FakeDriver((H100,), cuda=(12, 2)), CUDA_12)
    with pytest.raises(HardwareError) as refusal:
        detect_machine("cuda:0", 1, FakeDriver((H100,), cuda=(12, 4)), TorchBuild("2.13.0+cu130"))
    assert str(refusal.value) == (
        "torch 2.13.0+cu130 is built for CUDA 13, and the NVIDIA driver 580.65.06 supports CUDA 12.4: "
        "update the driver, or install torch for CUDA 12"
    )


@pytest.mark.parametrize(
    ("asked", "devices"),
    [
        ("cpu", ["cpu"]),
        ("cuda:7", ["cuda:7"]),
        ("cuda:0,1", ["cuda:0", "cuda:1"]),
        ("cuda:1,1", ["cuda:1"]),
        ("cuda:all", ["cuda:0", "cuda:1"]),
    ],
)
def test_several_gpus_are_several_devices(asked: str, devices: list[str]) -> None:
    assert list_devices(asked, FakeDriver((OLD, H100))) == devices


def test_one_of_several_gpus_that_is_not_there_is_an_error_for_all() -> None:
    with pytest.raises(HardwareError, match="there is no GPU 2"):
        list_devices("cuda:0,2", FakeDriver((OLD, H100)))
    with pytest.raises(HardwareError, match="this machine has no NVIDIA GPU"):
        list_devices("cuda:all", FakeDriver(()))


@pytest.mark.parametrize(
    ("asked", "visible", "devices"),
    [
        ("cuda:all", "1", ["cuda:1"]),
        ("cuda:all", "1,0", ["cuda:1", "cuda:0"]),
        ("cuda:all", H100.gpu.uuid, ["cuda:1"]),
        ("cuda:all", " GPU-1111 ", ["cuda:1"]),
        ("cuda:all", "0,-1,1", ["cuda:0"]),  # CUDA ignores what follows a name that it does not know
        ("cuda:1", H100.gpu.uuid, ["cuda:1"]),
        ("cuda:0,1", "0,1", ["cuda:0", "cuda:1"]),
        ("cpu", "1", ["cpu"]),
    ],
)
def test_a_scheduler_says_which_gpus_are_this_workers(asked: str, visible: str, devices: list[str]) -> None:
    assert list_devices(asked, FakeDriver((OLD, H100)), visible) == devices


@pytest.mark.parametrize(
    ("asked", "visible", "words"),
    [
        ("cuda:0", "1", "GPU 0 is not of those that CUDA_VISIBLE_DEVICES=1 leaves to this process: use `--gpu all`"),
        ("cuda:0", "GPU-1111", "GPU 0 is not of those"),
        ("cuda:0", "GPU-", "GPU 0 is not of those"),  # both begin so
        ("cuda:all", "-1", "CUDA_VISIBLE_DEVICES=-1 names no whole GPU"),
        ("cuda:all", "MIG-1111", "CUDA_VISIBLE_DEVICES=MIG-1111 names no whole GPU"),
        ("cuda:3", "3", "there is no GPU 3: this machine has 2"),
    ],
)
def test_a_gpu_of_others_is_not_taken(asked: str, visible: str, words: str) -> None:
    with pytest.raises(HardwareError, match=f"^{words}"):
        list_devices(asked, FakeDriver((OLD, H100)), visible)


def test_one_worker_has_a_gpu_for_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    driver = FakeDriver((OLD, H100))
    ours, other = (detect_machine(f"cuda:{index}", 1, driver, CUDA_12) for index in (0, 1))
    refused = pytest.raises(HardwareError, match=r"^another worker already uses this NVIDIA GeForce GTX 1060")
    with hold_gpu(ours), hold_gpu(other), hold_gpu(detect_machine("cpu")), hold_gpu(detect_machine("cpu")), refused:
        hold_gpu(ours).__enter__()
    with hold_gpu(ours):
        pass


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(HardwareError, match=r"^there is no GPU 2: this machine has 2 \(0: .*, 1: NVIDIA H100"):
        detect_machine("cuda:2", 1, FakeDriver((OLD, H100)), CUDA_12)


def test_a_driver_that_fails_is_a_line() -> None:
    driver = FakeDriver((), error=DriverError("the NVIDIA driver was updated: restart this machine"))
    with pytest.raises(HardwareError, match="restart this machine"):
        detect_machine("cuda:0", 1, driver, CUDA_12)


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((6, 1), "float32"), ((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((12, 0), "bfloat16")],
)
def test_a_class_says_the_precision_of_its_card(capability: tuple[int, int], precision: str) -> None:
    """V100, T4 and the 20 series have no bfloat16."""
    driver = FakeDriver((replace(H100, index=0, capability=capability),))
    machine = detect_machine("cuda:0", 1, driver, CUDA_12)
    assert machine.hardware.precision == precision and machine.hardware.hardware_class.endswith(precision)


@pytest.mark.parametrize(
    ("changes", "torch", "words"),
    [
        ({"is_split": True}, CUDA_12, r"GPU 0 is split by MIG.*`sudo nvidia-smi -i 0 -mig 0`"),
        ({"mode": "EXCLUSIVE_PROCESS"}, CUDA_12, r"EXCLUSIVE_PROCESS.*`sudo nvidia-smi -i 0 -c DEFAULT`"),
        ({"mode": "PROHIBITED"}, CUDA_12, r"compute mode PROHIBITED"),
        ({"capability": (6, 1)}, CUDA_13, r"no code for the .* \(compute capability 6.1\): CUDA 13 .*whl/cu126"),
        ({"capability": (7, 0)}, CUDA_13, r"compute capability 7.0"),
        ({}, TorchBuild("2.13.0+rocm6.4"), r"not for NVIDIA's GPUs.*`--device cpu`"),
    ],
)
def test_a_gpu_that_a_run_cannot_use_is_refused_in_a_sentence(
    changes: dict[str, Any], torch: TorchBuild, words: str
) -> None:
    driver = FakeDriver((replace(H100, index=0, **changes),))
    with pytest.raises(HardwareError, match=words) as refusal:
        detect_machine("cuda:0", 1, driver, torch)
    assert "\n" not in str(refusal.value)


def test_old_cards_work_with_a_torch_that_has_code_for_them() -> None:
    assert detect_machine("cuda:0", 1, FakeDriver((replace(OLD, capability=(6, 1)),)), CUDA_12).gpu == OLD.gpu
    detect_machine("cuda:0", 1, FakeDriver((replace(OLD, capability=(7, 5)),)), CUDA_13)


def test_torch_without_cuda_is_refused_where_there_is_a_gpu_for_it() -> None:
    absent = FakeDriver((), error=DriverError("no NVIDIA driver answers"))
    with pytest.raises(HardwareError, match="no NVIDIA driver"):  # no other torch would help
        detect_machine("cuda:0", 1, absent, TorchBuild("2.13.0+cpu"))
    with pytest.raises(HardwareError, match="install a CUDA build, or use `--device cpu`"):
        detect_machine("cuda:0", 1, FakeDriver((H100,)), TorchBuild("2.13.0+cpu"))


CORES = sorted(os.sched_getaffinity(0))
HOLD = """
import sys
from worker.machine.hardware import claim_cores
with claim_cores(int(sys.argv[1])) as cores:
    print(*sorted(cores), flush=True)
    input()
"""


@contextmanager
def claimed_by_a_worker(count: int, folder: Path) -> Iterator[list[int]]:
    """The cores that another process holds; claims are kept in `folder`, apart from this machine's real workers."""
    command = [sys.executable, "-c", HOLD, str(count)]
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        yield [int(core) for core in process.stdout.readline().split()]
        process.communicate("\n")


def test_gives_what_is_asked_for(tmp_path: Path) -> None:
    with claimed_by_a_worker(1, tmp_path) as cores:
        assert cores == CORES[:1]


def test_gives_all_if_there_are_fewer(tmp_path: Path) -> None:
    with claimed_by_a_worker(10_000, tmp_path) as cores:
        assert cores == CORES


def test_shares_only_when_it_must(tmp_path: Path) -> None:
    """Each worker gets a core of its own, and one too many shares."""
    with ExitStack() as stack:
        claims = [stack.enter_context(claimed_by_a_worker(1, tmp_path)) for _ in CORES]
        assert sorted(core for claim in claims for core in claim) == CORES
        with claimed_by_a_worker(1, tmp_path) as cores:
            assert cores == CORES[:1]


def test_frees_cores_at_the_end(tmp_path: Path) -> None:
    for _ in range(2):
        with claimed_by_a_worker(1, tmp_path) as cores:
            assert cores == CORES[:1]
