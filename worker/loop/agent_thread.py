"""The thread that asks the agent: for a draft, a repair or a finding, one after the other, while others go on."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

NICENESS = 10
Answer = TypeVar("Answer")


class AgentThread:
    """Does what it is asked for in the order of asking. `notify` is called after each, in that thread.

    The thread has a low priority, so that it takes no CPU time from a run, and ends with the process, should an answer
    never come.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="agent", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self, work: Callable[[], Answer]) -> Future[Answer]:
        """Let the thread call `work`; its result or its error is in the future."""
        future: Future[Answer] = Future()

        def do() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - whoever reads the future gets it
                future.set_exception(error)

        self._work.put(do)
        return future

    def end(self) -> None:
        """Let the thread end after what it was asked for."""
        self._work.put(None)

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (do := self._work.get()) is not None:
            do()
            self._notify()
