"""worker/loop/stop.py, in a process of its own, for signals end processes."""

import signal
import subprocess
import sys

import pytest

from worker.loop.stop import Stop

_PROGRAM = """
import signal, sys, time
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
        time.sleep(30)
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


@pytest.mark.parametrize(("third", "dies"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_third_ctrl_c_ends_a_worker_that_hangs(third: signal.Signals, dies: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, "hang"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for expected in ("ready", "True False"):
            assert process.stdout.readline() == f"{expected}\n"
            process.send_signal(signal.SIGTERM)
        # Two threads say these, in either order.
        assert {process.stdout.readline(), process.stdout.readline()} == {"True True\n", "hanging\n"}
        process.send_signal(third)
        if dies:
            assert process.wait(10) == -third
        else:
            assert process.stdout.readline() == "True True\n"
            assert process.poll() is None
            process.kill()


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
