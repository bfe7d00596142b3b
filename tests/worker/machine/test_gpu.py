"""worker/machine/gpu.py: what NVIDIA's driver is asked, on a machine that may have none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gpus import build_libraries
from worker.machine.gpu import DriverError, NvidiaDriver, explain_absence
from worker.sandbox.base import Gpu


def test_the_driver_answers_or_says_in_a_line_what_to_do() -> None:
    """On a machine with a GPU it describes each; on any other it names what is missing."""
    try:
        report = NvidiaDriver().describe()
    except DriverError as error:
        assert "\n" not in str(error)
        assert "install it, or use `--device cpu`" in str(error)
    else:
        assert [gpu.index for gpu in report.gpus] == list(range(len(report.gpus)))
        assert all(gpu.gpu.uuid.startswith("GPU-") and gpu.memory_mib > 256 for gpu in report.gpus)
        assert report.cuda >= (11, 0)


def test_a_gpu_that_is_not_there_has_no_processes_to_list() -> None:
    with pytest.raises(DriverError):
        NvidiaDriver().list_processes(Gpu("GPU-00000000-0000-0000-0000-000000000000"))


DESCRIBE = "from worker.machine.gpu import NvidiaDriver; print(NvidiaDriver().describe().gpus[0])"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_libraries(tmp_path_factory.mktemp("driver"))


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ({}, "capability=(8, 6), mode='DEFAULT', is_split=False"),
        ({"FAKE_CAPABILITY": "75", "FAKE_MODE": "3"}, "capability=(7, 5), mode='EXCLUSIVE_PROCESS', is_split=False"),
        ({"FAKE_MIG": "1"}, "is_split=True"),
    ],
)
def test_reads_what_the_drivers_own_library_answers(driver: dict[str, str], words: str, libraries: Path) -> None:
    environment = os.environ | driver | {"LD_LIBRARY_PATH": str(libraries)}
    told = subprocess.run([sys.executable, "-c", DESCRIBE], env=environment, capture_output=True, text=True, check=True)
    assert words in told.stdout and "memory_mib=12288, power_cap_watts=None" in told.stdout


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ({"FAKE_INIT": "18"}, "the NVIDIA driver was updated, and its old part still runs: restart this machine"),
        ({"FAKE_INIT": "9"}, "no NVIDIA driver answers"),
        ({"FAKE_HANDLE": "15"}, "Restart this machine"),  # the GPU is lost
    ],
)
def test_what_the_drivers_own_library_refuses_is_a_line(driver: dict[str, str], words: str, libraries: Path) -> None:
    environment = os.environ | driver | {"LD_LIBRARY_PATH": str(libraries)}
    told = subprocess.run([sys.executable, "-c", DESCRIBE], env=environment, capture_output=True, text=True)
    (line,) = (line for line in told.stderr.splitlines() if line.startswith("worker.machine.gpu.DriverError: "))
    assert words in line


@pytest.mark.parametrize(
    ("device", "words"), [("kfd", "a GPU of AMD's"), ("dxg", "driver on Windows"), ("null", "install it, or")]
)
def test_where_there_is_no_driver_the_reason_is_true(device: str, words: str, tmp_path: Path) -> None:
    (tmp_path / device).touch()
    told = explain_absence("NVML Shared Library Not Found", tmp_path)
    assert words in told and told.endswith("or use `--device cpu` to train on the processor")
