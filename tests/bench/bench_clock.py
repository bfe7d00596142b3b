"""How much do results of one commit and seed differ by the budget's clock, on a quiet machine and on a busy one?

python -m tests.bench.bench_clock                      prints a table for gpt-cpu
python -m tests.bench.bench_clock --runs 8 --share 0.25 --append docs/benchmarks.md

Each run is measured as a job would be, with the same seed: by wall time (half of the contract's CPU seconds, which two
cores give in as long), then by CPU time, alone and beside two programs that never rest. --share shortens the budgets.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from shared.contract import Budget, BudgetClock
from shared.runs import RunReport
from tests.bench.report import append_table, format_table
from worker.authoring.local_run import TreeRunner, WorkTree, open_runner, read_tree
from worker.authoring.view import View
from worker.commands.options import WorkerCommandError
from worker.settings import load_settings

BUSY_LOOPS = 2
CORES = 2
HEADINGS = (
    "clock", "busy loops", "runs", "val_bpb, mean", "sd", "lowest", "highest", "steps, mean", "sd of steps",
    "training, wall s",
)  # fmt: skip


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def with_clock(tree: WorkTree, clock: BudgetClock, share: float) -> WorkTree:
    """The tree with that clock and that share of its budget."""
    own = tree.contract.budget
    cpu_seconds = own.training_seconds * share
    budget = Budget(
        clock=clock,
        training_seconds=cpu_seconds if clock is BudgetClock.CPU else cpu_seconds / CORES,
        wall_seconds=3600 if clock is BudgetClock.CPU else None,
        handover_seconds=own.handover_seconds if clock is BudgetClock.CPU else 10,  # a busy machine shall not end a run
        starting_seconds=10 * own.starting_seconds,
        scoring_seconds=10 * own.scoring_seconds,
    )
    return replace(tree, contract=tree.contract.model_copy(update={"budget": budget}))


def measure(runner: TreeRunner, tree: WorkTree, runs: int) -> list[RunReport]:
    reports = [runner.measure(tree, seed=1) for _ in range(runs)]
    for report in reports:
        if report.metric is None:
            raise WorkerCommandError(f"a run ended as {report.outcome.value}: {report.reason}")
    return reports


def describe(clock: BudgetClock, loops: int, reports: list[RunReport]) -> tuple[str, ...]:
    """A row of the table."""
    metrics = [report.metric for report in reports if report.metric is not None]
    steps = [float(report.steps) for report in reports]
    return (
        clock.value, str(loops), str(len(reports)), f"{statistics.fmean(metrics):.4f}",
        f"{statistics.stdev(metrics):.4f}", f"{min(metrics):.4f}", f"{max(metrics):.4f}",
        f"{statistics.fmean(steps):.0f}", f"{statistics.stdev(steps):.1f}",
        f"{statistics.fmean(report.seconds.training for report in reports):.1f}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--append", type=Path)
    given = parser.parse_args()
    tree, rows = read_tree("gpt-cpu"), []
    with tempfile.TemporaryDirectory() as name:
        try:
            settings = load_settings({"device": "cpu", "cores": CORES, "data_dir": Path(name)})
            with open_runner(settings, View(as_json=False)) as runner:
                for clock in BudgetClock:
                    for loops in (0, BUSY_LOOPS):
                        with busy_loops(loops):
                            reports = measure(runner, with_clock(tree, clock, given.share), given.runs)
                        rows.append(describe(clock, loops, reports))
        except WorkerCommandError as error:
            sys.exit(str(error))
    print(format_table(HEADINGS, rows))
    if given.append:
        append_table(given.append, "tests.bench.bench_clock", HEADINGS, rows)


if __name__ == "__main__":
    main()
