"""Does the swarm decide better than a loop? Simulated volunteers on the real coordinator, beside rivals.

python -m tests.bench.bench_search                              one landscape at each size, to see how it works
python -m tests.bench.bench_search --worlds drift --workers 16 --seeds 3     a part of it
python -m tests.bench.bench_search --rivals --worlds all --seeds 20          the rivals alone: minutes, not hours
python -m tests.bench.bench_search --strict --worlds even --seeds 20         the strict rival as in earlier reports
python -m tests.bench.bench_search --tuning --seeds 8           landscapes that are for tuning
python -m tests.bench.bench_search --finished --report docs/search.md        report what the results' files hold

Each trial is a line of the results' files, and one that is there is not run again, so what was stopped goes on, and
several processes may share the work: each takes sizes or worlds of its own. STEADY landscapes were fixed before the
policy was tuned (`landscape.py`), and reported seeds were never used for it (`search_trial.py`).
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.report import format_table
from tests.bench.search_figure import draw_figure
from tests.bench.search_report import CLAIMS, ERRORS, FATES, SPEEDS, TIMES, Results, compare
from tests.bench.search_trial import (
    REPORTED_SEEDS,
    TUNING_SEEDS,
    RivalTrials,
    Trial,
    append_trial,
    read_trials,
    try_rivals,
    try_seed,
    try_strict,
)
from tests.bench.worlds import MIXED, WORLDS, World

SIZES = (1, 16, 64, 256)
DATA = Path(__file__).parents[2] / "docs" / "data"
STRICT = ("world", "workers", "strict, told when runs begin", "strict, told when they have ended")
BEGIN, END = "<!-- printed by bench-search -->", "<!-- end of what bench-search printed -->"


def run_swarms(worlds: Sequence[World], sizes: Sequence[int], seeds: Sequence[int], file: Path | None) -> list[Trial]:
    """The swarm's trials, those that the file has not included."""
    kept = {(one.world, one.workers, one.seed): one for one in read_trials(Trial, file)}
    trials = []
    for world, workers, seed in _list_all(worlds, sizes, seeds):
        trial = kept.get((world.name, workers, seed))
        if trial is None:
            trial = try_seed(seed, workers, world)
            if file:
                append_trial(file, trial)
        reached = "target not reached" if trial.swarm is None else f"target reached after {trial.swarm:.1f}"
        print(f"{world.name}, workers {workers}, seed {seed}: {trial.runs} runs, {reached}", flush=True)
        trials.append(trial)
    return trials


def run_rivals(
    worlds: Sequence[World], sizes: Sequence[int], seeds: Sequence[int], file: Path | None
) -> list[RivalTrials]:
    """The rivals' trials, those that the file has not included."""
    kept = {(one.world, one.workers, one.seed): one for one in read_trials(RivalTrials, file)}
    trials = []
    for world, workers, seed in _list_all(worlds, [size for size in sizes if size > 1], seeds):
        trial = kept.get((world.name, workers, seed))
        if trial is None:
            trial = try_rivals(seed, workers, world)
            if file:
                append_trial(file, trial)
        trials.append(trial)
    return trials


def compare_strict(worlds: Sequence[World], sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Rows of STRICT."""
    for world in worlds:
        for workers in (size for size in sizes if size > 1):
            alone, causal, ahead = zip(*(try_strict(seed, workers, world) for seed in seeds), strict=True)
            yield world.name, str(workers), str(compare(alone, ahead)), str(compare(alone, causal))


def _list_all(worlds: Sequence[World], sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[tuple[World, int, int]]:
    return ((world, workers, seed) for world in worlds for workers in sizes for seed in seeds)


def write_report(results: Results) -> str:
    """All tables and goals, as Markdown."""
    tables = (
        ("Times faster to the target than one thread of keep-if-lower in the same world. In brackets: the swarm's "
         "seeds. *Ahead* and *not told apart* are by the ratio of times on the seeds that both searched.",
         SPEEDS, results.list_speeds()),
        ("Time to the target in runs, the fewest, the median and the most over landscapes; a run takes 1 ± 10 %. "
         "*Asked*: the mean that the goal for so many workers comes to.", TIMES, results.list_times()),
        ("What is reported of the best is too good by, × 10⁻⁴ (the swarm: its records):", ERRORS,
         results.list_errors()),
        ("The swarm's claims:", CLAIMS, results.list_claims()),
        ("All claims that the coordinator ever made in these trials, and how they fared:", FATES,
         results.list_fates()),
    )  # fmt: skip
    texts = [f"{words}\n\n{format_table(headings, list(rows))}" for words, headings, rows in tables]
    return "\n\n".join([*texts, "\n".join(f"- {goal}" for goal in results.list_goals())])


def replace_report(file: Path, text: str) -> None:
    """Put the report between its marks in a Markdown file."""
    before, rest = file.read_text().split(BEGIN)
    _, after = rest.split(END)
    command = shlex.join(["python", "-m", "tests.bench.bench_search", *sys.argv[1:]])
    file.write_text(f"{before}{BEGIN}\n\nPrinted by `{command}`.\n\n{text}\n\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=SIZES, choices=SIZES)
    parser.add_argument("--worlds", nargs="+", default=[MIXED.name], choices=[*WORLDS, "all"])
    parser.add_argument("--seeds", type=int, default=1, help="how many landscapes at each size; 20 are reported")
    parser.add_argument("--tuning", action="store_true", help="use the seeds that are for tuning; nothing is kept")
    parser.add_argument("--rivals", action="store_true", help="run the rivals alone")
    parser.add_argument("--strict", action="store_true", help="compare the strict rival with that of earlier reports")
    parser.add_argument("--keep", action="store_true", help="keep trials in docs/data, and go on from those there")
    parser.add_argument("--finished", action="store_true", help="run nothing, report all that docs/data holds")
    parser.add_argument("--report", type=Path, help="put the report between its marks in this Markdown file")
    parser.add_argument("--figure", type=Path, help="draw the figure to this SVG file")
    given = parser.parse_args()
    keep = (given.keep or given.finished) and not given.tuning
    swarm_file, rival_file = (DATA / "search.jsonl", DATA / "search-rivals.jsonl") if keep else (None, None)
    worlds = list(WORLDS.values()) if "all" in given.worlds else [WORLDS[name] for name in given.worlds]
    seeds = (TUNING_SEEDS if given.tuning else REPORTED_SEEDS)[: given.seeds]
    if given.strict:
        print(format_table(STRICT, list(compare_strict(worlds, given.workers, seeds))))
        return
    if given.finished:
        results = Results(read_trials(Trial, swarm_file), read_trials(RivalTrials, rival_file))
    else:
        rivals = run_rivals(worlds, given.workers, seeds, rival_file)
        results = Results([] if given.rivals else run_swarms(worlds, given.workers, seeds, swarm_file), rivals)
    text = write_report(results)
    print(text)
    if given.report:
        replace_report(given.report, text)
    if given.figure:
        draw_figure(results, given.figure)


if __name__ == "__main__":
    main()
