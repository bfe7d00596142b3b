"""The view of a worker at a terminal: a few lines that stay in place, and a receipt above them for each finished run.

It is drawn only when something has happened, at most about twice a second: a clock that ticks would take time from the
very cores that are being measured.
"""

from threading import RLock

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shared.experiments import Proposal
from shared.leases import Lease, Phase
from shared.runs import RunOutcome
from worker.board import Board, Shown
from worker.monitor import STOP_AFTER, STOP_NOW, About, Receipt, clean
from worker.sparkline import sparkline
from worker.training import Progress

INDENT = 16
SPARKLINE_WIDTH = 32
HINT = "Ctrl-C: finish this run, report it, stop"
_STYLES = {RunOutcome.OK: "green", RunOutcome.INVALID: "yellow", RunOutcome.STOPPED_EARLY: "yellow"}


class TerminalMonitor:
    """Readable at 80 columns. Drawing takes a lock: the thread that follows signals also writes here."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = RLock()
        self._live = Live(console=console, auto_refresh=False)
        self._about: About | None = None
        self._board = Board()
        self._waits = ""
        self._hint = HINT
        self._waiting = 0
        self._runs = 0
        self._failed = 0

    def start(self, about: About) -> None:
        self._about = about
        self._live.start()
        self._draw()

    def finish(self) -> None:
        with self._lock:
            self._live.update("", refresh=True)
            self._live.stop()
        self._print(_line(self._totals(), "dim"))

    def take(self, lease: Lease) -> None:
        with self._lock:
            self._board.take(lease)
            self._waits = ""
            self._draw()

    def propose(self, lease: Lease, proposal: Proposal) -> None:
        with self._lock:
            self._board.propose(lease, proposal)
            self._draw()

    def progress(self, lease: Lease, progress: Progress) -> None:
        with self._lock:
            self._board.progress(lease, progress)
            self._draw()

    def drop(self, lease: Lease) -> None:
        with self._lock:
            self._board.end(lease)
            self._draw()

    def receipt(self, receipt: Receipt) -> None:
        ok = receipt.report.outcome is RunOutcome.OK
        self._runs += 1
        self._failed += not ok
        with self._lock:
            self._board.end(receipt.lease)
        style = _STYLES.get(receipt.report.outcome, "red")
        self._print(Text.assemble((f"{receipt.metric:<{INDENT}}", style), " ", clean(receipt.title)))
        for detail in (f"parent {receipt.parent}", receipt.place, receipt.report.reason):
            if detail:
                self._print(Padding(_line(detail, "dim"), (0, 0, 0, INDENT + 1)))
        self._draw()

    def wait(self, reason: str, seconds: float) -> None:
        self._waits = f"{reason} Asking again in {seconds:.0f} s."
        self._draw()

    def outbox(self, waiting: int) -> None:
        self._waiting = waiting
        self._draw()

    def stop(self, now: bool) -> None:
        self._hint = STOP_NOW if now else STOP_AFTER
        self._draw()

    def note(self, text: str) -> None:
        self._print(_line(text, "dim"))

    def warn(self, text: str) -> None:
        self._print(_line(text, "yellow"))

    def _print(self, text: RenderableType) -> None:
        with self._lock:
            self._console.print(text)

    def _draw(self) -> None:
        with self._lock:
            if self._live.is_started:
                self._live.update(self._view(), refresh=True)

    def _view(self) -> RenderableType:
        assert self._about is not None
        about, job = self._about, self._board.current
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        grid.add_row("worker", _line(f"{about.worker} · {about.device} · {about.sandbox} · {about.agent}"))
        grid.add_row("swarm", _line(about.coordinator + (f" · {job.lease.project}" if job else "")))
        if job is not None:
            grid.add_row("job", _line(job.name, "bold"))
            grid.add_row("why", _line(job.lease.why))
            grid.add_row("trying", _line(job.trying or "…"))
        grid.add_row("now", self._now(job))
        if job is not None and job.losses:
            grid.add_row("loss", _line(_curve(job)))
        for other in self._board.others:
            grid.add_row("besides", _line(other.aside))
        grid.add_row("so far", _line(self._totals()))
        return Group("", grid, Text(self._hint, style="dim"))

    def _now(self, job: Shown | None) -> RenderableType:
        progress = job.progress if job else None
        if job is None or progress is None or progress.phase is not Phase.TRAINING:
            return _line(self._waits or (job.phase.value if job else "asking for a job"))
        loss = "" if progress.loss is None else f"loss {progress.loss:.3f}"
        row = Table.grid(padding=(0, 2))
        row.add_row(
            "training",
            ProgressBar(total=1.0, completed=progress.share, width=20),
            f"{progress.share:4.0%}",
            f"step {progress.step}",
            loss,
        )
        return row

    def _totals(self) -> str:
        outbox = f"{self._waiting} in the outbox" if self._waiting else "outbox empty"
        return f"{self._runs} run{'' if self._runs == 1 else 's'}, {self._failed} failed · {outbox}"


def _curve(job: Shown) -> str:
    """The losses as a line, then what they cost."""
    speed = job.progress.tokens_per_second if job.progress else 0.0
    parts = [sparkline(job.losses, SPARKLINE_WIDTH), f"{job.losses[-1]:.3f}"]
    return " · ".join([*parts, f"{speed:,.0f} tokens/s"] if speed else parts)


def _line(text: str, style: str = "") -> Text:
    return Text(clean(text), style=style)
