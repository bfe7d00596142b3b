"""worker/loop/control.py, and what the loop makes of a pause."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from shared.protocol import now
from tests.worker.conftest import FormulaRunner, LiveCoordinator
from tests.worker.crew import Hire
from worker.lock import hold
from worker.loop.control import Control, find_controls, followed
from worker.loop.loop import Ending
from worker.loop.stop import Stop


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_files_pause_resume_and_finish_a_worker(tmp_path: Path) -> None:
    control, stop, told = Control(tmp_path), Stop(), list[str]()
    control.finish()  # meant for a process before this one
    with followed(control, stop, lambda: told.append("finish")):
        assert not stop.draining.is_set()
        control.pause(None)
        wait_until(stop.interrupt.is_set)
        assert stop.pause is not None and "swarm-worker resume" in stop.pause
        control.resume()
        wait_until(lambda: not stop.interrupt.is_set())
        assert stop.pause is None and not stop.draining.is_set()
        control.finish()
        wait_until(stop.draining.is_set)
        wait_until(lambda: told == ["finish"])
        assert not stop.now.is_set() and not stop.interrupt.is_set()


def test_a_pause_ends_by_itself_and_outlives_a_restart(tmp_path: Path) -> None:
    control = Control(tmp_path)
    control.pause(now() + timedelta(hours=2))
    pause = control.asked_to_pause()
    assert pause is not None and "until 2" in pause.describe()
    with followed(Control(tmp_path), stop := Stop(), lambda: None):
        assert stop.pause == pause.describe()
    control.pause(now() - timedelta(seconds=1))
    assert control.asked_to_pause() is None


def test_a_worker_pauses_for_reasons_of_its_own_too(tmp_path: Path) -> None:
    reasons: list[str | None] = [None, "Paused outside the hours."]
    control, stop = Control(tmp_path), Stop()
    with followed(control, stop, lambda: None, [lambda: reasons[0], lambda: reasons[1]]):
        assert stop.pause == "Paused outside the hours." and stop.interrupt.is_set()
        control.pause(None)
        wait_until(lambda: "swarm-worker resume" in str(stop.pause))  # a person's words come first
        control.resume()
        reasons[1] = None
        wait_until(lambda: stop.pause is None)


def test_stopping_now_is_stronger_than_going_on() -> None:
    stop = Stop()
    stop.set_pause("Paused.")
    stop.request()
    stop.request()
    stop.set_pause(None)
    assert stop.interrupt.is_set()


def test_only_running_workers_are_found(tmp_path: Path) -> None:
    with hold(tmp_path / "workers" / "a"), hold(tmp_path / "workers" / "b"):
        assert [control.folder.name for control in find_controls(tmp_path, None)] == ["a", "b"]
        assert [control.folder.name for control in find_controls(tmp_path, "b")] == ["b"]
    assert find_controls(tmp_path, None) == []


def test_a_pause_gives_the_run_back_and_going_on_takes_the_next(
    live: LiveCoordinator, hire: Hire, runner: FormulaRunner
) -> None:
    worker = hire(live.url)
    runner.hook = lambda: worker.stop.set_pause("Paused.") if len(runner.requests) == 1 else None

    def go_on() -> None:
        assert live.list("leases") == [], "the job was given back"
        worker.stop.set_pause(None)

    worker.witness.on_wait = go_on
    assert worker.loop.run(max_jobs=1) is Ending.DONE
    assert worker.witness.waits == ["Paused."]
    assert len(runner.requests) == 2 and len(live.list("runs")) == 1
