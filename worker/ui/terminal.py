"""The view of a worker at a terminal: a few lines that stay in place, and above them a summary of each finished run.

It is drawn only after an event: a ticking clock would take time from the cores that are being measured.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from threading import RLock

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shared.formatting import MINUS, clean
from shared.leases import Phase
from shared.runs import RunOutcome
from worker.ui import events
from worker.ui.active_jobs import ActiveJobs, JobView
from worker.ui.events import RunSummary, describe_posterior
from worker.ui.plain import STOP_AFTER, STOP_NOW
from worker.ui.status import Totals

INDENT = 16
BARS = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH = 32
HINT = "Ctrl-C: finish this run, report it, stop"
_STYLES = {RunOutcome.OK: "green", RunOutcome.INVALID: "yellow", RunOutcome.STOPPED_EARLY: "yellow"}


def find_terminal(*, no_color: bool) -> Console | None:
    """The terminal to draw on; None if the output is a file, a pipe, or a terminal that cannot move its cursor."""
    console = Console(no_color=True if no_color else None, highlight=False)
    return console if console.is_terminal and not console.is_dumb_terminal and sys.stderr.isatty() else None


class TerminalView:
    """Implements `EventHandler`: draws at a terminal of 80 columns or more. The worker goes on if that is closed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = RLock()
        self._live = Live(console=console, auto_refresh=False)
        self._worker: events.WorkerStarted | None = None
        self._jobs = ActiveJobs()
        self._waits, self._hint, self._outbox, self._trouble = "", HINT, 0, ""
        self._totals = Totals()

    def handle(self, event: events.Event) -> None:
        with self._lock, suppress(OSError):
            self._jobs.apply(event)
            self._handle(event)
            if self._live.is_started:
                self._live.update(self._view(), refresh=True)

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.WorkerStarted():
                self._worker = event
                self._live.start()
            case events.WorkerStopped():
                self._live.update("", refresh=True)
                self._live.stop()
                self._console.print(_line(self._so_far(), "dim"))
            case events.JobClaimed():
                self._waits = ""
            case events.RunFinished(summary):
                self._totals = summary.add_to(self._totals)
                self._print_summary(summary)
            case events.WaitStarted(reason, seconds):
                again = f"Asking again in {seconds:.0f} s." if seconds >= 1 else ""
                self._waits = f"{reason} {again}".strip()
            case events.AgentTrouble(text):
                self._trouble = text
            case events.OutboxChanged(waiting):
                self._outbox = waiting
            case events.StopRequested(now):
                self._hint = STOP_NOW if now else STOP_AFTER
            case events.Notice(text, is_warning):
                self._console.print(_line(text, "yellow" if is_warning else "dim"))

    def _print_summary(self, summary: RunSummary) -> None:
        style = _STYLES.get(summary.report.outcome, "red")
        self._console.print(Text.assemble((f"{summary.metric:<{INDENT}}", style), " ", clean(summary.title)))
        for detail in _list_details(summary, self._worker.agent if self._worker else ""):
            self._console.print(Padding(_line(detail, "dim"), (0, 0, 0, INDENT + 1)))

    def _view(self) -> RenderableType:
        assert self._worker is not None
        worker, job = self._worker, self._jobs.current
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        grid.add_row("worker", _line(f"{worker.worker} · {worker.device}"))
        grid.add_row("", _line(f"{worker.sandbox} · {worker.agent} · {worker.coordinator}"))
        if self._trouble:
            grid.add_row("agent", _line(self._trouble, "yellow"))
        if job is not None:
            grid.add_row("job", _line(f"{job.name} · {job.lease.project}", "bold"))
            grid.add_row("why", _line(job.lease.why))
            by_other = f" · by {job.agent}" if job.agent not in ("", worker.agent) else ""
            grid.add_row("trying", _line((job.trying or "…") + by_other))
            grid.add_row("parent", _line(_describe_parent(job)))
        grid.add_row("now", self._describe_now(job))
        if job is not None and job.losses:
            grid.add_row("loss", _line(_describe_losses(job)))
        for other in self._jobs.others:
            grid.add_row("next" if other.is_next else "before", _line(other.line))
        grid.add_row("so far", _line(self._so_far()))
        return Group("", grid, Text(self._hint, style="dim"))

    def _describe_now(self, job: JobView | None) -> RenderableType:
        if job is None or job.phase is not Phase.TRAINING:
            return _line(self._waits or (job.phase.value if job else "asking for a job"))
        progress = job.progress
        row = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=1.0, completed=progress.share, width=20)
        speed = f"{progress.tokens_per_second:,.0f} tokens/s" if progress.tokens_per_second else ""
        row.add_row("training", bar, f"{progress.share:4.0%}", f"step {progress.step}", speed)
        return row

    def _so_far(self) -> str:
        parts = [self._totals.describe()]
        if self._worker is not None and self._worker.totals.runs:
            parts.append(f"{self._worker.totals.runs} runs before")
        parts.append(f"{self._outbox} in the outbox" if self._outbox else "outbox empty")
        return " · ".join(parts)


def _describe_parent(job: JobView) -> str:
    known = describe_posterior(job.lease.base.posterior)
    predicted = job.proposal.predicted_effect if job.proposal is not None else None
    return known if predicted is None else f"{known} · predicted effect {_signed(predicted)}"


def _describe_losses(job: JobView) -> str:
    """The losses as a sparkline, and the last one against the parent's at the same share of the budget."""
    expected, last = job.progress.parent_loss, job.losses[-1]
    parts = [f"{sparkline(job.losses, SPARKLINE_WIDTH)} {last:.3f}"]
    if expected is not None:
        parts.append(f"{_signed(last - expected, 3)} against the parent")
    return " · ".join(parts)


def _list_details(summary: RunSummary, agent: str) -> list[str]:
    """The lines below a run's title; `agent` is the worker's, which is not named again."""
    report, posterior = summary.report, summary.posterior
    lines = [f"proposed by {summary.agent}"] if summary.agent not in ("", agent) else []
    if summary.effect:
        lines.append(f"effect {summary.effect}")
    if summary.lease.kind.makes_experiment:
        lines.append(f"parent {summary.parent}")
    elif posterior is not None:
        lines.append(f"now {describe_posterior(posterior)} · before: {summary.parent}")
    if report.usage is not None:
        lines.append(f"the model answered {report.usage.describe()}")
    if report.reason:
        lines.append(report.reason)
    return [*lines, summary.place]


def sparkline(values: Sequence[float], width: int) -> str:
    """At most `width` bars, each the mean of its share of the values; the smallest bar is the lowest mean."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    span = high - low or 1.0
    return "".join(BARS[round((mean - low) / span * (len(BARS) - 1))] for mean in means)


def _signed(value: float, places: int = 4) -> str:
    return f"{value:+.{places}f}".replace("-", MINUS)


def _line(text: str, style: str = "") -> Text:
    return Text(clean(text), style=style)
