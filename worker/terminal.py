"""The view of a worker at a terminal: a few lines that stay in place, and a receipt above them for each finished run.

It is drawn only when something has happened, at most about twice a second: a clock that ticks would take time from the
very cores that are being measured.
"""

import math
from threading import RLock

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shared.experiments import JobKind, Proposal
from shared.leases import Lease, Phase
from shared.runs import RunOutcome
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
        self._lease: Lease | None = None
        self._trying = ""
        self._progress: Progress | None = None
        self._losses: list[float] = []
        self._state = "asking for a job"
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
        self._lease, self._trying, self._progress = lease, "", None
        self._losses.clear()
        self._state = "drafting" if lease.kind.makes_experiment else "starting"
        if lease.kind is JobKind.REPLICATE:
            self._trying = f"measure {lease.base.sha[:10]} once more"
        self._draw()

    def propose(self, proposal: Proposal) -> None:
        self._trying = proposal.title
        self._draw()

    def progress(self, progress: Progress) -> None:
        if progress.phase is Phase.STARTING:  # of a repair, too
            self._losses.clear()
        if progress.phase is Phase.TRAINING and progress.loss is not None and math.isfinite(progress.loss):
            self._losses.append(progress.loss)
        self._progress, self._state = progress, progress.phase.value
        self._draw()

    def receipt(self, receipt: Receipt) -> None:
        ok = receipt.report.outcome is RunOutcome.OK
        self._runs += 1
        self._failed += not ok
        self._lease, self._progress, self._state = None, None, "asking for a job"
        style = _STYLES.get(receipt.report.outcome, "red")
        self._print(Text.assemble((f"{receipt.metric:<{INDENT}}", style), " ", clean(receipt.title)))
        for detail in (f"parent {receipt.parent}", receipt.place, receipt.report.reason):
            if detail:
                self._print(Padding(_line(detail, "dim"), (0, 0, 0, INDENT + 1)))
        self._draw()

    def wait(self, reason: str, seconds: float) -> None:
        self._lease = None
        self._state = f"{reason} Asking again in {seconds:.0f} s."
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
        about, lease = self._about, self._lease
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        grid.add_row("worker", _line(f"{about.worker} · {about.device} · {about.sandbox} · {about.agent}"))
        grid.add_row("swarm", _line(about.coordinator + (f" · {lease.project}" if lease else "")))
        if lease is not None:
            grid.add_row("job", _line(f"{lease.kind.value} {lease.base.sha[:10]} on {lease.branch}", "bold"))
            grid.add_row("why", _line(lease.why))
            grid.add_row("trying", _line(self._trying or "…"))
        grid.add_row("now", self._now())
        if self._losses:
            grid.add_row("loss", _line(self._curve()))
        grid.add_row("so far", _line(self._totals()))
        return Group("", grid, Text(self._hint, style="dim"))

    def _now(self) -> RenderableType:
        progress = self._progress
        if progress is None or progress.phase is not Phase.TRAINING:
            return _line(self._state)
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

    def _curve(self) -> str:
        """The losses as a line, then what they cost."""
        speed = self._progress.tokens_per_second if self._progress else 0.0
        parts = [sparkline(self._losses, SPARKLINE_WIDTH), f"{self._losses[-1]:.3f}"]
        return " · ".join([*parts, f"{speed:,.0f} tokens/s"] if speed else parts)

    def _totals(self) -> str:
        outbox = f"{self._waiting} in the outbox" if self._waiting else "outbox empty"
        return f"{self._runs} run{'' if self._runs == 1 else 's'}, {self._failed} failed · {outbox}"


def _line(text: str, style: str = "") -> Text:
    return Text(clean(text), style=style)
