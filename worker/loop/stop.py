"""How a worker is told to stop: once, it finishes its run and reports (it drains); twice, it stops now.

A signal handler runs in the main thread only: it may interrupt it anywhere, also while it holds a lock, and a signal
that comes just before the main thread begins to wait is not handled until that wait is over. So the interpreter itself
writes each signal's number to a socket at once; a thread of its own reads them there and sets the events that the rest
of the worker waits for.
"""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

Reason = Callable[[], str | None]
"""Why a worker is to pause now, as a sentence for people; None where nothing stands against its work."""


class Stop:
    """`draining`: take no new job. `now`: also end what is running. The second implies the first.

    A pause also ends what is running, and lasts until it is taken back: `interrupt` is set by either, and `pause` says
    for people why and how long, None while there is none. `quiet` is set while no idea is wanted: by draining or pause.
    """

    def __init__(self) -> None:
        self.draining = Event()
        self.now = Event()
        self.interrupt = Event()
        self.quiet = Event()
        self.pause: str | None = None

    def request(self) -> None:
        """Ask once to drain; ask again to stop now."""
        if self.draining.is_set():
            self.now.set()
            self.interrupt.set()
        self.draining.set()
        self.quiet.set()

    def set_pause(self, pause: str | None) -> None:
        """Pause, with the words for people, or go on (None)."""
        self.pause = pause
        for event, asked in ((self.interrupt, self.now), (self.quiet, self.draining)):
            if pause is None:
                event.clear()
            if pause is not None or asked.is_set():  # looked at last, for it may be set meanwhile
                event.set()

    @contextmanager
    def on_signals(self, tell: Callable[[], None]) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM ask; `tell` is called, from another thread, after each. Main thread only.

        After the second, one more Ctrl-C ends the process as if nobody listened, should the worker hang; more
        SIGTERMs change nothing, for whoever sends those may just be impatient.
        """
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        asked = heard = 0  # as the main thread and the other one count; two that come together are one to the former

        def receive(_number: int, _frame: FrameType | None) -> None:
            nonlocal asked
            asked += 1
            if max(asked, heard) > 1:
                signal.signal(signal.SIGINT, signal.SIG_DFL)

        def follow() -> None:
            nonlocal heard
            while number := reader.recv(1):
                if number[0] in SIGNALS:
                    heard += 1
                    self.request()
                    tell()

        wakeup = signal.set_wakeup_fd(writer.fileno())
        before = {number: signal.signal(number, receive) for number in SIGNALS}
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
