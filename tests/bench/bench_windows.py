"""Does a fixed validation set wear out, and what noise do drawn windows add?

python -m tests.bench.bench_windows                    prints both tables
python -m tests.bench.bench_windows --simulation       only the first, in a few seconds
python -m tests.bench.bench_windows --coordinator 20   small swarms on the real coordinator, 30 s each
python -m tests.bench.bench_windows --axes 8           the first with fewer constants, so less to gain
python -m tests.bench.bench_windows --seconds 40       CPU seconds of training behind the second

Simulation: a script has 60 constants of OPTIONS values each. A value is worth its true effect, and on a text of the
size that one run scores another N(0, idiosyncrasy) besides. A run changes one constant; what looks better is run three
times more, and kept if the mean is better. With a fixed shard the idiosyncrasy is the same in every run. With windows
drawn from 16 times as much text, the pool's own is a quarter of it, and the rest is new in each run. `too good` is how
much of the gain on the text that is scored the script does not have elsewhere. Sealed windows are a third as many as
the pool; nothing was chosen by them, so on the whole the gain that a record publishes from them is right.

Noise: gpt-cpu's model is trained here; the losses of all windows of the pool give the sd of a draw.
"""

import argparse
import math
import tempfile
from pathlib import Path
from time import process_time
from types import ModuleType
from typing import Any

import numpy

from tests.bench.bench_scoring import SEEDS
from tests.bench.records_swarm import tabulate_worn_out
from tests.bench.report import format_table
from worker.authoring.local_run import TreeRunner, WorkTree, open_runner, read_tree
from worker.authoring.view import View
from worker.settings import load_settings

from harness.draw import choose_count, draw_windows  # isort: skip - bench_scoring makes the harness importable

WORLDS, AXES, OPTIONS = 200, 60, 8
RUNS, CONFIRMATIONS = 5_000, 3
POOL_FACTORS = (16, 64, 128)
TRUE_SD, NOISE_SD, SAMPLING_SD = 4e-4, 7e-4, 3e-4  # of a value's effect, of a run of gpt, of a draw (assumed)
IDIOSYNCRASIES = (1e-4, 2e-4, 4e-4)
SEALED_SHARE = 1 / 3  # of the pool; a quarter of the validation data is sealed
DRAWS = 300
FIXED_NOISE_SD = 0.0044  # of runs of gpt-cpu with fixed windows; its contract says how that was measured


def simulate(
    idiosyncrasy: float, factor: int, random: numpy.random.Generator, axes: int = AXES
) -> tuple[numpy.ndarray, ...]:
    """The true gain of each world after RUNS runs, and how much more it seems on the scored text and on the sealed one.

    Windows are drawn from `factor` times as much text as a run scores; 1 is a fixed shard.
    """
    true = random.normal(0, TRUE_SD, (WORLDS, axes, OPTIONS))
    fixed_sd = idiosyncrasy / factor**0.5
    fresh_sd = math.hypot(SAMPLING_SD, idiosyncrasy * (1 - 1 / factor) ** 0.5) if factor > 1 else 0.0
    sd = math.hypot(NOISE_SD, fresh_sd)
    own = random.normal(0, fixed_sd, true.shape)
    scored = true + own
    worlds, state = numpy.arange(WORLDS), random.integers(OPTIONS, size=(WORLDS, axes))
    first, runs = state.copy(), numpy.zeros(WORLDS)
    while (runs < RUNS).any():
        axis, option = random.integers(axes, size=WORLDS), random.integers(OPTIONS, size=WORLDS)
        old = state[worlds, axis]
        better = scored[worlds, axis, old] - scored[worlds, axis, option]
        once = better + random.normal(0, sd, WORLDS)
        again = better + random.normal(0, sd / CONFIRMATIONS**0.5, WORLDS)
        promising = (once > 0) & (runs < RUNS)
        kept = promising & ((once + CONFIRMATIONS * again) > 0)
        state[worlds[kept], axis[kept]] = option[kept]
        runs += 1 + CONFIRMATIONS * promising
    rows, columns = worlds[:, None], numpy.arange(axes)
    gain = (true[rows, columns, first] - true[rows, columns, state]).sum(axis=1)
    sealed = random.normal(0, idiosyncrasy / max(1.0, factor * SEALED_SHARE) ** 0.5, true.shape)
    found = [(text[rows, columns, first] - text[rows, columns, state]).sum(axis=1) for text in (own, sealed)]
    return gain, *found


def tabulate_simulation(axes: int = AXES) -> str:
    rows = []
    for idiosyncrasy in IDIOSYNCRASIES:
        for factor in (1, *POOL_FACTORS):
            name = "fixed shard" if factor == 1 else f"drawn from {factor} times as much"
            gain, *both = simulate(idiosyncrasy, factor, numpy.random.default_rng(22), axes)
            excess, sealed = (
                f"{one.mean():{sign}.5f} ± {1.96 * one.std() / WORLDS**0.5:.5f}"
                for one, sign in zip(both, ("", "+"), strict=True)
            )
            rows.append(
                (
                    f"{idiosyncrasy:g}", name, f"{gain.mean():.4f}", excess, f"{both[0].mean() / gain.mean():.1%}",
                    sealed,
                )
            )  # fmt: skip
    return format_table(
        ("idiosyncrasy", "windows", "true gain", "too good by", "of the true gain", "too good on sealed"), rows
    )


def train(tree: WorkTree, tokens: numpy.ndarray, vocab_size: int, length: int, seconds: float) -> Any:
    """The seed's model after `seconds` of CPU time on one thread."""
    import torch  # noqa: PLC0415 - it takes memory and seconds

    torch.set_num_threads(1)
    torch.manual_seed(1)
    module = ModuleType("train")
    exec(compile(tree.files["train.py"], "train.py", "exec"), module.__dict__)
    model, random = module.GPT(vocab_size, length), numpy.random.default_rng(1)
    optimizer, begun = module.make_optimizer(model), process_time()
    while (progress := (process_time() - begun) / seconds) < 1:
        places = random.integers(len(tokens) - length - 1, size=module.BATCH_SIZE)
        batch = torch.from_numpy(numpy.stack([tokens[at : at + length + 1] for at in places]).astype(numpy.int64))
        loss = torch.nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), module.GRADIENT_CLIP)
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * module.learning_rate(progress)
        optimizer.step()
    return model.eval()


def measure_losses(model: Any, windows: numpy.ndarray) -> numpy.ndarray:
    """The nats of each window."""
    import torch  # noqa: PLC0415

    parts = []
    with torch.inference_mode():
        for part in torch.from_numpy(windows.astype(numpy.int64)).split(64):
            nats = torch.nn.functional.cross_entropy(model(part[:, :-1]).transpose(1, 2), part[:, 1:], reduction="none")
            parts.append(nats.sum(dim=1).double().numpy())
    return numpy.concatenate(parts)


def tabulate_noise(tree: WorkTree, runner: TreeRunner, seconds: float) -> str:
    folder = runner.prepare(tree)
    data, tokens = numpy.load(folder / "validation.bin"), numpy.fromfile(folder / "train.bin", dtype=numpy.uint16)
    windows, features, lengths = data["windows"], data["features"], data["byte_lengths"]
    byte_counts = lengths[windows[:, 1:]].sum(axis=1)
    count = choose_count(byte_counts, int(tree.contract.data.settings["scored_bytes"]))
    model = train(tree, tokens, len(lengths), windows.shape[1] - 1, seconds)
    metrics = measure_losses(model, windows) / math.log(2) / byte_counts.mean()
    random, rows, noise = numpy.random.default_rng(7), [], FIXED_NOISE_SD
    plain = [random.choice(len(windows), count, replace=False) for _ in range(DRAWS)]
    balanced = [draw_windows(features, count, random) for _ in range(DRAWS)]
    ratios = [metrics[one].sum() * byte_counts.mean() / byte_counts[one].sum() for one in plain]
    for name, found in (("at random", ratios), ("balanced", [metrics[one].mean() for one in balanced])):
        sd = float(numpy.std(found, ddof=1))
        rows.append(
            (
                name, f"{len(windows):,} · {len(data['sealed_windows']):,}", str(count),
                f"{len(windows) / count:.1f}", f"{metrics.mean():.4f}", f"{numpy.mean(found) - metrics.mean():+.5f}",
                f"{sd:.4f}", f"{noise:g}", f"{math.hypot(sd, noise):.4f}",
            )
        )  # fmt: skip
    headings = (
        "gpt-cpu, windows drawn", "pool · sealed", "scored", "pool / scored", "pool's metric", "mean of draws − pool's",
        "sd of a draw", "run with fixed windows", "both",
    )  # fmt: skip
    return format_table(headings, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulation", action="store_true")
    parser.add_argument("--axes", type=int, default=AXES, help="constants of a simulated script")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--coordinator", type=int, metavar="SWARMS")
    given = parser.parse_args()
    if given.coordinator:
        print(tabulate_worn_out(range(given.coordinator)))
        return
    print(tabulate_simulation(given.axes), flush=True)
    if given.simulation:
        return
    print()
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"device": "cpu", "cores": 1, "data_dir": Path(folder)})
        with open_runner(settings, View(as_json=False)) as runner:
            print(tabulate_noise(read_tree(str(SEEDS / "gpt-cpu")), runner, given.seconds))


if __name__ == "__main__":
    main()
