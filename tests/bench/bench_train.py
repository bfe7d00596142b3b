"""How fast do the seeds train, and how much time goes by outside their budgets?

python -m tests.bench.bench_train                      prints a table: of gpt on a GPU, else of gpt-cpu and a small gpt
python -m tests.bench.bench_train --device cuda:0 --append docs/benchmarks.md
python -m tests.bench.bench_train --plans              what gpt makes of the cards that people have: arithmetic, no run
python -m tests.bench.bench_train --toy --against d945455    gpt's files here and of a commit, at a CPU's size

Each seed runs as a job would: first with nothing compiled (`start cold`), then with what the worker keeps compiled for
all runs (`start warm`). All other columns are of the second run, but for two: the metric is over --seeds runs, and the
sandbox's overhead is what tokens/s lose beside as many runs without a sandbox, which take turns with them. The
hand-over is from the last step that was logged until the supervisor has the weights, and belongs to the budget; both
are by the budget's clock, which is CPU time for gpt-cpu. `outside` is the rest of the run's time. gpt learns random
words here, which need no network; --seconds shortens the budgets.

--toy prints what each of the seeds 1 to 3 gave for both, by CPU time: the small run of a file that was made for GPUs
must not get worse when that changes.

MFU is the share of the device's peak that the model's own products take: six operations a token for each weight of a
matrix, and twelve for each channel and place of a window (Chowdhery et al., "PaLM", 2022, appendix B, does the same;
places that the causal mask hides count, too). A GPU's peak is that of its data sheet, dense and in bfloat16; a CPU's is
what one large float32 product reaches on as many cores.
"""

import argparse
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import mean, stdev
from string import ascii_lowercase
from threading import Event
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import pyarrow
import pyarrow.parquet

from shared.contract import Contract
from shared.runs import DeviceKind, Hardware, RunReport
from tests.bench.report import append_table, format_table
from tests.support.shards import SHARDS
from tests.support.tiny_project import serve_folder
from worker.authoring.local_run import TreeRunner, WorkTree, open_runner, read_tree
from worker.authoring.view import View
from worker.commands.options import WorkerCommandError
from worker.machine.hardware import HardwareError, detect_machine
from worker.runs.runner import RunRequest
from worker.sandbox.choose import choose_sandbox
from worker.settings import load_settings

SEEDS = Path(__file__).parents[2] / "seed"
PEAK_TFLOPS = {
    "H200": 989.4, "H100 80GB HBM3": 989.4, "H100 PCIe": 756.5, "A100": 312, "A10": 125, "L4": 121, "L40S": 362,
    "V100": 125, "T4": 65, "RTX 5090": 209.5, "RTX 4090": 165.2, "RTX 4070": 58.3, "RTX 3090": 71, "RTX 3060": 25.5,
    "RTX 2080 Ti": 53.8, "RTX 2060": 25.8,
}  # fmt: skip
"""By the model's name as whole words: operations of matrix units on 16 bits, summed in 32, dense.

Data centres' cards by NVIDIA's data sheets (of which the newer give twice as much, for sparse matrices): H100 and H200
https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet, A100
https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet.pdf, T4
https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/tesla-t4/t4-tensor-core-datasheet-951643.pdf, L4, L40S,
A10 and V100 as gathered in https://github.com/winston-zhang-orz/gpu-specs. GeForce cards by NVIDIA's white papers on
GA102, Ada and Blackwell; those of Turing, the 3060 and the 4070 by the same count: 512 operations a clock and
multiprocessor, at the boost clock.
"""

OTHER_CARD = r"(?! (Ti|SUPER|Laptop|Max-Q|D|NVL)\b)"
"""No word that makes it another card follows the name."""

ASSUMED_MFU = 0.35


class Card(NamedTuple):
    """A GPU's properties, as torch gives them."""

    name: str
    capability: tuple[int, int]
    multi_processor_count: int
    total_memory: float


CARDS = (
    Card("RTX 2060", (7, 5), 30, 6e9), Card("T4", (7, 5), 40, 16e9), Card("RTX 2080 Ti", (7, 5), 68, 11e9),
    Card("V100", (7, 0), 80, 16e9), Card("RTX 3060", (8, 6), 28, 12e9), Card("RTX 3090", (8, 6), 82, 24e9),
    Card("A100", (8, 0), 108, 40e9), Card("RTX 4070", (8, 9), 46, 12e9), Card("RTX 4090", (8, 9), 128, 24e9),
    Card("RTX 5090", (12, 0), 170, 32e9), Card("L4", (8, 9), 58, 24e9), Card("A10", (8, 6), 72, 24e9),
    Card("L40S", (8, 9), 142, 48e9), Card("H100 80GB HBM3", (9, 0), 132, 80e9), Card("H200", (9, 0), 132, 141e9),
)  # fmt: skip
PLAN_HEADINGS = (
    "card", "type", "layers x channels", "parameters, M", "assumed tokens/s", "tokens a step", "steps in 300 s",
    "sequences at once",
)  # fmt: skip

CPU_BUDGET = {"training_seconds": 20, "handover_seconds": 2, "starting_seconds": 120, "scoring_seconds": 120}
CPU_SETTINGS = {
    "vocab_size": 1024,
    "sequence_length": 256,
    "tokenizer_bytes": 1_000_000,
    "scored_bytes": 65_536,
    "holdout_percent": 20,
}
GPU_SHARD_BYTES, CPU_SHARD_BYTES = 24_000_000, 1_000_000
MULTIPLY = """
import time, numpy
matrix, best = numpy.ones((2048, 2048), dtype=numpy.float32), float("inf")
for _ in range(8):
    begun = time.perf_counter()
    matrix @ matrix
    best = min(best, time.perf_counter() - begun)
print(2 * 2048**3 / best)
"""
HEADINGS = (
    "seed", "device", "torch", "tokens/s", "MFU, %", "budget used, s", "start cold, s", "start warm, s", "hand-over, s",
    "scoring, s", "outside (warm), s", "peak memory, MiB", "metric ± sd (seeds)", "sandbox overhead, %",
)  # fmt: skip
TOY_SEEDS = (1, 2, 3)
TOY_BUDGET = {"clock": "cpu", "training_seconds": 40, "wall_seconds": 240}


def make_shard(seed: int, size: int) -> bytes:
    """About `size` bytes of documents that are made of 30,000 words, some of them frequent."""
    draw = Random(seed)
    words = ["".join(Random(n).choices(ascii_lowercase, k=2 + n % 8)) for n in range(30_000)]
    weights = [1 / (10 + n) for n in range(len(words))]
    texts = [" ".join(draw.choices(words, weights, k=400)) for _ in range(size // 2600)]
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), content)
    return content.getvalue()


def write_shards(folder: Path, on_gpu: bool) -> None:
    """The shards that gpt is to learn."""
    for number, name in enumerate(SHARDS):
        (folder / name).write_bytes(make_shard(number, GPU_SHARD_BYTES if on_gpu else CPU_SHARD_BYTES))


def choose_trees(on_gpu: bool, seconds: float | None) -> dict[str, WorkTree]:
    """The measured work trees by name: on a GPU, gpt with fewer shards."""
    gpt = read_tree(SEEDS / "gpt")
    data = gpt.contract.data.model_dump() | {"sources": [{"file": name} for name in SHARDS]}
    if on_gpu:
        trees = {"gpt": _with(gpt, data=data)}
    else:
        data["settings"] |= CPU_SETTINGS
        trees = {"gpt-cpu": read_tree(SEEDS / "gpt-cpu"), "gpt, small": _with(gpt, data=data, budget=CPU_BUDGET)}
    if seconds is None:
        return trees
    shorter = {"training_seconds": seconds}
    return {name: _with(tree, budget=tree.contract.budget.model_dump() | shorter) for name, tree in trees.items()}


def _with(tree: WorkTree, **changes: Any) -> WorkTree:
    return replace(tree, contract=Contract.model_validate(tree.contract.model_dump() | changes))


def count_operations(tree: WorkTree, runner: TreeRunner) -> float:
    """As `count_model_operations`, of the model that the tree builds."""
    facts = runner.device_runner.prepare(
        RunRequest(tree.contract, tree.sha, tree.files, 0), lambda _: None, Event()
    ).needs.facts
    module = load_edited(tree)
    model = module.GPT(facts["vocab_size"], facts["sequence_length"])
    return count_model_operations(module, model, facts["sequence_length"])


def count_model_operations(module: ModuleType, model: Any, length: int) -> float:
    """Floating point operations of a model's products for a token that it learns from, both ways."""
    import torch  # noqa: PLC0415 - after the runs: it takes memory and seconds

    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    weights = sum(p.numel() for p in model.parameters() if p.dim() > 1 and id(p) not in tables)
    windows = getattr(model, "windows", [length] * module.DEPTH)
    return float(6 * weights + 12 * getattr(module, "CHANNELS", module.WIDTH) * sum(windows))


def plan(card: Card) -> tuple[str, ...]:
    """A row: the model and the step that gpt chooses on this card, if it reaches ASSUMED_MFU of its peak."""
    import torch  # noqa: PLC0415 - as above

    tree = read_tree(SEEDS / "gpt")
    cuda = {"is_available": True, "get_device_capability": card.capability, "get_device_properties": card}
    with contextlib.ExitStack() as stack:
        for name, answer in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, return_value=answer))
        module = load_edited(tree)
        rows = module.rows_at_once(torch.device("cuda:0"))
    settings = tree.contract.data.settings
    length, vocab_size = int(settings["sequence_length"]), int(settings["vocab_size"])
    with torch.device("meta"):
        model = module.GPT(vocab_size, length)
    speed = ASSUMED_MFU * 1e12 * PEAK_TFLOPS[card.name] / count_model_operations(module, model, length)
    seconds = tree.contract.budget.training_seconds
    tokens = module.choose_tokens_per_step(speed, 0.0, seconds)
    return (
        card.name, str(module.DTYPE).removeprefix("torch."), f"{module.LAYERS} x {module.CHANNELS}",
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}", f"{speed:,.0f}", f"{tokens:,}",
        f"{seconds * speed / tokens:,.0f}", str(min(rows, tokens // length)),
    )  # fmt: skip


def load_edited(tree: WorkTree) -> ModuleType:
    """train.py as a module, with the tree's other files to import."""
    sys.path.insert(0, str(SEEDS / "gpt"))
    module = ModuleType("train")
    exec(compile(tree.files["train.py"], "train.py", "exec"), module.__dict__)
    return module


def find_peak(hardware: Hardware) -> float | None:
    """Operations a second; None for a GPU that is not listed."""
    if hardware.kind is DeviceKind.CUDA:
        found = [peak for name, peak in PEAK_TFLOPS.items() if re.search(rf"\b{name}\b{OTHER_CARD}", hardware.model)]
        return 1e12 * found[0] if found else None
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(hardware.cores))
    done = subprocess.run(
        [sys.executable, "-c", MULTIPLY], env={**os.environ, **threads}, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def measure(name: str, tree: WorkTree, runner: TreeRunner, device: str, seeds: int) -> tuple[str, ...]:
    """A row of the table, with `seeds` runs in the sandbox and as many without one."""
    cold, pairs = _run(tree, runner, compiles_ahead=False), []
    confined, free = runner.device_runner.sandbox, choose_sandbox("unconfined", detect_machine(device).gpu)
    for seed in range(1, seeds + 1):
        reports = []
        for runner.device_runner.sandbox in (free, confined):
            reports.append(_run(tree, runner, seed=seed))
        pairs.append(reports[::-1])
    metrics = [inside.metric or 0.0 for inside, _ in pairs]
    losses = [100 * (1 - _speed_of(inside) / _speed_of(outside)) for inside, outside in pairs]
    warm = pairs[0][0]
    hardware, seconds = warm.hardware, warm.seconds
    speed = warm.tokens / seconds.training
    peak = find_peak(hardware)
    return (
        name, hardware.hardware_class, hardware.torch_version, f"{speed:,.0f}",
        f"{100 * speed * count_operations(tree, runner) / peak:.1f}" if peak else "–",
        f"{seconds.on_budget:.2f} of {tree.contract.budget.training_seconds:g}",
        f"{cold.seconds.starting:.1f}", f"{seconds.starting:.1f}",
        f"{seconds.on_budget - warm.curve[-1].seconds:.2f}", f"{seconds.scoring:.1f}",
        f"{seconds.total - seconds.training:.1f}", f"{warm.peak_memory_mib:,}",
        f"{_describe(metrics, 4)} ({seeds})", _describe(losses, 1),
    )  # fmt: skip


def _speed_of(report: RunReport) -> float:
    """Tokens a second of the budget's clock."""
    return report.tokens / report.seconds.on_budget


def _describe(values: Sequence[float], digits: int) -> str:
    """The mean, and the sd of several."""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def compare_toys(runner: TreeRunner, commit: str | None, seconds: float | None) -> list[tuple[str, ...]]:
    """A row for gpt's editable files here, and one for a commit's, with the same harness and contract, by turns."""
    ours = choose_trees(on_gpu=False, seconds=None)["gpt, small"]
    shorter = {} if seconds is None else {"training_seconds": seconds}
    ours = _with(ours, budget=ours.contract.budget.model_dump() | TOY_BUDGET | shorter)
    trees = {"here": ours} | ({commit: replace(ours, files=ours.files | read_editable(commit))} if commit else {})
    found: dict[str, list[float]] = {name: [] for name in trees}
    for seed in TOY_SEEDS:
        for name, tree in trees.items():
            found[name].append(_run(tree, runner, seed=seed).metric or 0.0)
    return [(name, *(f"{metric:.4f}" for metric in metrics), _describe(metrics, 4)) for name, metrics in found.items()]


def read_editable(commit: str) -> dict[str, str]:
    """gpt's editable files in a commit; one that is not there yet stays as it is here."""
    files = {}
    for name in read_tree(SEEDS / "gpt").contract.files.editable:
        shown = subprocess.run(
            ["git", "show", f"{commit}:seed/gpt/{name}"], cwd=SEEDS, capture_output=True, text=True, check=False
        )
        if shown.returncode == 0:
            files[name] = shown.stdout
    if not files:
        raise WorkerCommandError(f"{commit} has no file of seed/gpt: {shown.stderr.strip()}")
    return files


def _run(tree: WorkTree, runner: TreeRunner, seed: int = 1, compiles_ahead: bool = True) -> RunReport:
    report = runner.measure(tree, seed=seed, compiles_ahead=compiles_ahead)
    if report.metric is None:
        raise WorkerCommandError(f"a run ended as {report.outcome.value}: {report.reason}\n{report.log_tail}")
    return report


def find_device() -> str:
    """A GPU, where there is one that works with this torch."""
    try:
        return detect_machine("cuda:0") and "cuda:0"
    except HardwareError:
        return "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device")
    parser.add_argument("--cores", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--append", type=Path)
    parser.add_argument("--plans", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--against", metavar="COMMIT", help="for --toy")
    given = parser.parse_args()
    if given.plans:
        print(format_table(PLAN_HEADINGS, [plan(card) for card in CARDS]))
        return
    device = "cpu" if given.toy else given.device or find_device()
    on_gpu, headings = device != "cpu", HEADINGS
    with tempfile.TemporaryDirectory() as name, serve_folder(Path(name)) as address:
        write_shards(Path(name), on_gpu)
        flags = {"device": device, "cores": given.cores, "data_dir": Path(name, "worker"), "data_mirror": address}
        try:
            with open_runner(load_settings(flags), View(as_json=False)) as runner:
                if given.toy:
                    headings = ("files", *(f"seed {seed}" for seed in TOY_SEEDS), "val_bpb, mean ± sd")
                    rows = compare_toys(runner, given.against, given.seconds)
                else:
                    trees = choose_trees(on_gpu, given.seconds)
                    rows = [measure(*item, runner, device, given.seeds) for item in trees.items()]
        except WorkerCommandError as error:
            sys.exit(str(error))
    print(format_table(headings, rows))
    if given.append:
        append_table(given.append, "tests.bench.bench_train", headings, rows)


if __name__ == "__main__":
    main()
