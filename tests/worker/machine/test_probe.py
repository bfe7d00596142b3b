"""The trial of a device in the sandbox, with a torch that fails as CUDA's does; of a CPU see `doctor --deep`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared.test_faults import ASYNCHRONOUS
from worker.machine import probe
from worker.machine.hardware import HardwareError
from worker.machine.probe import try_device, try_steps
from worker.sandbox.base import Gpu
from worker.sandbox.choose import UnconfinedSandbox

GONE = Gpu("GPU-00000000-0000-0000-0000-000000000000", 0)
"""A GPU that no machine has, so that tests fail alike wherever they run."""

NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"
BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"
FAKE_TORCH = """
class Number:
    def sum(self):
        return 1000

__version__ = "2.13.0+fake"

def ones(count, device):
    if {error!r}:
        raise RuntimeError({error!r})
    return Number()

class cuda:
    get_device_capability = staticmethod(lambda: (9, 0))
    get_device_name = staticmethod(lambda: "NVIDIA Fake")
    mem_get_info = staticmethod(lambda: {memory})

class Tensor: pass
class nn: pass
"""


def fake_torch(folder: Path, error: str = "", memory: tuple[int, int] = (80 << 30, 80 << 30)) -> Path:
    """A folder with the steps and a torch for them."""
    for name in ("torch/nn", "torch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "torch/__init__.py").write_text(FAKE_TORCH.format(error=error, memory=memory))
    (folder / "torch/nn/__init__.py").write_text("functional = None\n")
    (folder / "device_steps.py").write_text(Path(probe.__file__).with_name("device_steps.py").read_text())
    return folder


@pytest.mark.parametrize(
    ("error", "advice"),
    [(NO_KERNEL + ASYNCHRONOUS, "whl/cu126"), (BUSY + ASYNCHRONOUS, "nvidia-smi -c DEFAULT"), ("a riddle\nof it", "")],
)
def test_the_line_that_names_the_error_is_shown_with_advice_and_the_rest_is_tried(
    error: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "__file__", str(fake_torch(tmp_path, error) / "probe.py"))
    add, memory = try_steps(UnconfinedSandbox(GONE), "cuda:0", ("add", "free_memory"))
    assert (add.ok, add.found) == (False, f"RuntimeError: {error.splitlines()[0]}") and advice in add.advice
    assert memory.ok and memory.found == "81920 of 81920 MiB are free"
    with pytest.raises(HardwareError, match=r"^torch cannot use cuda:0 in the sandbox unconfined: ") as refusal:
        try_device(UnconfinedSandbox(GONE), "cuda:0", ("add",))
    assert "\n" not in str(refusal.value) and advice in str(refusal.value)


def test_memory_that_others_hold_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fake_torch(tmp_path, memory=(10 << 30, 80 << 30))
    monkeypatch.setattr(probe, "__file__", str(folder / "probe.py"))
    add, memory = try_steps(UnconfinedSandbox(GONE), "cuda:0", ("add", "free_memory"))
    assert add.found == "torch 2.13.0+fake adds on NVIDIA Fake, compute capability 9.0"
    assert not memory.ok and "10240 of 81920 MiB are free" in memory.found and "end other programs" in memory.advice


def test_a_gpu_that_torch_cannot_use_is_a_line_and_no_fall_back() -> None:
    with pytest.raises(HardwareError, match=r"^torch cannot use cuda:0 in the sandbox unconfined: \S+") as refusal:
        try_device(UnconfinedSandbox(GONE), "cuda:0", ("add",))
    assert "\n" not in str(refusal.value)


def test_elsewhere_than_on_linux_one_true_sentence_is_all() -> None:
    code = "import sys; sys.platform = 'darwin'; sys.argv[1:] = ['doctor']; from worker.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "Apple's GPUs cannot be used" in ended.stderr and ended.stderr.count("\n") == 1
