"""Shows a run by hand: lines for people on stderr, JSON lines for programs on stdout."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from shared.formatting import clean
from shared.leases import Phase
from worker.data.download import DataProgress
from worker.runs.runner import each_once
from worker.runs.spec import RunProgress

SHARE_BETWEEN_LINES = 0.1
"""Share of the budget between two lines if stderr is not a terminal."""

PROGRESS_FIELDS = ("phase", "step", "loss", "tokens", "tokens_per_second", "share", "peak_memory_mib")
"""Fields of a JSON line, in this order."""


class View:
    """Shows runs. A terminal has one line that is overwritten; elsewhere there is a line per tenth of the budget."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._is_terminal = sys.stderr.isatty()
        self._next_share = 0.0
        self._phase: Phase | None = None

    def show(self, text: str) -> None:
        """A line for people."""
        self._write(clean(text), stays=True)

    def follow(self, progress: RunProgress) -> None:
        """Show the progress of the run."""
        rounded = {"tokens_per_second": round(progress.tokens_per_second, 1), "share": round(progress.share, 4)}
        self.emit("progress", **{name: getattr(progress, name) for name in PROGRESS_FIELDS} | rounded)
        is_new = progress.phase is not self._phase
        if is_new:
            self._phase, self._next_share = progress.phase, 0.0
        if progress.phase is not Phase.TRAINING:
            if is_new:
                self._write(f"{progress.phase.value} …", stays=True)
        elif self._is_terminal or progress.share >= self._next_share:
            self._next_share = progress.share + SHARE_BETWEEN_LINES
            self._write(describe(progress), stays=not self._is_terminal)

    @contextmanager
    def follow_data(self) -> Iterator[Callable[[DataProgress], None]]:
        """Show the preparation of data: a bar on a terminal, elsewhere a line per step."""
        if not self._is_terminal:
            yield each_once(self.show)
            return
        with make_bars(Console(stderr=True)) as bars:
            yield DataBar(bars).follow

    def end(self) -> None:
        """End the run: clear the overwritten line."""
        self._phase = None
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")

    def emit(self, event: str, **fields: object) -> None:
        """Write a JSON line to stdout, if requested."""
        if self._as_json:
            sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
            sys.stdout.flush()

    def _write(self, text: str, stays: bool) -> None:
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{text}" + ("\n" if stays else ""))
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()


def make_bars(console: Console, refreshes: bool = True) -> Bars:
    """Progress bars for downloads."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Bars(*columns, TimeRemainingColumn(), console=console, auto_refresh=refreshes)


class DataBar:
    """A bar for the current step; finished files stay above it."""

    def __init__(self, bars: Bars) -> None:
        self._bars, self._what = bars, ""
        self._size: int | None = None
        self._task: TaskID | None = None

    def follow(self, progress: DataProgress) -> None:
        """Show the progress; without a known size the bar moves to and fro."""
        if self._task is None or progress.what != self._what:
            if self._task is not None and self._size is None:
                self._bars.update(self._task, visible=False)
            self._what = progress.what
            self._task = self._bars.add_task(clean(progress.what), total=None)
        self._size = progress.size
        self._bars.update(self._task, completed=progress.done, total=progress.size)


def describe(progress: RunProgress) -> str:
    """The progress of a run in training, in one line."""
    parts = [f"training {progress.share:4.0%}", f"step {progress.step}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.tokens:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.peak_memory_mib:
        parts.append(f"{progress.peak_memory_mib:,} MiB")
    return "  ".join(parts)
