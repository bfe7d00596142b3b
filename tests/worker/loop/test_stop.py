"""worker/loop/stop.py, in a process of its own, for signals end processes."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from shared.protocol import now
from tests.worker.conftest import FormulaRunner, LiveCoordinator
from tests.worker.workers import WorkerFactory, wait_until
from worker.loop.lock import hold
from worker.loop.loop import Ending
from worker.loop.stop import ControlFiles, Stop, follow_control_files, list_running

_PROGRAM = """
import signal, sys, time
if "hangup" in sys.argv:  # whoever started the tests may have it ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
from worker.loop.stop import Stop
def say(line):  # in one piece, for two threads speak
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()
stop = Stop()
with stop.on_signals(lambda: say(f"{stop.draining.is_set()} {stop.now.is_set()}")):
    if "deaf" in sys.argv:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    say("ready")
    if not stop.now.wait(60):
        sys.exit("nobody said to stop")
    if "hang" in sys.argv:
        say("hanging")
        time.sleep(600)
say("ended")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("how", [[], ["deaf"]], ids=["as it comes", "while the main thread waits and hears nothing"])
def test_the_first_signal_drains_and_the_second_stops(number: signal.Signals, how: list[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, *how], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "True False\n"
        process.send_signal(number)
        assert {process.stdout.readline(), process.stdout.readline()} == {"True True\n", "ended\n"}
    assert process.returncode == 0


@pytest.mark.parametrize("how", [["hang"], ["hang", "deaf"]], ids=["sleeping", "deaf"])
@pytest.mark.parametrize(("third", "dies"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_third_ctrl_c_ends_a_worker_that_hangs(third: signal.Signals, dies: bool, how: list[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, *how], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for expected in ("ready", "True False"):
            assert process.stdout.readline() == f"{expected}\n"
            process.send_signal(signal.SIGTERM)
        # Two threads say these, in either order.
        assert {process.stdout.readline(), process.stdout.readline()} == {"True True\n", "hanging\n"}
        process.send_signal(third)
        if dies:
            assert process.wait(60) == -third
        else:
            assert process.stdout.readline() == "True True\n"
            assert process.poll() is None
            process.kill()


def test_a_closed_terminal_asks_once() -> None:
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, "hangup"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "True False\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert {process.stdout.readline(), process.stdout.readline()} == {"True True\n", "ended\n"}


def test_nohup_keeps_a_worker_at_work() -> None:
    command = ["nohup", sys.executable, "-c", _PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "True False\n", "only SIGTERM was heard"
        process.send_signal(signal.SIGTERM)
        assert {process.stdout.readline(), process.stdout.readline()} == {"True True\n", "ended\n"}


def test_a_pause_that_is_taken_back_does_not_take_back_a_stop() -> None:
    stop = Stop()
    stop.set_pause("Paused.")
    assert stop.interrupt.is_set() and stop.quiet.is_set() and not stop.draining.is_set()
    stop.set_pause(None)
    assert not stop.interrupt.is_set() and not stop.quiet.is_set()
    stop.request()
    stop.set_pause("Paused.")
    stop.set_pause(None)
    assert stop.quiet.is_set() and not stop.interrupt.is_set()
    stop.request()
    stop.set_pause(None)
    assert stop.quiet.is_set() and stop.interrupt.is_set()


def test_files_pause_resume_and_finish_a_worker(tmp_path: Path) -> None:
    control, stop, told = ControlFiles(tmp_path), Stop(), list[str]()
    control.finish()  # meant for a process before this one
    with follow_control_files(control, stop, lambda: told.append("finish")):
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
    control = ControlFiles(tmp_path)
    control.pause(now() + timedelta(hours=2))
    pause = control.find_pause()
    assert pause is not None and "until 2" in pause.describe()
    with follow_control_files(ControlFiles(tmp_path), stop := Stop(), lambda: None):
        assert stop.pause == pause.describe()
    control.pause(now() - timedelta(seconds=1))
    assert control.find_pause() is None


def test_a_worker_pauses_for_reasons_of_its_own_too(tmp_path: Path) -> None:
    reasons: list[str | None] = [None, "Paused outside the hours."]
    control, stop = ControlFiles(tmp_path), Stop()
    with follow_control_files(control, stop, lambda: None, [lambda: reasons[0], lambda: reasons[1]]):
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
        assert [control.folder.name for control in list_running(tmp_path, None)] == ["a", "b"]
        assert [control.folder.name for control in list_running(tmp_path, "b")] == ["b"]
    assert list_running(tmp_path, None) == []


def test_a_pause_gives_the_run_back_and_going_on_takes_the_next(
    live: LiveCoordinator, make_worker: WorkerFactory, runner: FormulaRunner
) -> None:
    worker = make_worker(live.url)
    runner.hook = lambda: worker.stop.set_pause("Paused.") if len(runner.requests) == 1 else None

    def go_on() -> None:
        assert live.list("leases") == [], "the job was given back"
        worker.stop.set_pause(None)

    worker.witness.on_wait = go_on
    assert worker.loop.run(max_jobs=1) is Ending.DONE
    assert worker.witness.waits == ["Paused."]
    assert len(runner.requests) == 2 and len(live.list("runs")) == 1


def test_two_commands_may_write_at_once(tmp_path: Path) -> None:
    control = ControlFiles(tmp_path)
    with ThreadPoolExecutor(4) as threads:
        for task in [threads.submit(lambda: [control.pause(None) for _ in range(300)]) for _ in range(4)]:
            task.result()
    assert [path.name for path in (tmp_path / "control").iterdir()] == ["pause"]
