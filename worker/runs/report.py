"""Files of a finished run (`result.json`, a `key: value` summary, the log), its loss curve, and its deepest frame."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.contract import Contract
from shared.formatting import format_decimals
from shared.runs import MAX_CURVE_POINTS, CurvePoint, RunReport


def write_report(report: RunReport, contract: Contract, folder: Path) -> None:
    """Write `result.json`, `summary.txt` and `log.txt` into the run's folder, without the metric of sealed data."""
    folder.mkdir(parents=True, exist_ok=True)
    result = report.model_dump_json(indent=2, exclude={"holdout_metric"})
    (folder / "result.json").write_text(result + "\n", encoding="utf-8")
    (folder / "summary.txt").write_text(summarize(report, contract), encoding="utf-8")
    (folder / "log.txt").write_text(report.log_tail + "\n", encoding="utf-8")


def summarize(report: RunReport, contract: Contract) -> str:
    """The summary, one `key: value` a line; the metric stands first, under its own name."""
    metric = "none" if report.metric is None else format_decimals(report.metric)
    rows = [
        (contract.objective.metric, metric), ("outcome", report.outcome.value), ("reason", report.reason),
        ("frame", report.frame), ("starting_seconds", f"{report.seconds.starting:.1f}"),
        ("before_start", _seconds(report.seconds.before_start)), ("training_seconds", f"{report.seconds.training:.1f}"),
        ("budget_seconds", _seconds(report.seconds.budget)), ("scoring_seconds", f"{report.seconds.scoring:.1f}"),
        ("total_seconds", f"{report.seconds.total:.1f}"), ("peak_memory_mib", str(report.peak_memory_mib)),
        ("num_steps", str(report.steps)), ("num_tokens", str(report.tokens)),
        ("num_parameters", str(report.parameters)), ("scored_bytes", str(report.scored_bytes)),
        ("seed", str(report.seed)), ("sandbox", report.sandbox),
        ("limits", ", ".join(limit.replace("_", " ") for limit in report.limits)),
    ]  # fmt: skip
    return "".join(f"{key + ':':18}{value}\n" for key, value in rows if value)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


class LossCurve:
    """Keeps every n-th point; n doubles when there are too many, so that memory stays bounded."""

    def __init__(self) -> None:
        self._points: list[CurvePoint] = []
        self._every = 1
        self._seen = 0
        self.last: CurvePoint | None = None

    def add(self, point: CurvePoint) -> None:
        if self._seen % self._every == 0:
            self._points.append(point)
        self._seen += 1
        self.last = point
        if len(self._points) >= 2 * MAX_CURVE_POINTS:
            self._points = self._points[::2]
            self._every *= 2

    def thinned(self) -> list[CurvePoint]:
        """At most MAX_CURVE_POINTS points, evenly spaced, the last one always among them."""
        step = max(1, math.ceil(len(self._points) / (MAX_CURVE_POINTS - 1)))  # leaves room for the last point
        points = self._points[::step]
        if self.last is not None and points[-1] is not self.last:
            points.append(self.last)
        return points


_BEGINS = re.compile(r"\(most recent call first\):$")
_FRAME = re.compile(r'\s+File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>.+)$')


def find_frame(log: str, files: Mapping[str, str], editable: Sequence[str]) -> str:
    """The deepest frame of an edited file in the last stack of a log, as `train.py:12 in forward: x = self.w @ x`.

    Empty if there is none. The log is untrusted, so the frame is shown and decides nothing.
    """
    lines = log.splitlines()
    begins = [number for number, line in enumerate(lines) if _BEGINS.search(line)]
    for line in lines[begins[-1] + 1 :] if begins else []:
        frame = _FRAME.match(line)
        if frame is None:
            break
        for path in editable:
            if frame["file"].endswith(f"/{path}"):
                number = int(frame["line"])
                code = files.get(path, "").splitlines()
                text = code[number - 1].strip() if number <= len(code) else ""
                return f"{path}:{number} in {frame['name']}: {text}"
    return ""
