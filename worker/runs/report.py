"""What a run leaves behind: `result.json`, and the familiar `key: value` summary for people."""

from pathlib import Path

from shared.contract import Contract
from shared.runs import RunReport


def write_report(report: RunReport, contract: Contract, folder: Path) -> None:
    """Write `result.json`, `summary.txt` and `log.txt` into the run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / "summary.txt").write_text(summarize(report, contract), encoding="utf-8")
    (folder / "log.txt").write_text(report.log_tail + "\n", encoding="utf-8")


def summarize(report: RunReport, contract: Contract) -> str:
    """The summary, one `key: value` a line; the metric stands first, under its own name."""
    metric = "none" if report.metric is None else f"{report.metric:.6f}"
    rows = [
        (contract.objective.metric, metric),
        ("outcome", report.outcome.value),
        ("reason", report.reason),
        ("frame", report.frame),
        ("starting_seconds", f"{report.seconds.starting:.1f}"),
        ("training_seconds", f"{report.seconds.training:.1f}"),
        ("scoring_seconds", f"{report.seconds.scoring:.1f}"),
        ("total_seconds", f"{report.seconds.total:.1f}"),
        ("peak_memory_mib", str(report.peak_memory_mib)),
        ("num_steps", str(report.steps)),
        ("num_tokens", str(report.tokens)),
        ("num_parameters", str(report.parameters)),
        ("scored_bytes", str(report.scored_bytes)),
        ("seed", str(report.seed)),
        ("sandbox", report.sandbox),
    ]
    return "".join(f"{key + ':':18}{value}\n" for key, value in rows if value)
