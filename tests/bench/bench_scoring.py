"""The most that looking ahead wins, and the time that scoring takes.

python -m tests.bench.bench_scoring --bounds           prints the bounds, and the CPU time of scoring gpt-cpu
python -m tests.bench.bench_scoring                    also times whole runs of gpt-cpu
python -m tests.bench.bench_scoring --cores 2 --runs 5
python -m tests.bench.bench_scoring --scatter --device cuda:0    prints how far an honest model's answers differ there

The bounds are those of docs/metric.md: the most that a file gains in bits per byte on average, counting runs that are
found out as no gain, by the number and kind of the places at which it looks ahead. `gpt` is taken at the size that its
contract states, since its data is not at hand: about 2 million tokens of 8,388,608 bytes.

`before` asks every window twice, as the check did that was replaced; `after` is the contract's own `prefix_share`.
"""

import argparse
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil, comb, exp, lgamma, log, pi
from pathlib import Path
from statistics import mean
from threading import Event
from time import process_time
from types import ModuleType

import numpy

from shared.contract import Contract
from tests.bench.bench_train import choose_trees, write_shards
from tests.bench.report import format_table
from tests.support.tiny_project import serve_folder
from worker.authoring.local_run import TreeRunner, WorkTree, open_runner, read_tree
from worker.authoring.view import View
from worker.commands.options import WorkerCommandError
from worker.runs.runner import RunRequest
from worker.runs.validate import pack
from worker.settings import load_settings

SEEDS = Path(__file__).parents[2] / "seed"
sys.path.insert(0, str(SEEDS))
from harness.answers import NumpyAnswers  # noqa: E402
from harness.causality import DONORS, MAX_RMS, MAX_Z  # noqa: E402 - the harness is no package of ours
from harness.scorer import Asked, choose_windows, compare  # noqa: E402
from harness.windows import size_memories  # noqa: E402

GPT_TOKENS = 2_000_000
POOL_TIMES = {"gpt": 24.0, "gpt-cpu": 16.5}
"""How many times what a run scores is in the pool that windows are drawn from: as the contracts say."""

NEEDED = {"gpt": 0.9979, "gpt-cpu": 1.97}
"""Bits per byte of the untouched seed: as published for an H100, and as measured in gpt-cpu's contract."""

TEXT_BYTES = 100_000

WANTED = {"gpt": 0.1, "gpt-cpu": 0.25}
"""The most that sampling may let a file win, in units of `min_effect`."""


@dataclass(frozen=True)
class Size:
    """Scored text: `windows` of `length` targets, `scored_bytes` of text, `rows` a batch."""

    windows: int
    length: int
    vocab_size: int
    scored_bytes: int
    share: float
    rows: int

    @property
    def donors(self) -> int:
        return max(1, min(DONORS, self.windows // 8))

    @property
    def cuts(self) -> int:
        """Of each window that is no donor."""
        return min(self.length, max(1, round(self.share * self.length)))

    @property
    def all_cuts(self) -> int:
        return self.cuts * (self.windows - self.donors)

    def bits_per_byte(self, nats_per_token: float) -> float:
        return nats_per_token * self.windows * self.length / log(2) / self.scored_bytes


def gain(size: Size, windows: int, places: int) -> float:
    """The most that a file gains if it is not found out, nats per token: it looks at `places` in each of `windows`."""
    inside, among = places / size.length, windows / size.windows
    scattered = log(1 / (inside * among))
    clustered = log(1 / inside) + (log(1 / among) + 1) / places
    return inside * among * (log(size.vocab_size) + 2 + min(scattered, clustered))


def chance(size: Size, windows: int, places: int) -> float:
    """The probability that no cut is at one of `places` in any of `windows`."""
    if places > size.length - size.cuts:
        missed = 0.0
    else:
        missed = exp(_log_comb(size.length - places, size.cuts) - _log_comb(size.length, size.cuts))
    total = comb(size.windows, windows)
    return sum(
        comb(size.donors, spared) * comb(size.windows - size.donors, windows - spared) / total
        * missed ** (windows - spared)
        for spared in range(min(size.donors, windows) + 1)
        if windows - spared <= size.windows - size.donors
    )  # fmt: skip


def _log_comb(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def find_best(size: Size) -> tuple[float, int, int]:
    """The most that a file gains on average in nats per token, and the windows and places at which it looks."""
    candidates = [
        (gain(size, windows, places) * chance(size, windows, places), windows, places)
        for windows in _grid(size.windows)
        for places in _grid(size.length)
    ]
    return max(candidates)


def _grid(most: int) -> list[int]:
    """Numbers from 1 to `most`, each about a tenth more than the one before."""
    found = [1]
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 1, ceil(found[-1] * 1.1))))
    return found


def tabulate_bounds(sizes: dict[str, Size], contracts: dict[str, Contract]) -> str:
    rows = []
    for name, size in sizes.items():
        rare, windows, places = find_best(size)
        win = size.bits_per_byte(rare)
        effect = contracts[name].objective.min_effect
        rows.append(
            (
                name, f"{size.windows:,}", f"{size.length:,}", f"{size.all_cuts:,}", f"{windows:,} · {places:,}",
                f"{size.bits_per_byte(gain(size, windows, places)):.6f}", f"{chance(size, windows, places):.2f}",
                f"{win:.6f}", f"{win / effect:.3f}",
                f"{WANTED[name]:g}", f"{WANTED[name] * effect * size.scored_bytes:,.0f}",
            )
        )  # fmt: skip
    headings = (
        "seed", "windows", "length", "cuts", "windows · places looked at", "gain if missed", "missed", "on average",
        "of min_effect", "wanted", "bits of a leak for as much",
    )  # fmt: skip
    return format_table(headings, rows)


def tabulate_scatter_at_limit(sizes: dict[str, Size], contracts: dict[str, Contract]) -> str:
    """The charge for differences of the largest tolerated scatter that are zero on average."""
    rows = []
    for name, size in sizes.items():
        error = MAX_RMS / size.all_cuts**0.5
        bias = size.bits_per_byte(error / (2 * pi) ** 0.5)
        effect = contracts[name].objective.min_effect
        rows.append((name, f"{MAX_Z * error:.6f}", f"{bias:.7f}", f"{bias / effect:.3f}"))
    return format_table(("seed", "6 standard errors, nats", "charge on average, bits per byte", "of min_effect"), rows)


def read_downloaded_text(folder: Path, tree: WorkTree) -> bytes:
    """The verses of gpt-cpu's text from where the worker keeps what it fetched."""
    source = tree.contract.data.sources[0].file
    with tarfile.open(next(folder.rglob(f"*{source}"))) as archive:
        member = archive.extractfile(str(tree.contract.data.settings["member"]))
        assert member is not None
        return "\n".join(json.loads(line)["text"] for line in member).encode()


def tabulate_shipped_text(sizes: dict[str, Size], trees: dict[str, WorkTree], text: bytes) -> str:
    """Text of the pool in an edited file: the most that it wins, and what it wins as LZMA packs it.

    A packed bit saves at most one bit of all that the pool costs. Text that is packed as the size is measured saves
    NEEDED bits a byte. `text` is of gpt-cpu; that of gpt is not at hand.
    """
    packed = 8 * pack(text[:TEXT_BYTES]) / TEXT_BYTES
    rows = []
    for name, size in sizes.items():
        limits, effect = trees[name].contract.files, trees[name].contract.objective.min_effect
        taken = pack(b"".join(trees[name].files[path].encode() for path in limits.editable))
        left = (limits.max_text_bytes or 0) - taken
        most = 8 * left / (POOL_TIMES[name] * size.scored_bytes)
        real = most / packed * NEEDED[name]
        rows.append(
            (name, f"{limits.max_text_bytes:,}", f"{taken:,}", f"{most:.5f}", f"{most / effect:.2f}",
             f"{packed:.2f}", f"{real:.5f}", f"{real / effect:.2f}")
        )  # fmt: skip
    headings = (
        "seed", "packed bytes allowed", "of the seed", "at most", "of min_effect", "packed bits a byte of text",
        "text so packed", "of min_effect",
    )  # fmt: skip
    return format_table(headings, rows)


def measure_size(tree: WorkTree, runner: TreeRunner) -> Size:
    """The size of a project from its prepared data."""
    request = RunRequest(tree.contract, tree.sha, tree.files, 0)
    prepared = runner.device_runner.prepare(request, lambda _: None, Event())
    data = numpy.load(prepared.validation)
    windows, _ = choose_windows(data, "0", int(tree.contract.data.settings["scored_bytes"]), sealed=False)
    return Size(
        windows=len(windows),
        length=windows.shape[1] - 1,
        vocab_size=len(data["byte_lengths"]),
        scored_bytes=int(data["byte_lengths"][windows[:, 1:]].sum()),
        share=float(tree.contract.data.settings["prefix_share"]),
        rows=int(prepared.needs.facts["rows"]),
    )


def state_size(tree: WorkTree) -> Size:
    settings = tree.contract.data.settings
    length, windows = int(settings["sequence_length"]), GPT_TOKENS // int(settings["sequence_length"])
    return Size(
        windows=windows,
        length=length,
        vocab_size=int(settings["vocab_size"]),
        scored_bytes=int(settings["scored_bytes"]),
        share=float(settings["prefix_share"]),
        rows=size_memories(length, int(settings["vocab_size"]), windows)[0],
    )


def with_share(tree: WorkTree, share: float) -> WorkTree:
    """The project with that share and a short training."""
    contract = tree.contract
    settings = contract.data.settings | {"prefix_share": share}
    changed = contract.model_dump() | {
        "data": contract.data.model_dump() | {"settings": settings},
        "budget": contract.budget.model_dump() | {"training_seconds": 2.0, "scoring_seconds": 600.0},
    }
    return replace(tree, contract=Contract.model_validate(changed))


def time_scoring(tree: WorkTree, size: Size, runner: TreeRunner, runs: int) -> str:
    rows = []
    for name, share in (("before", 1 / size.length), ("after", size.share)):
        scored = replace(size, share=share)
        changed = with_share(tree, share)
        seconds = [runner.measure(changed, seed=seed).seconds.scoring for seed in range(runs)]
        asked = size.windows + scored.all_cuts + size.rows
        rows.append(
            (name, f"{asked:,}", f"{asked * size.length:,}", f"{mean(seconds):.1f}", f"{max(seconds):.1f}", str(runs))
        )
    return format_table(("gpt-cpu", "rows", "tokens", "scoring, s", "longest, s", "runs"), rows)


class LocalHost:
    """An untrained model of the seed in this process, on one thread."""

    def __init__(self, tree: WorkTree, size: Size) -> None:
        import torch  # noqa: PLC0415 - it takes memory and seconds

        torch.set_num_threads(1)
        module = ModuleType("train")
        exec(compile(tree.files["train.py"], "train.py", "exec"), module.__dict__)
        self._model = module.GPT(size.vocab_size, size.length).eval()
        self._torch, self.rows, self._length = torch, size.rows, size.length

    def renew(self) -> None:
        """It has no memory."""

    def ask_each(self, questions: Iterable[Asked]) -> Iterator[NumpyAnswers]:
        for inputs, first, span in questions:
            padded = numpy.zeros((self.rows, self._length), dtype=numpy.int64)
            padded[: len(inputs)] = inputs
            with self._torch.inference_mode():
                logits = self._model(self._torch.from_numpy(padded)).numpy()
            yield NumpyAnswers(numpy.stack([logits[row, at : at + span] for row, at in enumerate(first)]))


def tabulate_cpu_seconds(tree: WorkTree, size: Size) -> str:
    """The CPU time of questions and answers, which other work on the machine changes little."""
    random, host, rows = numpy.random.default_rng(), LocalHost(tree, size), []
    windows = random.integers(size.vocab_size, size=(size.windows, size.length + 1))
    for name, share in (("before", 1 / size.length), ("after", size.share)):
        begun = process_time()
        compare(host, windows, random, share)
        asked = size.windows + replace(size, share=share).all_cuts + size.rows
        rows.append((name, f"{asked:,}", f"{asked * size.length:,}", f"{process_time() - begun:.1f}"))
    return format_table(("gpt-cpu", "rows", "tokens", "CPU time, s"), rows)


FIGURES = {
    "repeats, rms": "numpy.square(comparison.repeated).mean() ** 0.5",
    "cuts, rms": "numpy.square(comparison.charged).mean() ** 0.5",
    "cuts, largest": "abs(comparison.charged).max()",
}
"""Expressions that a changed scorer sends instead of the metric, in nats; each needs a run of its own."""


def tabulate_scatter(trees: dict[str, WorkTree], runner: TreeRunner) -> str:
    rows = []
    for name, tree in trees.items():
        found = []
        for number, expression in enumerate(FIGURES.values()):
            source = tree.files["harness/scorer.py"]
            begun = source.index("    if fault := ")
            ended = source.index("\n\n", begun)
            source = f"{source[:begun]}    return float({expression}){source[ended:]}"
            per_byte = "metric=nats / math.log(2) / (len(windows) * mean_bytes)"
            assert per_byte in source
            source = source.replace(per_byte, "metric=nats")
            report = runner.measure(replace(tree, files=tree.files | {"harness/scorer.py": source}), seed=number)
            found.append(report.reason if report.metric is None else f"{report.metric:.2g}")
        rows.append((name, runner.device_runner.hardware.hardware_class, *found))
    return format_table(("seed", "device", *FIGURES), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bounds", action="store_true")
    parser.add_argument("--scatter", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cores", type=int)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--data-dir", type=Path)
    given = parser.parse_args()
    trees = {name: read_tree(str(SEEDS / name)) for name in WANTED}
    contracts = {name: tree.contract for name, tree in trees.items()}
    on_gpu = given.device != "cpu"
    with tempfile.TemporaryDirectory() as folder, serve_folder(Path(folder)) as address:
        flags = {"device": given.device, "cores": given.cores, "data_dir": given.data_dir or Path(folder, "worker")}
        if given.scatter:
            write_shards(Path(folder), on_gpu)
            flags["data_mirror"] = address
        try:
            with open_runner(load_settings(flags), View(as_json=False)) as runner:
                if given.scatter:
                    print(tabulate_scatter(choose_trees(on_gpu, 5.0), runner))
                    return
                sizes = {"gpt": state_size(trees["gpt"]), "gpt-cpu": measure_size(trees["gpt-cpu"], runner)}
                print(tabulate_bounds(sizes, contracts))
                print()
                print(tabulate_scatter_at_limit(sizes, contracts))
                print()
                print(tabulate_shipped_text(sizes, trees, read_downloaded_text(flags["data_dir"], trees["gpt-cpu"])))
                print()
                print(tabulate_cpu_seconds(trees["gpt-cpu"], sizes["gpt-cpu"]))
                if not given.bounds:
                    print()
                    print(time_scoring(trees["gpt-cpu"], sizes["gpt-cpu"], runner, given.runs))
        except WorkerCommandError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
