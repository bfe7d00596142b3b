"""The view of a worker at a terminal: a few lines that stay in place, and a receipt above them for each finished run.

It is drawn only when something has happened, at most about twice a second: a clock that ticks would take time from the
very cores that are being measured.
"""

import sys
from threading import RLock

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shared.experiments import Proposal
from shared.formatting import MINUS
from shared.leases import Lease, Phase
from shared.runs import RunOutcome
from worker.runs import Progress
from worker.ui.active_jobs import Board, Shown
from worker.ui.plain import STOP_AFTER, STOP_NOW, About, clean
from worker.ui.receipts import Receipt, describe_posterior
from worker.ui.sparkline import sparkline
from worker.ui.status import Totals

INDENT = 16
SPARKLINE_WIDTH = 32
HINT = "Ctrl-C: finish this run, report it, stop"
_STYLES = {RunOutcome.OK: "green", RunOutcome.INVALID: "yellow", RunOutcome.STOPPED_EARLY: "yellow"}


def find_terminal(*, no_color: bool) -> Console | None:
    """The terminal to draw on; None where output is a file, a pipe, or a terminal on which nothing can move."""
    console = Console(no_color=True if no_color else None, highlight=False)
    return console if console.is_terminal and not console.is_dumb_terminal and sys.stderr.isatty() else None


class TerminalMonitor:
    """Readable at 80 columns. Drawing takes a lock: several threads tell what they do."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = RLock()
        self._live = Live(console=console, auto_refresh=False)
        self._about: About | None = None
        self._board = Board()
        self._waits = ""
        self._hint = HINT
        self._outbox = 0
        self._before = Totals()
        self._totals = Totals()

    def start(self, about: About) -> None:
        with self._lock:
            self._about, self._before = about, about.totals
            self._live.start()
            self._draw()

    def finish(self) -> None:
        with self._lock:
            self._live.update("", refresh=True)
            self._live.stop()
            self._print(_line(self._so_far(), "dim"))

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
        with self._lock:
            self._board.end(receipt.lease)
            self._totals = receipt.add_to(self._totals)
            style = _STYLES.get(receipt.report.outcome, "red")
            self._print(Text.assemble((f"{receipt.metric:<{INDENT}}", style), " ", clean(receipt.title)))
            for detail in _details(receipt):
                self._print(Padding(_line(detail, "dim"), (0, 0, 0, INDENT + 1)))
            self._draw()

    def wait(self, reason: str, seconds: float) -> None:
        with self._lock:
            again = f"Asking again in {seconds:.0f} s." if seconds >= 1 else ""
            self._waits = f"{reason} {again}".strip()
            self._draw()

    def outbox(self, waiting: int) -> None:
        with self._lock:
            self._outbox = waiting
            self._draw()

    def stop(self, now: bool) -> None:
        with self._lock:
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
        if self._live.is_started:
            self._live.update(self._view(), refresh=True)

    def _view(self) -> RenderableType:
        assert self._about is not None
        about, job = self._about, self._board.current
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        grid.add_row("worker", _line(f"{about.worker} · {about.device}"))
        grid.add_row("", _line(f"{about.sandbox} · {about.agent} · {about.coordinator}"))
        if job is not None:
            grid.add_row("job", _line(f"{job.name} · {job.lease.project}", "bold"))
            grid.add_row("why", _line(job.lease.why))
            grid.add_row("trying", _line(job.trying or "…"))
            grid.add_row("parent", _line(_parent(job)))
        grid.add_row("now", self._now(job))
        if job is not None and job.losses:
            grid.add_row("loss", _line(_curve(job)))
        for other in self._board.others:
            grid.add_row("next" if other.is_next else "before", _line(other.aside))
        grid.add_row("so far", _line(self._so_far()))
        return Group("", grid, Text(self._hint, style="dim"))

    def _now(self, job: Shown | None) -> RenderableType:
        progress = job.progress if job else None
        if job is None or progress is None or progress.phase is not Phase.TRAINING:
            return _line(self._waits or (job.phase.value if job else "asking for a job"))
        row = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=1.0, completed=progress.share, width=20)
        speed = f"{progress.tokens_per_second:,.0f} tokens/s" if progress.tokens_per_second else ""
        row.add_row("training", bar, f"{progress.share:4.0%}", f"step {progress.step}", speed)
        return row

    def _so_far(self) -> str:
        parts = [self._totals.describe()]
        if self._before.runs:
            parts.append(f"{self._before.runs} runs before")
        parts.append(f"{self._outbox} in the outbox" if self._outbox else "outbox empty")
        return " · ".join(parts)


def _parent(job: Shown) -> str:
    """What is known of the parent, and what is expected of the change."""
    known = describe_posterior(job.lease.base.posterior)
    return known if job.predicted is None else f"{known} · predicted effect {_signed(job.predicted)}"


def _curve(job: Shown) -> str:
    """The losses as a line, and the last one beside the parent's at the same share."""
    progress, last = job.progress, job.losses[-1]
    parts = [f"{sparkline(job.losses, SPARKLINE_WIDTH)} {last:.3f}"]
    if progress is not None and progress.parent_loss is not None:
        parts.append(f"{_signed(last - progress.parent_loss, 3)} against the parent")
    return " · ".join(parts)


def _details(receipt: Receipt) -> list[str]:
    """What stands below a receipt's first line."""
    report, posterior = receipt.report, receipt.posterior
    lines = []
    if receipt.effect:
        lines.append(f"effect {receipt.effect}")
    if receipt.lease.kind.makes_experiment:
        lines.append(f"parent {receipt.parent}")
    elif posterior is not None:
        lines.append(f"now {describe_posterior(posterior)} · before: {receipt.parent}")
    if report.usage is not None:
        lines.append(f"the model answered {report.usage.describe()}")
    if report.reason:
        lines.append(report.reason)
    return [*lines, receipt.place]


def _signed(value: float, places: int = 4) -> str:
    return f"{value:+.{places}f}".replace("-", MINUS)


def _line(text: str, style: str = "") -> Text:
    return Text(clean(text), style=style)
