"""worker/machine/gpu.py: what NVIDIA's driver is asked, on a machine that may have none."""

import pytest

from worker.machine.gpu import DriverError, NvidiaDriver
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
