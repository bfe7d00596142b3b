"""What a person sees of several workers: all lines, marked; or at a terminal a row for each, and their results."""

import time
from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker.ui.plain import clean
from worker.ui.status import read_status

TICK_SECONDS = 1.0
WARNINGS = ("level=warning", "level=error", "swarm-worker:")


class TeamView(Protocol):
    """Shows what workers say. Its methods may be called from several threads; `tick` comes a few times a second."""

    def line(self, name: str, text: str, *, is_result: bool) -> None: ...
    def tick(self) -> None: ...


class PlainTeamView:
    """Each line with its worker's name before it, on the stream that it came from."""

    def __init__(self, messages: TextIO, results: TextIO) -> None:
        self._messages, self._results = messages, results
        self._lock = RLock()

    def line(self, name: str, text: str, *, is_result: bool) -> None:
        to = self._results if is_result else self._messages
        with self._lock:
            to.write(f"worker={name} {text}\n")
            to.flush()

    def tick(self) -> None:
        """Nothing that moves."""


class TerminalTeamView:
    """A row for each worker, from the status that it keeps; results and warnings stand above. A context manager.

    Drawn about once a second, and only when something has changed.
    """

    def __init__(self, console: Console, folders: Mapping[str, Path]) -> None:
        """`folders` has the workers' own, by name."""
        self._console, self._folders = console, folders
        self._lock = RLock()
        self._live = Live(console=console, auto_refresh=False)
        self._shown: list[tuple[str, ...]] = []
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        with self._lock:
            self._live.stop()

    def line(self, name: str, text: str, *, is_result: bool) -> None:
        if is_result or any(word in text for word in WARNINGS):
            with self._lock:
                self._console.print(Text(f"{name}  {clean(text)}", style="" if is_result else "yellow"))

    def tick(self) -> None:
        if time.monotonic() < self._drawn_at + TICK_SECONDS:
            return
        self._drawn_at = time.monotonic()
        rows = [self._row(name, folder) for name, folder in self._folders.items()]
        if rows != self._shown:
            self._shown = rows
            with self._lock:
                self._live.update(_table(rows), refresh=True)

    def _row(self, name: str, folder: Path) -> tuple[str, ...]:
        status = read_status(folder)
        if status is None:
            return (name, "starting", "", "", "")
        share = f"{status.share:.0%}" if status.share else ""
        state = f"{status.state}, {status.ending}" if status.ending else status.state
        return (name, clean(state), share, clean(status.trying or status.job or ""), f"{status.runs} runs")


def _table(rows: list[tuple[str, ...]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for style in ("bold", "", "", "dim", "dim"):
        table.add_column(style=style, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    return table
