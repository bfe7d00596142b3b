"""How much does stopping hopeless runs save, and how often is it wrong? Real runs, taken to their end.

python -m tests.bench.bench_early_stop                     prints a table
python -m tests.bench.bench_early_stop --runs 20 --keep runs.jsonl --append docs/benchmarks.md

The search agent's first steps from seed/gpt-cpu are measured without any stop, with one core. Afterwards the rule
(worker/runs/early_stop.py) looks at their curves, once for each delay. `wrong` are those it would have stopped
although they came out better than the seed. `--keep` takes runs from a file, and adds to it what is missing.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event

from coordinator.evidence.run_stats import thin
from shared.contract import Contract, parse_contract
from shared.leases import BaseCommit
from shared.runs import CurvePoint, RunReport
from tests.bench.report import append_table, format_table
from worker.agents.base import Task
from worker.agents.search import SearchAgent
from worker.machine.hardware import detect_machine
from worker.runs import early_stop
from worker.runs.runner import LocalRunner, RunRequest
from worker.sandbox.choose import choose_sandbox

SEED = Path(__file__).parents[2] / "seed"
DELAYS = (1.0, 1.25, 1.5, 2.0)
HEADINGS = (
    "delay", "runs", "stopped", "wrong", "effects of those stopped", "at, % of the budget", "training time saved, %",
)  # fmt: skip


def read_seed() -> dict[str, str]:
    """The work tree of a project made from seed/gpt-cpu."""
    files = {path.name: path.read_text() for path in (SEED / "gpt-cpu").iterdir() if path.is_file()}
    return files | {f"harness/{path.name}": path.read_text() for path in (SEED / "harness").glob("*.py")}


def measure(folder: Path, numbers: range) -> Iterator[RunReport]:
    """Run number 0 is the seed's; the others are the search agent's steps from it."""
    files = read_seed()
    contract = parse_contract(files["swarm.toml"])
    runner = LocalRunner(
        "cpu", detect_machine("cpu", 1).hardware, choose_sandbox("auto"), folder / "cache", folder / "runs"
    )
    for number in numbers:
        changed = {} if number == 0 else draft(contract, files["train.py"], number)
        request = RunRequest(contract, "0" * 40, {**files, **changed}, seed=number)
        yield runner.measure(request, lambda _: None, print, Event())


def draft(contract: Contract, source: str, seed: int) -> dict[str, str]:
    """The search agent's first step from the seed."""
    base = BaseCommit(sha="0" * 40, files={"train.py": source}, posterior=None)
    proposed = SearchAgent().propose(Task(contract, base, "", "", (), seed))
    print(proposed.proposal.title, flush=True)
    return dict(proposed.files)


def judge(parent: RunReport, runs: list[RunReport], delay: float) -> tuple[str, ...]:
    """A row of the table."""
    early_stop.DELAY = delay
    curve = thin([[point.step, point.seconds, point.loss] for point in parent.curve])
    budget = parse_contract(read_seed()["swarm.toml"]).budget.training_seconds
    stopped = []
    for run in runs:
        outlook = early_stop.EarlyStop(curve, budget)
        for point in run.curve:
            outlook.add(CurvePoint(step=point.step, seconds=point.seconds, loss=point.loss))
        if outlook.hopeless_at is not None and run.metric is not None and parent.metric is not None:
            stopped.append((run.metric - parent.metric, outlook.hopeless_at))
    saved = sum(1 - share for _, share in stopped) / len(runs)
    return (
        f"{delay:g}", str(len(runs)), str(len(stopped)), str(sum(effect < 0 for effect, _ in stopped)),
        ", ".join(f"{effect:+.3f}" for effect, _ in stopped) or "–",
        ", ".join(f"{100 * share:.0f}" for _, share in stopped) or "–", f"{100 * saved:.1f}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--append", type=Path)
    given = parser.parse_args()
    kept = given.keep.read_text().splitlines() if given.keep and given.keep.exists() else []
    reports = [RunReport.model_validate_json(line) for line in kept]
    with tempfile.TemporaryDirectory() as folder:
        for report in measure(Path(folder), range(len(reports), given.runs + 1)):
            reports.append(report)
            if given.keep:
                with given.keep.open("a") as file:
                    file.write(report.model_dump_json() + "\n")
    rows = [judge(reports[0], [run for run in reports[1:] if run.metric is not None], delay) for delay in DELAYS]
    print(format_table(HEADINGS, rows))
    if given.append:
        append_table(given.append, "tests.bench.bench_early_stop", HEADINGS, rows)


if __name__ == "__main__":
    main()
