"""How a worker is told to stop: once, it finishes its run and reports (it drains); twice, it stops now.

A signal handler may interrupt the main thread anywhere, also while it holds a lock, so it only puts a number into a
reentrant queue; a thread of its own takes it from there and sets the events that the rest of the worker waits for.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
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
        received: SimpleQueue[int | None] = SimpleQueue()

        def receive(number: int, _frame: FrameType | None) -> None:
            received.put(number)
            if self.draining.is_set():
                signal.signal(signal.SIGINT, signal.SIG_DFL)

        def follow() -> None:
            while received.get() is not None:
                self.request()
                tell()

        before = {number: signal.signal(number, receive) for number in SIGNALS}
        thread = Thread(target=follow, name="signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            received.put(None)
            thread.join()
