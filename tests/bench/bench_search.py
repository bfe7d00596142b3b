"""Does the swarm decide better than a loop? Simulated volunteers on the real coordinator, beside three rivals.

python -m tests.bench.bench_search                            one landscape at each size, to see how it works
python -m tests.bench.bench_search --workers 16 --seeds 3     a part of it
python -m tests.bench.bench_search --tuning --seeds 8         landscapes that are for tuning
python -m tests.bench.bench_search --seeds 20 --results docs/data/search.jsonl --figure docs/images/search.svg \\
    --append docs/search.md                                   the reported form; what was stopped goes on

Each trial is a line of the results' file, and one that is there is not run again, so several processes may share the
work: each takes sizes of its own. The landscapes were fixed before the policy was tuned (`landscape.py`), and reported
seeds were never used for it (`search_trial.py`). Intervals are 95 %.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tests.bench.report import append_table, format_table
from tests.bench.search_figure import draw_figure
from tests.bench.search_report import HEADINGS, describe, list_goals
from tests.bench.search_trial import REPORTED_SEEDS, TUNING_SEEDS, Trial, append_trial, read_trials, try_seed

SIZES = (1, 16, 64, 256)


def run_trials(sizes: Sequence[int], seeds: Sequence[int], results: Path | None) -> list[Trial]:
    """The trials of these sizes and seeds, those that the results' file has not included."""
    kept = {(trial.workers, trial.seed): trial for trial in (read_trials(results) if results else [])}
    trials = []
    for workers in sizes:
        for seed in seeds:
            trial = kept.get((workers, seed))
            if trial is None:
                trial = try_seed(seed, workers)
                if results:
                    append_trial(results, trial)
            reached = "target not reached" if trial.swarm is None else f"target reached after {trial.swarm:.1f}"
            print(f"workers {workers}, seed {seed}: {trial.runs} runs, {reached}", flush=True)
            trials.append(trial)
    return trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seeds", type=int, default=1, help="how many landscapes at each size; 20 are reported")
    parser.add_argument("--tuning", action="store_true", help="use the seeds that are for tuning")
    parser.add_argument("--results", type=Path, help="keep each trial in this file, and go on from it")
    parser.add_argument("--finished", action="store_true", help="run nothing, report what the results' file holds")
    parser.add_argument("--append", type=Path, help="add the table to this Markdown file")
    parser.add_argument("--figure", type=Path, help="draw the figure to this SVG file")
    given = parser.parse_args()
    seeds = (TUNING_SEEDS if given.tuning else REPORTED_SEEDS)[: given.seeds]
    if given.finished and given.results is None:
        parser.error("--finished needs --results, the file whose trials are to be reported")
    if given.finished:
        trials = [trial for trial in read_trials(given.results) if trial.seed in seeds]
    else:
        trials = run_trials(given.workers, seeds, given.results)
    rows = [describe(size, [trial for trial in trials if trial.workers == size]) for size in given.workers]
    goals = [str(goal) for goal in list_goals(trials)]
    print(format_table(HEADINGS, rows), *goals, sep="\n")
    if given.append:
        append_table(given.append, "tests.bench.bench_search", HEADINGS, rows)
        with given.append.open("a") as output:
            output.write("\n" + "".join(f"- {goal}\n" for goal in goals))
    if given.figure:
        draw_figure(trials, given.figure)


if __name__ == "__main__":
    main()
