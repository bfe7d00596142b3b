"""Stopping and pausing a worker: by signals, by the commands `pause`, `resume` and `finish`, and by rules.

Asked once to stop, a worker finishes its run and reports it (it drains); asked twice, it stops now. A terminal that is
closed asks once.

The commands write small files in the worker's folder, which it polls twice a second:

    control/pause     pause now, until the time in the file (empty: until `resume`)
    control/finish    stop after the current run

Files need no port and no rights but those of the folder's owner. A pause outlives a restart.
"""

import ctypes
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event, Lock, Thread
from types import FrameType
from uuid import uuid4

from shared.formatting import format_local
from shared.protocol import now
from worker.loop.lock import is_held, list_folders

SIGNALS = (signal.SIGINT, signal.SIGTERM)
POLL_INTERVAL_SECONDS = 0.5
"""Seconds between two looks at the control files."""

PauseReason = Callable[[], str | None]
"""Returns a sentence for people that says why the worker pauses, or None if it may work."""


class Stop:
    """`draining`: take no new job. `now`: also end what is running. The second implies the first.

    A pause also ends what is running, and lasts until it is withdrawn: `interrupt` is set by `now` or a pause, `quiet`
    by draining or a pause. `pause` is the pause's reason for people, None while there is none.
    """

    def __init__(self) -> None:
        self.draining = Event()
        self.now = Event()
        self.interrupt = Event()
        self.quiet = Event()
        self.pause: str | None = None
        self._lock = Lock()

    @property
    def reason(self) -> str:
        """Why no new work begins, for people."""
        return self.pause or "the worker is stopping"

    def request(self) -> None:
        """Ask once to drain; ask again to stop now."""
        with self._lock:
            if self.draining.is_set():
                self.now.set()
                self.interrupt.set()
            self.draining.set()
            self.quiet.set()

    def set_pause(self, pause: str | None) -> None:
        """Pause for this reason, or go on (None)."""
        with self._lock:
            self.pause = pause
            for event, asked in ((self.interrupt, self.now), (self.quiet, self.draining)):
                if pause is not None or asked.is_set():
                    event.set()
                else:
                    event.clear()

    @contextmanager
    def on_signals(self, notify: Callable[[], None]) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM stop the worker; `notify` is called after each, in another thread. Main thread only.

        After the second signal another Ctrl-C ends the process, should the worker hang; more SIGTERMs change nothing.
        SIGHUP counts only if nothing was asked before, since a closed terminal may send it twice, and not at all under
        `nohup`.

        Python runs signal handlers in the main thread only, late if that thread waits. So the interpreter writes each
        signal's number to a socket, a thread reads it there, and that thread sets the default action in C.
        """
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        signals = [*SIGNALS, *([] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP])]

        def follow() -> None:
            count = 0
            while number := reader.recv(1):
                if number[0] in signals and not (number[0] == signal.SIGHUP and count):
                    count += 1
                    if count == 2:
                        ctypes.CDLL(None).signal(signal.SIGINT, int(signal.SIG_DFL))
                    self.request()
                    with suppress(OSError):  # the terminal may be gone
                        notify()

        def ignore(_number: int, _frame: FrameType | None) -> None:
            """Without a handler in Python, nothing would be written to the socket."""

        wakeup = signal.set_wakeup_fd(writer.fileno())
        before = {number: signal.signal(number, ignore) for number in signals}
        thread = Thread(target=follow, name="signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            writer.close()
            thread.join()
            reader.close()


@dataclass(frozen=True)
class PauseRequest:
    """The volunteer's request to pause; `until` None means until `resume`."""

    until: datetime | None

    def describe(self) -> str:
        """`Paused until 2026-01-01 12:00 CET, or until ...`"""
        if self.until is None:
            return "Paused, until `swarm-worker resume`."
        return f"Paused until {format_local(self.until)}, or until `swarm-worker resume`."


class ControlFiles:
    """The control files of one worker. Raises OSError where its folder cannot be written."""

    def __init__(self, worker_folder: Path) -> None:
        self.folder = worker_folder
        self._pause = worker_folder / "control" / "pause"
        self._finish = worker_folder / "control" / "finish"

    def pause(self, until: datetime | None) -> None:
        _write(self._pause, until.isoformat() if until else "")

    def resume(self) -> None:
        self._pause.unlink(missing_ok=True)

    def finish(self) -> None:
        _write(self._finish, "")

    def find_pause(self) -> PauseRequest | None:
        """The requested pause, unless its time is over."""
        try:
            text = self._pause.read_text().strip()
        except FileNotFoundError:
            return None
        try:
            until = datetime.fromisoformat(text) if text else None
        except ValueError:
            until = None
        return PauseRequest(until) if until is None or until > now() else None

    def pop_finish(self) -> bool:
        """Whether a stop was requested; the request is removed."""
        try:
            self._finish.unlink()
        except FileNotFoundError:
            return False
        return True


@contextmanager
def follow_control_files(
    control: ControlFiles, stop: Stop, notify: Callable[[], None], reasons: Sequence[PauseReason] = ()
) -> Iterator[None]:
    """Let the control files stop and pause the worker within the block; `notify` is called after `finish`.

    The worker also pauses while one of `reasons` holds, for example outside certain hours.
    """
    ended = Event()
    control.pop_finish()  # requested of an earlier process

    def update_pause() -> None:
        pause = control.find_pause()
        found = (reason() for reason in reasons)
        stop.set_pause(next((why for why in found if why), None) if pause is None else pause.describe())

    def poll() -> None:
        while True:
            update_pause()
            if control.pop_finish() and not stop.draining.is_set():
                stop.request()
                notify()
            if ended.wait(POLL_INTERVAL_SECONDS):
                return

    update_pause()
    thread = Thread(target=poll, name="control", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def list_running(data_dir: Path, worker: str | None) -> list[ControlFiles]:
    """The control files of the workers that run with this data folder, or of the one with that name."""
    return [ControlFiles(folder) for folder in list_folders(data_dir, worker) if is_held(folder)]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(f".{uuid4().hex}.tmp")  # two commands may write at once
    temporary.write_text(text)
    temporary.replace(path)
