"""worker/loop/idleness.py: who else uses the GPU, as the driver tells it."""

from dataclasses import dataclass

import pytest

from tests.support.gpus import H100, FakeDriver
from worker.loop.idleness import LOOK_SECONDS, QUIET_SECONDS, Neighbours, own_processes
from worker.machine.gpu import DriverError, GpuProcess

OWN = 4242
TRAINER = GpuProcess(OWN, 60_000, computes=True)
STRANGER = GpuProcess(77, 500, computes=True)
DESKTOP = GpuProcess(78, 300, computes=False)
GAME = GpuProcess(79, 6_000, computes=False)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("processes", "who"),
    [([], None), ([TRAINER, DESKTOP], None), ([TRAINER, STRANGER], "process 77"), ([GAME], "process 79")],
)
def test_others_who_compute_or_draw_much_are_given_way(processes: list[GpuProcess], who: str | None) -> None:
    neighbours = Neighbours(FakeDriver((H100,), processes=processes), H100.gpu, lambda: {OWN}, Clock())
    said = neighbours.describe()
    assert said is None if who is None else who in str(said)


def test_the_gpu_is_taken_again_only_after_it_was_quiet_for_a_while() -> None:
    driver, clock = FakeDriver((H100,), processes=[STRANGER]), Clock()
    neighbours = Neighbours(driver, H100.gpu, lambda: {OWN}, clock)
    assert neighbours.describe()
    driver.processes = []
    for _ in range(int(QUIET_SECONDS / LOOK_SECONDS) - 1):
        clock.now += LOOK_SECONDS
        assert neighbours.describe()
    clock.now += LOOK_SECONDS
    assert neighbours.describe() is None
    driver.processes = [STRANGER]
    assert neighbours.describe() is None  # it was looked at a moment ago
    clock.now += LOOK_SECONDS
    assert neighbours.describe()


def test_a_driver_that_does_not_answer_does_not_stop_the_work() -> None:
    driver = FakeDriver((H100,), error=DriverError("gone"))
    assert Neighbours(driver, H100.gpu, lambda: {OWN}, Clock()).describe() is None


def test_its_own_processes_are_those_that_descend_from_it() -> None:
    assert len(own_processes()) >= 1
