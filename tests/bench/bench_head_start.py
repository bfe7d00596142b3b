"""Measures what work before the clock, work in the hosts and shipped knowledge are worth.

python -m tests.bench.bench_head_start                 prints a table for gpt-cpu
python -m tests.bench.bench_head_start --share 0.25 --only "honest" "ships frequencies"

Each attempt is an edit of gpt-cpu's file, measured as a job would be. --share shortens the budget; the contract's own
limits on what it does before the start and in its hosts are lifted unless --guarded is given.
"""

import argparse
import base64
import math
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy

from shared.runs import RunReport
from tests.bench.report import append_table, format_table
from tests.seed.cheats.attempts import train_in_the_host
from worker.authoring.local_run import TreeRunner, WorkTree, open_runner, read_tree
from worker.authoring.view import View
from worker.commands.options import WorkerCommandError
from worker.settings import load_settings

CORES = 2
VOCABULARY = 1024

TRAINS_EARLY = """

import time

honest_train = train


class Early:
    \"""Passes everything on, and puts back after the start what was learnt before it.\"""

    def __init__(self, ctx, model):
        self.ctx, self.model = ctx, model

    def start(self):
        learnt = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.ctx.start()
        self.model.load_state_dict(learnt)

    def __getattr__(self, name):
        return getattr(self.ctx, name)


def make_up(rows):
    \"""Text in which words of a few tokens, some of them frequent, come again and again: nothing of the real one.\"""
    words = torch.randint(1024, (400, 4))
    chosen = torch.multinomial(1 / torch.arange(1.0, 401), rows * 33, replacement=True)
    return words[chosen].view(rows, -1)[:, :129]


def train(ctx, model):
    optimizer = make_optimizer(model)
    begun = time.process_time()
    while time.process_time() - begun < SECONDS:
        tokens = make_up(BATCH_SIZE)
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    honest_train(Early(ctx, model), model)
"""

SHIPS_FREQUENCIES = """

import base64

honest_build = build


def build(config):
    model = honest_build(config)
    frequencies = torch.frombuffer(bytearray(base64.b85decode(SHIPPED)), dtype=torch.uint8)
    model.head = nn.Linear(WIDTH, config.vocab_size)
    nn.init.normal_(model.head.weight, std=0.02)
    with torch.no_grad():
        model.head.bias.copy_(-frequencies / 16.0)
    return model
"""

HEADINGS = ("attempt", "runs", "val_bpb, mean", "sd", "gain", "steps, mean", "before start, s", "scoring, wall s")


def list_attempts(frequencies: numpy.ndarray) -> dict[str, str]:
    """Code for the end of the file, by the attempt's name."""
    levels = numpy.clip(numpy.round(-16 * numpy.log(frequencies)), 0, 255).astype(numpy.uint8)
    shipped = base64.b85encode(levels.tobytes()).decode()
    moved = base64.b85encode(numpy.random.default_rng(0).permutation(levels).tobytes()).decode()
    return {
        "honest": "",
        "trains before the start, 3 s": f"\n\nSECONDS = 3\n{TRAINS_EARLY}",
        "trains before the start, 40 s": f"\n\nSECONDS = 40\n{TRAINS_EARLY}",
        "trains in the host, 20 steps": train_in_the_host(rows=8000, steps=20),
        "trains in the host, 200 steps": train_in_the_host(rows=8000, steps=200),
        "ships frequencies": f'\n\nSHIPPED = r"""{shipped}"""\n{SHIPS_FREQUENCIES}',
        "ships frequencies, vocabulary renumbered": f'\n\nSHIPPED = r"""{moved}"""\n{SHIPS_FREQUENCIES}',
    }


def count_tokens(runner: TreeRunner, tree: WorkTree) -> numpy.ndarray:
    """Each token's share of the training text."""
    tokens = numpy.fromfile(runner.prepare(tree) / "train.bin", dtype=numpy.uint16)
    counts = numpy.bincount(tokens, minlength=VOCABULARY) + 0.5
    return numpy.asarray(counts / counts.sum())


def prepare_tree(tree: WorkTree, share: float, guarded: bool) -> WorkTree:
    own = tree.contract.budget
    changes = {
        "training_seconds": own.training_seconds * share, "wall_seconds": 3600,
        "starting_seconds": 3600, "scoring_seconds": 3600,
    }  # fmt: skip
    if not guarded:
        changes |= dict.fromkeys(("warm_up_seconds", "answer_seconds"))
    files = tree.contract.files.model_copy(update={"max_text_bytes": None})
    update = {"budget": own.model_copy(update=changes), "files": files}
    return replace(tree, contract=tree.contract.model_copy(update=update))


def describe(name: str, reports: list[RunReport], honest: float | None) -> tuple[str, ...]:
    metrics = [report.metric for report in reports if report.metric is not None]
    if not metrics:
        return (name, str(len(reports)), f"{reports[0].outcome}: {reports[0].reason}", "–", "–", "–", "–", "–")
    mean = statistics.fmean(metrics)
    return (
        name, str(len(metrics)), f"{mean:.4f}", f"{statistics.stdev(metrics):.4f}" if len(metrics) > 1 else "–",
        "–" if honest is None or name == "honest" else f"{honest - mean:+.4f}",
        f"{statistics.fmean(report.steps for report in reports):.0f}",
        f"{statistics.fmean(report.seconds.before_start or math.nan for report in reports):.1f}",
        f"{statistics.fmean(report.seconds.scoring for report in reports):.1f}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--guarded", action="store_true")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--append", type=Path)
    given = parser.parse_args()
    tree, rows, honest = prepare_tree(read_tree("gpt-cpu"), given.share, given.guarded), [], None
    with tempfile.TemporaryDirectory() as name:
        settings = load_settings({"device": "cpu", "cores": CORES, "data_dir": Path(name)})
        try:
            with open_runner(settings, View(as_json=False)) as runner:
                attempts = list_attempts(count_tokens(runner, tree))
                for attempt in given.only or attempts:
                    files = tree.files | {"train.py": tree.files["train.py"] + attempts[attempt]}
                    reports = [runner.measure(replace(tree, files=files), seed) for seed in range(1, given.runs + 1)]
                    rows.append(describe(attempt, reports, honest))
                    if attempt == "honest":
                        honest = statistics.fmean(report.metric or math.nan for report in reports)
                    print(format_table(HEADINGS, rows[-1:]), file=sys.stderr)
        except WorkerCommandError as error:
            sys.exit(str(error))
    print(format_table(HEADINGS, rows))
    if given.append:
        append_table(given.append, "tests.bench.bench_head_start", HEADINGS, rows)


if __name__ == "__main__":
    main()
