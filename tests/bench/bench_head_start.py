"""Measures what work before the clock, work in the hosts and knowledge that a file brings along are worth.

python -m tests.bench.bench_head_start                 a table for gpt-cpu, in minutes: a tenth of the budget
python -m tests.bench.bench_head_start --share 1 --pairs 8 --only "honest" "ships frequencies"
python -m tests.bench.bench_head_start --project codec

Each attempt is an edit of gpt-cpu's file, measured as a job would be, with the same seeds as the honest file. A
gain is the mean of the differences, with its 95 % interval (Student's t). The contract's limits on what a file
does before the start and in its hosts are lifted unless --guarded is given; `(old numbers)` is without the
substitution of the run's own symbols. The start of an honest run is what a fresh process would cost it once more.

For codec the table needs no runs: how many bits per byte LZMA needs for the text if it has read the texts of Python's
own library before, over letters drawn anew; the code that does so counts in the metric as well.
"""

import argparse
import base64
import lzma
import os
import string
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import nan, sqrt
from pathlib import Path
from random import Random
from statistics import fmean, stdev

import numpy

from shared.runs import RunReport
from tests.bench.report import append_table, format_table
from tests.bench.search_report import find_quantile
from tests.seed.cheats.attempts import train_in_the_host
from worker.authoring.local_run import TreeRunner, WorkTree, open_runner, read_tree
from worker.authoring.view import View
from worker.commands.options import WorkerCommandError
from worker.settings import load_settings

CORES = 2
VOCABULARY = 1024
SCORED_BYTES = 16_384
SHIPPED_TOKENS = 1100
"""As many as `max_text_bytes` leaves room for beside the seed's own file, at 10 bits each."""

LIBRARY_BYTES = 4_000_000
DRAWS = 8

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


def draw(rows):
    \"""Windows of shipped text, or of made-up text.\"""
    if TEXT is None:  # words of a few tokens, some of them frequent, that come again and again
        words = torch.randint(1024, (400, 4))
        chosen = torch.multinomial(1 / torch.arange(1.0, 401), rows * 33, replacement=True)
        return words[chosen].view(rows, -1)[:, :129]
    first = torch.randint(len(TEXT) - 128, (rows, 1))
    return TEXT[first + torch.arange(129)]


def train(ctx, model):
    optimizer = make_optimizer(model)
    begun = time.process_time()
    while time.process_time() - begun < SECONDS:
        tokens = draw(BATCH_SIZE)
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

COUNTS_FREQUENCIES = """

honest_build = build
honest_train = train


def build(config):
    model = honest_build(config)
    model.head = nn.Linear(WIDTH, config.vocab_size)
    nn.init.normal_(model.head.weight, std=0.02)
    nn.init.zeros_(model.head.bias)
    return model


class Counted:
    \"""Passes everything on, and counts tokens right after the start.\"""

    def __init__(self, ctx, model):
        self.ctx, self.model = ctx, model

    def start(self):
        self.ctx.start()
        counts = torch.full((len(self.model.head.bias),), 0.5)
        for _, (inputs, targets) in zip(range(60), self.ctx.batches(64)):
            counts += torch.bincount(inputs.flatten(), minlength=len(counts))
        with torch.no_grad():
            self.model.head.bias.copy_((counts / counts.sum()).log())

    def __getattr__(self, name):
        return getattr(self.ctx, name)


def train(ctx, model):
    honest_train(Counted(ctx, model), model)
"""

HEADINGS = (
    "attempt", "pairs", "val_bpb, mean", "sd", "gain", "95 % interval", "steps", "before start, s", "start, wall s",
)  # fmt: skip
HONEST, OLD = "honest", " (old numbers)"


@dataclass(frozen=True)
class Attempt:
    """Code for the end of the file; `substitutes`: the run has symbols of its own."""

    code: str
    substitutes: bool = True


def list_attempts(tokens: numpy.ndarray) -> dict[str, Attempt]:
    """By name. `tokens` are the training text's."""
    counts = numpy.bincount(tokens, minlength=VOCABULARY) + 0.5
    levels = numpy.clip(numpy.round(-16 * numpy.log(counts / counts.sum())), 0, 255).astype(numpy.uint8)
    shipped = f'\n\nSHIPPED = r"""{base64.b85encode(levels.tobytes()).decode()}"""\n{SHIPS_FREQUENCIES}'
    early = f"\n\nSECONDS = 3\nTEXT = None\n{TRAINS_EARLY}"
    text = early.replace("TEXT = None", f"TEXT = torch.tensor({tokens[:SHIPPED_TOKENS].tolist()})")
    return {
        HONEST: Attempt(""),
        HONEST + OLD: Attempt("", substitutes=False),
        "3 s on made-up text before the start": Attempt(early),
        "3 s on shipped text before the start": Attempt(text),
        "3 s on shipped text before the start" + OLD: Attempt(text, substitutes=False),
        "20 steps in the host": Attempt(train_in_the_host(rows=8000, steps=20)),
        "ships frequencies": Attempt(shipped),
        "ships frequencies" + OLD: Attempt(shipped, substitutes=False),
        "counts frequencies after the start": Attempt(COUNTS_FREQUENCIES),
    }


def prepare_tree(tree: WorkTree, share: float, scored_bytes: int, guarded: bool) -> WorkTree:
    own = tree.contract.budget
    changes = {
        "training_seconds": own.training_seconds * share, "wall_seconds": 3600,
        "starting_seconds": 3600, "scoring_seconds": 3600,
    }  # fmt: skip
    if not guarded:
        changes |= dict.fromkeys(("warm_up_seconds", "answer_seconds"))
    settings = tree.contract.data.settings | {"scored_bytes": scored_bytes}
    update = {
        "budget": own.model_copy(update=changes),
        "files": tree.contract.files.model_copy(update={"max_text_bytes": None}),
        "data": tree.contract.data.model_copy(update={"settings": settings}),
    }
    return replace(tree, contract=tree.contract.model_copy(update=update))


def measure(runner: TreeRunner, tree: WorkTree, attempt: Attempt, seed: int) -> RunReport:
    contract = tree.contract
    if not attempt.substitutes:
        commands = contract.commands.model_copy(update={"substitute": None})
        contract = contract.model_copy(update={"commands": commands})
    files = tree.files | {"train.py": tree.files["train.py"] + attempt.code}
    return runner.measure(replace(tree, contract=contract, files=files), seed)


def describe(name: str, reports: list[RunReport], honest: list[RunReport]) -> tuple[str, ...]:
    metrics = [report.metric for report in reports if report.metric is not None]
    if not metrics:
        return (name, "0", f"{reports[0].outcome}: {reports[0].reason}", *["–"] * (len(HEADINGS) - 3))
    pairs = [
        fair.metric - report.metric
        for fair, report in zip(honest, reports, strict=False)
        if fair.metric is not None and report.metric is not None
    ]
    gain = ("–", "–") if name == HONEST else (f"{fmean(pairs):+.4f}" if pairs else "–", describe_interval(pairs))
    return (
        name, str(len(metrics)), f"{fmean(metrics):.4f}", f"{stdev(metrics):.4f}" if len(metrics) > 1 else "–", *gain,
        f"{fmean(report.steps for report in reports):.0f}",
        f"{fmean(report.seconds.before_start or nan for report in reports):.1f}",
        f"{fmean(report.seconds.starting for report in reports):.1f}",
    )  # fmt: skip


def describe_interval(values: list[float]) -> str:
    if len(values) < 2:
        return "–"
    half = find_quantile(len(values)) * stdev(values) / sqrt(len(values))
    return f"{fmean(values) - half:+.4f} to {fmean(values) + half:+.4f}"


def compare_runs(given: argparse.Namespace) -> list[tuple[str, ...]]:
    """Rows for gpt-cpu. Raises WorkerCommandError."""
    tree = prepare_tree(read_tree("gpt-cpu"), given.share, given.scored_bytes, given.guarded)
    with tempfile.TemporaryDirectory() as name:
        settings = load_settings({"device": "cpu", "cores": CORES, "data_dir": Path(name)})
        with open_runner(settings, View(as_json=False)) as runner:
            tokens = numpy.fromfile(runner.prepare(tree) / "train.bin", dtype=numpy.uint16)
            attempts = list_attempts(tokens)
            reports: dict[str, list[RunReport]] = {attempt: [] for attempt in given.only or attempts}
            for seed in range(1, given.pairs + 1):  # in turn, so that whatever the machine does meets all of them
                for attempt, done in reports.items():
                    done.append(measure(runner, tree, attempts[attempt], seed))
                print(format_table(HEADINGS, list(list_rows(reports))), file=sys.stderr)
    return list(list_rows(reports))


def list_rows(reports: dict[str, list[RunReport]]) -> Iterator[tuple[str, ...]]:
    for attempt, done in reports.items():
        yield describe(attempt, done, reports.get(HONEST, []))


@cache
def read_library() -> bytes:
    """The beginning of Python's own library, in the files' order."""
    folder = Path(os.__file__).parent
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))[:LIBRARY_BYTES]


def count_bits(text: bytes, filters: list[dict[str, int]], known: bytes = b"") -> float:
    """Bits per byte of text, for whoever has read `known`."""

    def pack(content: bytes) -> int:
        return len(lzma.compress(content, format=lzma.FORMAT_RAW, filters=filters))

    return 8 * (pack(known + text) - (pack(known) if known else 0)) / len(text)


def exchange(text: bytes, old: str, new: str) -> bytes:
    return text.translate(bytes.maketrans((old + old.upper()).encode(), (new + new.upper()).encode()))


def order_letters(text: bytes) -> str:
    counts = Counter(text.lower())
    return "".join(sorted(string.ascii_lowercase, key=lambda letter: -counts[ord(letter)]))


def compare_codecs() -> list[tuple[str, ...]]:
    """Rows for codec: bits per byte with letters as they are, exchanged, and found again."""
    tree, letters = read_tree("codec"), string.ascii_lowercase
    space: dict[str, list[dict[str, int]]] = {}
    exec(compile(tree.files["codec.py"], "codec.py", "exec"), space)
    filters = space["FILTERS"]
    with tempfile.TemporaryDirectory() as name:
        settings = load_settings({"device": "cpu", "cores": CORES, "data_dir": Path(name)})
        with open_runner(settings, View(as_json=False)) as runner:
            text = (runner.prepare(tree) / "validation.bin").read_bytes()
    library, plain = read_library(), count_bits(text, filters)
    rows = [
        ("honest, letters as they are", "1", f"{plain:.4f}", "–", "–"),
        ("knows the library, letters as they are", "1", f"{(all_known := count_bits(text, filters, library)):.4f}",
         f"{plain - all_known:+.4f}", "–"),
    ]  # fmt: skip
    found: dict[str, list[float]] = {
        "honest": [], "knows the library": [], "knows the library, finds letters by counting": []
    }  # fmt: skip
    for draw in range(DRAWS):
        own = exchange(text, letters, "".join(Random(draw).sample(letters, len(letters))))
        counted = exchange(own, order_letters(own), order_letters(library))
        bits = (count_bits(own, filters), count_bits(own, filters, library), count_bits(counted, filters, library))
        for done, one in zip(found.values(), bits, strict=True):
            done.append(one)
    for name, done in found.items():
        gains = [plain - one for one in done]
        rows.append((name, str(DRAWS), f"{fmean(done):.4f}", f"{fmean(gains):+.4f}", describe_interval(gains)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", choices=["gpt-cpu", "codec"], default="gpt-cpu")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--scored-bytes", type=int, default=SCORED_BYTES)
    parser.add_argument("--guarded", action="store_true")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--append", type=Path)
    given = parser.parse_args()
    headings: tuple[str, ...] = HEADINGS
    try:
        if given.project == "codec":
            headings, rows = ("letters", "draws", "bits per byte", "gain", "95 % interval"), compare_codecs()
        else:
            rows = compare_runs(given)
    except WorkerCommandError as error:
        sys.exit(str(error))
    print(format_table(headings, rows))
    if given.append:
        append_table(given.append, "tests.bench.bench_head_start", headings, rows)


if __name__ == "__main__":
    main()
