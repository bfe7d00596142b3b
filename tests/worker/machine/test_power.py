"""worker/machine/power.py: a GPU's power limit, with a fake driver and with a fake library behind NVIDIA's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gpus import H100, FakeDriver, build_libraries
from worker.machine.gpu import DriverError
from worker.machine.hardware import HardwareError, TorchBuild, detect_machine
from worker.machine.power import hold_power_limit, name_limit_file, restore_power_limit
from worker.sandbox.base import Gpu

MACHINE = detect_machine("cuda:0", None, FakeDriver((H100,)), TorchBuild("2.9.0"))


@pytest.mark.parametrize(("earlier", "meanwhile"), [(700, 250), (250, 250), (200, 200)])
def test_the_limit_is_lowered_while_the_worker_runs_and_never_raised(
    earlier: int, meanwhile: int, tmp_path: Path
) -> None:
    driver = FakeDriver((H100,), watts=earlier)
    with hold_power_limit(driver, MACHINE, 250, tmp_path):
        assert driver.watts == meanwhile
    assert driver.watts == earlier and not list(tmp_path.iterdir())


def test_a_killed_workers_limit_is_restored_by_the_next_one(tmp_path: Path) -> None:
    driver = FakeDriver((H100,), watts=250)
    name_limit_file(H100.gpu, tmp_path).write_text("700 250\n")  # as one leaves it that is killed
    with hold_power_limit(driver, MACHINE, 300, tmp_path):
        assert driver.watts == 300
        restore_power_limit(driver, Gpu("GPU-another"), tmp_path)  # a worker on it starts, and leaves this one's alone
        assert driver.watts == 300
    assert driver.watts == 700
    driver.watts, driver.is_root = 250, False
    name_limit_file(H100.gpu, tmp_path).write_text("700 250\n")
    restore_power_limit(driver, H100.gpu, tmp_path)
    driver.is_root = True
    restore_power_limit(driver, H100.gpu, tmp_path)
    assert driver.watts == 700, "what the driver refused is done later"
    for left in ("nonsense", "", "900", "900 300\n"):  # the last: the owner has set 700 W since then
        name_limit_file(H100.gpu, tmp_path).write_text(left)
        restore_power_limit(driver, H100.gpu, tmp_path)
        assert driver.watts == 700 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (FakeDriver((H100,), watts=700, is_root=False), rf"stays at 700 W.*sudo nvidia-smi -i {H100.gpu.uuid} -pl 600"),
        (FakeDriver((H100,), watts=700), "takes no power limit below 100 W"),
        (FakeDriver((H100,), watts=700, forgets=True), "nvidia-smi -i .* -pm 1"),
        (FakeDriver((H100,), watts=None), "cannot be limited: remove `max_watts`"),
        (FakeDriver((H100,), error=DriverError("gone")), "gone"),
    ],
)
def test_a_limit_that_cannot_be_set_ends_the_worker_with_what_to_do(
    driver: FakeDriver, words: str, tmp_path: Path
) -> None:
    most = 90 if "below" in words else 600
    with pytest.raises(HardwareError, match=words), hold_power_limit(driver, MACHINE, most, tmp_path):
        pass
    assert not list(tmp_path.iterdir())


HOLD = """
import sys; from pathlib import Path
from worker.machine.gpu import NvidiaDriver
from worker.machine.hardware import TorchBuild, detect_machine
from worker.machine.power import hold_power_limit
driver, torch = NvidiaDriver(), TorchBuild("2.9.0")
with hold_power_limit(driver, detect_machine("cuda:0", None, driver, torch), 250, Path(sys.argv[1])):
    print(detect_machine("cuda:0", None, driver, torch).hardware.power_cap_watts)
"""


def test_nvidias_own_library_is_asked_as_it_wants_it(tmp_path: Path) -> None:
    watts = tmp_path / "watts"
    watts.write_text("350")
    fakes = {"LD_LIBRARY_PATH": str(build_libraries(tmp_path / "driver")), "FAKE_WATTS": str(watts)}
    for is_root, words in (
        ("1", "250\n"),
        ("0", "sudo nvidia-smi -i GPU-fa4e0000-aaaa-bbbb-cccc-0123456789ab -pl 250"),
    ):
        environment = os.environ | fakes | {"FAKE_ROOT": is_root}
        done = subprocess.run([sys.executable, "-c", HOLD, tmp_path], env=environment, capture_output=True, text=True)
        assert words in done.stdout + done.stderr
        assert watts.read_text() == "350"
