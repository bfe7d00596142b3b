"""How other commands steer a running worker: small files in its folder, which it looks at twice a second.

    control/pause     pause now, until the moment in the file (empty: until `resume`)
    control/finish    end after the run that is under way
    status.json       what the worker does, written by it (worker/ui/status_file.py)
    worker.log        its events, one a line

Files need no port and no rights but those of the folder's owner, and they outlive a restart: a paused worker that is
started again is paused.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event, Thread

from shared.protocol import now
from worker.lock import AlreadyRunning, hold
from worker.loop.stop import Reason, Stop

LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Pause:
    """A worker is to pause; `until` None: until it is told to go on."""

    until: datetime | None

    def describe(self) -> str:
        """`Paused until 2026-01-01 12:00 UTC.`"""
        if self.until is None:
            return "Paused, until `swarm-worker resume`."
        return f"Paused until {self.until:%Y-%m-%d %H:%M} UTC, or until `swarm-worker resume`."


class Control:
    """The control files of one worker. Raises OSError where its folder cannot be written."""

    def __init__(self, worker_folder: Path) -> None:
        self.folder = worker_folder
        self._pause = worker_folder / "control" / "pause"
        self._finish = worker_folder / "control" / "finish"

    def pause(self, until: datetime | None) -> None:
        """Ask for a pause."""
        self._write(self._pause, until.isoformat() if until else "")

    def resume(self) -> None:
        """Take back the request to pause."""
        self._pause.unlink(missing_ok=True)

    def finish(self) -> None:
        """Ask for the end after this run."""
        self._write(self._finish, "")

    def asked_to_pause(self) -> Pause | None:
        """The pause that is asked for, if its time is not over."""
        try:
            text = self._pause.read_text().strip()
        except FileNotFoundError:
            return None
        try:
            until = datetime.fromisoformat(text) if text else None
        except ValueError:
            until = None
        return Pause(until) if until is None or until > now() else None

    def take_finish(self) -> bool:
        """Whether the end was asked for; the request is taken out of the way."""
        try:
            self._finish.unlink()
        except FileNotFoundError:
            return False
        return True

    def is_running(self) -> bool:
        """Whether a process works in this folder."""
        try:
            with hold(self.folder):
                return False
        except AlreadyRunning:
            return True

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(path)


@contextmanager
def followed(control: Control, stop: Stop, tell: Callable[[], None], reasons: Sequence[Reason] = ()) -> Iterator[None]:
    """While the block runs, let the control files stop and pause; `tell` is called after a request to finish.

    Each of `reasons` pauses too, as long as it gives one: hours of the day, say.
    """
    ended = Event()
    control.take_finish()  # one that was meant for the process before this one

    def heed() -> None:
        pause = control.asked_to_pause()
        given = (reason() for reason in reasons)
        stop.set_pause(next((why for why in given if why), None) if pause is None else pause.describe())

    def look() -> None:
        while True:
            heed()
            if control.take_finish() and not stop.draining.is_set():
                stop.request()
                tell()
            if ended.wait(LOOK_SECONDS):
                return

    heed()
    thread = Thread(target=look, name="control", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def find_controls(data_dir: Path, worker: str | None) -> list[Control]:
    """The workers that run with this data folder; of that name, if one is given."""
    folders = sorted(path for path in (data_dir / "workers").glob("*") if path.is_dir())
    controls = [Control(folder) for folder in folders if worker in (None, folder.name)]
    return [control for control in controls if control.is_running()]
