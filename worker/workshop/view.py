"""What a run by hand shows while it goes on: lines for people on stderr, JSON lines for programs on stdout."""

import json
import sys

from shared.leases import Phase
from worker.monitor import clean
from worker.training import Progress

SHARE_BETWEEN_LINES = 0.1
"""Of the budget, between two lines where stderr is no terminal."""


class View:
    """Follows runs. At a terminal one line is written over and over; elsewhere there is a line for each tenth."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._is_terminal = sys.stderr.isatty()
        self._next_share = 0.0
        self._phase: Phase | None = None

    def tell(self, text: str) -> None:
        """A line for people."""
        self._write(clean(text), stays=True)

    def follow(self, progress: Progress) -> None:
        """The run has got so far."""
        if self._as_json:
            self._emit_progress(progress)
        is_new = progress.phase is not self._phase
        if is_new:
            self._phase, self._next_share = progress.phase, 0.0
        if progress.phase is not Phase.TRAINING:
            if is_new:
                self._write(f"{progress.phase.value} …", stays=True)
        elif self._is_terminal or progress.share >= self._next_share:
            self._next_share = progress.share + SHARE_BETWEEN_LINES
            self._write(describe(progress), stays=not self._is_terminal)

    def end(self) -> None:
        """The run is over: leave the line that was written over."""
        self._phase = None
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")

    def emit(self, event: str, **fields: object) -> None:
        """A JSON line on stdout, if those were asked for."""
        if self._as_json:
            sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
            sys.stdout.flush()

    def _emit_progress(self, progress: Progress) -> None:
        self.emit(
            "progress",
            phase=progress.phase.value,
            step=progress.step,
            loss=progress.loss,
            tokens=progress.tokens,
            tokens_per_second=round(progress.tokens_per_second, 1),
            share=round(progress.share, 4),
            peak_memory_mib=progress.peak_memory_mib,
        )

    def _write(self, text: str, stays: bool) -> None:
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{text}" + ("\n" if stays else ""))
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()


def describe(progress: Progress) -> str:
    """A run in training, in a line."""
    parts = [f"training {progress.share:4.0%}", f"step {progress.step}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.tokens:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.peak_memory_mib:
        parts.append(f"{progress.peak_memory_mib:,} MiB")
    return "  ".join(parts)
