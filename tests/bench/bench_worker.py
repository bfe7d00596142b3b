"""Does the device wait for ideas? A worker's wall time over the sum of its run times.

python -m tests.bench.bench_worker                 prints a table
python -m tests.bench.bench_worker --runs 20 --share 0.6 --append docs/benchmarks.md
python -m tests.bench.bench_worker --slow-model 30 --run-seconds 20    how long it waits for a slow model
python -m tests.bench.bench_worker --outside 8 --against 46910ec    where the seconds go that are no training

A coordinator's process, a worker's process, and real sandboxed runs of seed/codec, slowed down to a few seconds. The
agent is the scripted one; it thinks for that share of a run's time before each experiment, as one that reasons would.
First the worker measures the seed, which says how long a run takes. Then it is started anew, for experiments alone: its
wall time begins with its process and ends with the end of its last run, its first draft included.

--outside runs seed/gpt-cpu that often instead, after two runs that do not count (while the first is measured, no job
is drafted), with the worker and the seed of this checkout, and by turns with those of another commit. A run's seconds
outside its budget are those from the end of the run before to its own end, without its training. The warm-up is a part
of the start, in CPU seconds; packing, from the last step that was logged to the end of the training, belongs to the
budget.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median, stdev

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from shared.runs import RunView
from swarm import Client
from tests.bench.report import append_table, format_table
from tests.support.coordinator_process import Coordinator
from tests.support.tiny_project import PACKAGE, pack_text, serve_folder, write_codec_seed
from tests.support.tokens import create_token

RUNS, SHARE, RUN_SECONDS = 20, 0.6, 6.0
SLOWLY = """
import time

_compress = compress


def compress(text):
    time.sleep({seconds})
    return _compress(text)
"""
HEADINGS = (
    "runs", "a run, s", "a draft, s", "wall time, s", "sum of run times, s", "wall / sum",
    "between two runs, ms: median", "most",
)  # fmt: skip

OURS = Path(__file__).parents[2]
PROJECTS = {"codec": "codec.py", "gpt-cpu": "train.py"}
"""The measured projects, each with its edited file."""

TURNS = 2
PHASES = ("between runs", "start", "warm-up (CPU)", "scoring", "packing", "outside")
WORK = "import sys; from worker.cli import main; sys.exit(main())"
"""Starts a worker with the code of the folder that it runs in."""


@dataclass(frozen=True)
class Measured:
    """Seconds. `gaps` are between the end of a run and the start of the next."""

    runs: list[float]
    draft: float
    wall: float
    gaps: list[float]

    def describe(self) -> tuple[str, ...]:
        total = sum(self.runs)
        return (
            str(len(self.runs)), f"{mean(self.runs):.2f}", f"{self.draft:.2f}", f"{self.wall:.1f}", f"{total:.1f}",
            f"{self.wall / total:.3f}", f"{1000 * median(self.gaps):.0f}", f"{1000 * max(self.gaps):.0f}",
        )  # fmt: skip


class Bench:
    """A coordinator with one project, and a folder for one worker, which runs the code in `code`."""

    def __init__(self, url: str, token: str, folder: Path, project: str = "codec", code: Path = OURS) -> None:
        self.url, self._folder, self._project, self._code = url, folder, project, code
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SWARM_")}
        self.environment = {**kept, "SWARM_TOKEN": token, "XDG_CONFIG_HOME": str(folder / "config")}

    def work(self, jobs: int, script: Path, cores: int = 1) -> float:
        """Let a worker carry out so many jobs; when its process was started, in seconds since the epoch."""
        began = time.time()
        subprocess.run(
            [
                sys.executable, "-c", WORK, "--device", "cpu", "--cores", str(cores), "--plain",
                "--coordinator", self.url, "--data-dir", str(self._folder / "workers"), "--max-jobs", str(jobs),
                "--script", str(script),
            ],
            env=self.environment, check=True, stdout=subprocess.DEVNULL, cwd=self._code,
        )  # fmt: skip
        return began

    def list_runs(self) -> list[RunView]:
        """Oldest first."""
        with Client(self.url) as client:
            return client.list_runs(self._project, limit=200)[::-1]

    def write_script(self, code: str, steps: int, thinking_seconds: float) -> Path:
        """That many experiments that differ in a constant."""
        path = self._folder / "script.json"
        words = {"hypothesis": "The device does not wait.", "axis": "X", "insists": "Each of these runs is wanted."}
        timing, name = {"thinking_seconds": thinking_seconds}, PROJECTS[self._project]
        rows = [{"title": f"X {x}", "files": {name: f"{code}\nX = {x}\n"}} | words | timing for x in range(steps)]
        path.write_text(json.dumps({"steps": rows}))
        return path


@contextmanager
def open_bench(folder: Path, run_seconds: float) -> Iterator[tuple[Bench, str]]:
    """The bench, and the text of the edited file."""
    (folder / "web").mkdir()
    (folder / "web" / PACKAGE).write_bytes(pack_text())
    with serve_folder(folder / "web") as address:
        seed = write_codec_seed(folder / "seed", address, pack_text(), SLOWLY.format(seconds=run_seconds))
        with serve_project(folder, seed) as bench:
            yield bench, (seed / "codec.py").read_text()


@contextmanager
def serve_project(folder: Path, seed: Path, project: str = "codec", code: Path = OURS) -> Iterator[Bench]:
    database = Database(f"sqlite:///{folder}/coordinator.db")
    database.migrate()
    with database.write() as session:
        create_project(session, seed)
        token = create_token(session, "ada", "bench")
    database.close()
    coordinator = Coordinator(f"sqlite:///{folder}/coordinator.db", folder)
    try:
        host, port = coordinator.address
        yield Bench(f"http://{host}:{port}", token, folder, project, code)
    finally:
        coordinator.kill()


@contextmanager
def check_out(commit: str) -> Iterator[Path]:
    """The code of a commit, in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        packed = subprocess.run(["git", "archive", commit], cwd=OURS, check=True, capture_output=True).stdout
        subprocess.run(["tar", "--extract", "--directory", name], input=packed, check=True)
        yield Path(name)


def measure_outside(code: Path, runs: int, cores: int, seconds: float | None) -> list[tuple[float, ...]]:
    """The seconds of each of PHASES, for so many runs of gpt-cpu after two others. `seconds` is another budget."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        seed = Path(shutil.copytree(code / "seed", folder / "seeds")) / "gpt-cpu"
        if seconds is not None:
            contract = re.sub(
                r"(?m)^training_seconds = 40$", f"training_seconds = {seconds}", (seed / "swarm.toml").read_text()
            )
            (seed / "swarm.toml").write_text(contract)
        bench = stack.enter_context(serve_project(folder, seed, "gpt-cpu", code))
        script = bench.write_script((seed / "train.py").read_text(), runs + 1, 0.0)
        bench.work(runs + 2, script, cores)
        done = bench.list_runs()
    assert len(done) == runs + 2 and all(run.outcome == "ok" for run in done), [run.reason for run in done]
    return [split_outside(before, run) for before, run in pairwise(done[1:])]


def split_outside(before: RunView, run: RunView) -> tuple[float, ...]:
    """The seconds of each of PHASES, of a run after another one."""
    seconds = run.seconds
    assert seconds is not None and before.finished_at is not None and run.started_at is not None
    between = (run.started_at - before.finished_at).total_seconds()
    packing = seconds.on_budget - run.curve[-1].seconds
    outside = between + seconds.starting + seconds.scoring
    return between, seconds.starting, seconds.before_start or 0.0, seconds.scoring, packing, outside


def compare_outside(runs: int, cores: int, against: str | None, seconds: float | None) -> list[tuple[str, ...]]:
    """A row for this code, and one for another commit's, measured by turns."""
    with ExitStack() as stack:
        codes = {"ours": OURS} | ({against: stack.enter_context(check_out(against))} if against else {})
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in codes}
        for name in [*codes] * TURNS:
            found[name] += measure_outside(codes[name], max(1, runs // TURNS), cores, seconds)
    return [
        (name, str(len(rows)), *(f"{mean(phase):.2f} ± {stdev(phase):.2f}" for phase in zip(*rows, strict=True)))
        for name, rows in found.items()
    ]


def measure(runs: int, share: float, run_seconds: float) -> Measured:
    """The worker's time for `runs` experiments whose drafts take `share` of a run each."""
    with tempfile.TemporaryDirectory() as name, open_bench(Path(name), run_seconds) as (bench, code):
        bench.work(1, bench.write_script(code, 1, 0.0))
        (seed,) = bench.list_runs()
        draft = share * seed.seconds.total
        began = bench.work(runs, bench.write_script(code, runs, draft))
        done = bench.list_runs()[1:]
    assert len(done) == runs and all(run.outcome == "ok" for run in done), [run.reason for run in done]
    return Measured(
        runs=[run.seconds.total for run in done],
        draft=draft,
        wall=done[-1].finished_at.timestamp() - began,
        gaps=[(after.started_at - before.finished_at).total_seconds() for before, after in pairwise(done)],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--share", type=float, default=SHARE, help="of a run's time that a draft takes")
    parser.add_argument("--run-seconds", type=float, default=RUN_SECONDS, help="by which each run is slowed down")
    parser.add_argument("--outside", type=int, metavar="RUNS", help="seconds outside the budget of gpt-cpu, by phase")
    parser.add_argument("--cores", type=int, default=2, help="for --outside")
    parser.add_argument("--seconds", type=float, help="of CPU time as the budget, for a quick trial of --outside")
    parser.add_argument("--against", metavar="COMMIT", help="measured by turns with this code, for --outside")
    parser.add_argument("--slow-model", type=float, metavar="SECONDS", help="of each answer of a model on loopback")
    parser.add_argument("--append", type=Path)
    given = parser.parse_args()
    headings, rows = HEADINGS, []
    if given.slow_model is not None:
        from tests.bench import bench_slow_model  # noqa: PLC0415 - it imports this module

        headings = bench_slow_model.HEADINGS
        rows = [bench_slow_model.measure_slow(given.runs, given.slow_model, given.run_seconds)]
    elif given.outside:
        headings = ("code", "runs", *(f"{phase}, s" for phase in PHASES))
        rows = compare_outside(given.outside, given.cores, given.against, given.seconds)
    else:
        rows = [measure(given.runs, given.share, given.run_seconds).describe()]
    print(format_table(headings, rows))
    if given.append:
        append_table(given.append, "tests.bench.bench_worker", headings, rows)


if __name__ == "__main__":
    main()
