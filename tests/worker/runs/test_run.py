"""Whole runs in real sandboxes with real training, and the ways in which a commit can fail."""

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.contract import Budget, BudgetClock
from shared.leases import Phase
from shared.protocol import use_clock
from shared.runs import MAX_CURVE_POINTS, RunLimit, RunOutcome, RunReport
from tests.seed.cheats.attempts import train_in_the_host
from tests.support.tiny_project import Files, files_that_log_their_budget, seed_files
from tests.worker.runs.conftest import Measure
from worker.runs import run_clock
from worker.runs.processes import RunProcesses
from worker.runs.spec import RunImpossible, RunProgress
from worker.sandbox.base import Sandbox


def edit(old: str, new: str) -> Files:
    """The seed with one change to train.py."""
    files = seed_files()
    assert files["train.py"].count(old) == 1, old
    return files | {"train.py": files["train.py"].replace(old, new)}


def append(code: str) -> Files:
    """The seed with code at the end of train.py; a function there replaces the earlier one."""
    files = seed_files()
    return files | {"train.py": files["train.py"] + code}


def test_measures_the_seed(measure_files: Measure, sandbox: Sandbox, tmp_path: Path) -> None:
    heard: list[RunProgress] = []
    started = datetime.now(UTC)
    with use_clock(lambda: datetime.now(UTC) - (timedelta() if heard else timedelta(hours=3))):
        report = measure_files(seed_files(), heard.append, sandbox=sandbox)
    assert started <= report.started_at, "a clock that is set meanwhile is right at the end"
    assert (report.finished_at - report.started_at).total_seconds() == pytest.approx(report.seconds.total, abs=1e-3)
    assert (report.outcome, report.reason) == (RunOutcome.OK, "")
    assert report.metric is not None
    assert 0.2 < report.metric < 4  # 8 bits would be no knowledge at all
    assert report.seconds.training > 0.3
    assert report.seconds.total == pytest.approx(
        report.seconds.starting + report.seconds.training + report.seconds.scoring
    )
    assert report.steps > 5
    assert report.tokens == pytest.approx(report.steps * 4 * 32, rel=0.2)
    assert report.parameters > 50_000
    assert 6000 < report.scored_bytes < 10_000
    assert report.peak_memory_mib > 50
    assert set(report.limits) >= {RunLimit.SYSTEM_CALLS_FILTERED, RunLimit.CORES_HELD}
    assert 1 < len(report.curve) <= MAX_CURVE_POINTS
    assert report.curve[-1].loss < report.curve[0].loss
    assert [phase for phase in Phase if any(p.phase is phase for p in heard)] == [
        Phase.STARTING,
        Phase.TRAINING,
        Phase.SCORING,
    ]
    assert report.sandbox == "bubblewrap"
    assert RunReport.model_validate_json((tmp_path / "run" / "result.json").read_text()) == report
    summary = dict(line.split(":", 1) for line in (tmp_path / "run" / "summary.txt").read_text().splitlines())
    assert float(summary["val_bpb"]) == pytest.approx(report.metric, abs=1e-6)


TRAIN = "\ndef train(ctx, model):\n    "


@dataclass(frozen=True)
class Bad:
    """A fault and its report: how the reason begins, and parts of the frame and of the log."""

    files: Files
    reason: str
    frame: str = ""
    log: str = ""
    outcome: RunOutcome = RunOutcome.CRASHED
    seconds: dict[str, float] = field(default_factory=dict)


SITUATIONS = {
    "syntax error": Bad(
        edit("def build(config):", "def build(config:"),
        "train.py raised SyntaxError: ",
        "train.py:",
        "    def build(config:",
    ),
    "exception": Bad(
        edit("x = self.embedding(tokens)", "x = self.embedding(tokens + 10_000)"),
        "train.py raised IndexError: index out of range",
        "in forward: x = self.embedding(tokens + 10_000)",
        "IndexError: index out of range in self",
    ),
    "memory of a tensor": Bad(
        append(TRAIN + "torch.ones(1 << 45)\n"),
        "out of memory: ",
        "in train: torch.ones(1 << 45)",
        "RuntimeError: ",
    ),
    "not finite": Bad(
        edit("ctx.log(number, step())", "ctx.log(number, step() * math.nan)"),
        "the loss became nan at step 1",
        "in train: ctx.log(number, step() * math.nan)",
        "harness.channel.Fault: the loss became nan at step 1",
    ),
    "no function": Bad(
        edit("def train(ctx, model):", "def fit(ctx, model):"),
        "train.py defines no function `train`",
        log="harness.channel.Fault: train.py defines no function `train`",
    ),
    "no disk": Bad(
        append(
            TRAIN + "import tempfile\n    files = [tempfile.TemporaryFile() for _ in range(2)]\n"
            "    for file in files:\n        file.write(bytes(200 << 20))\n"
        ),
        "train.py raised OSError: [Errno 28] No space left on device",
        "in train: file.write(bytes(200 << 20))",
        "OSError: [Errno 28] No space left on device",
    ),
    "no data": Bad(
        append(TRAIN + "open('/project/tokens.bin')\n"),
        "train.py raised FileNotFoundError: [Errno 2] No such file or directory: '/project/tokens.bin'",
        "in train: open('/project/tokens.bin')",
        "FileNotFoundError: ",
    ),
    "disappears": Bad(append(TRAIN + "import os; os._exit(0)\n"), "the trainer ended with exit status 0 before"),
    "falls": Bad(
        append(TRAIN + "import ctypes\n    ctypes.string_at(0)\n"),
        "the trainer was ended by signal 11 (Segmentation fault) before it had finished",
        "in train: ctypes.string_at(0)",
        "Fatal Python error: Segmentation fault",
    ),
    "lies": Bad(
        append(TRAIN + "ctx._channel.send('scored', metric=0.1, scored_bytes=9)\n"),
        "the trainer broke the harness's protocol: it sent `scored` out of turn",
    ),
    "babbles": Bad(
        append(TRAIN + "ctx._channel.send('x' * 70_000)\n"),
        "the trainer broke the harness's protocol: it sent a malformed message",
    ),
    "the host cannot build": Bad(
        append(
            "\n\ndef build(config):\n    import __main__\n"
            "    assert hasattr(__main__, 'hand_over'), 'only trainers can'\n"
            "    return GPT(config.vocab_size, config.sequence_length)\n"
        ),
        "train.py raised AssertionError: only trainers can",
        "in build: assert hasattr(__main__, 'hand_over'), 'only trainers can'",
        "AssertionError: only trainers can",
    ),
    "other weights": Bad(
        edit("    while not ctx.out_of_time():", "    model.more = nn.Linear(2, 2)\n    while not ctx.out_of_time():"),
        "the trained weights do not fit what build(config) makes",
        log="harness.channel.Fault: the trained weights do not fit what build(config) makes: ",
    ),
    "other shape": Bad(
        edit("self.head(self.norm(x))", "self.head(self.norm(x))[:, 0 if self.training else 1 :]"),
        "in eval mode the model returned (27, 31, 320), not logits of shape (27, 32, 320)",
        log="harness.channel.Fault: in eval mode the model returned",
    ),
    "late to start": Bad(
        append(TRAIN + "import time; time.sleep(99)\n"),
        "starting took more than 10 s: ctx.start() was not called",
        "in train: import time; time.sleep(99)",
        outcome=RunOutcome.TIMEOUT,
        seconds={"starting_seconds": 10},  # torch loads in them, beside whatever else runs
    ),
    "late to end": Bad(
        edit("while not ctx.out_of_time():", "while True:"),
        "training and handing over the result took more than 1.2 + 1 s: it did not return in time",
        "train.py:",
        "(most recent call first):",
        outcome=RunOutcome.TIMEOUT,
        seconds={"handover_seconds": 1},
    ),
    "late to answer": Bad(
        edit(
            "    def forward(self, tokens):\n",
            "    def forward(self, tokens):\n        while not self.training: __import__('time').sleep(99)\n",
        ),
        "scoring took more than 5 s",
        "in forward: while not self.training: __import__('time').sleep(99)",
        outcome=RunOutcome.TIMEOUT,
        seconds={"scoring_seconds": 5},
    ),
}


def is_true(frame: str, code: str) -> bool:
    """Whether that line of the code is what the frame says."""
    found = re.fullmatch(r"train\.py:(\d+)(?: in \w+)?: (.*)", frame)
    return found is not None and code.splitlines()[int(found[1]) - 1].strip() == found[2]


@pytest.mark.parametrize("name", SITUATIONS)
def test_tells_what_went_wrong_and_where(name: str, measure_files: Measure) -> None:
    bad = SITUATIONS[name]
    chatty = bad.files | {"train.py": bad.files["train.py"] + "\n\nfor i in range(70):\n    print(i)\n"}
    report = measure_files(chatty, budget=bad.seconds)
    assert (report.outcome, report.metric) == (bad.outcome, None)
    assert report.reason.startswith(bad.reason)
    assert bad.frame in report.frame and bool(report.frame) == bool(bad.frame)
    assert not report.frame or is_true(report.frame, chatty["train.py"])
    lines = report.log_tail.splitlines()
    assert len(lines) <= 50
    assert any(bad.log in line for line in lines)
    if name != "syntax error":
        assert "69" in lines


def test_names_the_lack_of_memory(measure_files: Measure, trainer_apart: Sandbox) -> None:
    hoard = "ctx.start()\n    hoard = []\n    while True:\n        hoard.append(torch.ones(4 << 20))\n"
    limits, budget = {"memory_mib": 700}, {"training_seconds": 60}
    report = measure_files(append(TRAIN + hoard), limits=limits, budget=budget, sandbox=trainer_apart)
    assert report.outcome is RunOutcome.CRASHED
    assert report.reason.startswith("the trainer was ended because it used more than 700 MiB of memory")
    assert "in train: " in report.frame
    assert report.peak_memory_mib > 700


def test_holds_its_clocks(measure_files: Measure) -> None:
    """A late run's seconds are those of the part in which it was late."""
    starting = measure_files(append(TRAIN + "import time; time.sleep(99)\n"), budget={"starting_seconds": 1}).seconds
    assert 1 <= starting.starting < 60 and starting.training == starting.scoring == 0
    budget = {"handover_seconds": 1}
    report = measure_files(edit("while not ctx.out_of_time():", "while True:"), budget=budget)
    assert 2.2 <= report.seconds.training < 60
    assert report.seconds.scoring < 60 and report.curve


BY_CPU = {"clock": BudgetClock.CPU, "training_seconds": 1.0, "handover_seconds": 0.5, "wall_seconds": 600}


def test_counts_cpu_time_where_the_contract_says_so(measure_files: Measure) -> None:
    """Sleeping uses the wall's budget up and not the CPU's; a run says what it used, and how much before its start."""
    idle = "torch.ones(1); time.sleep(2)\n    ctx.start()\n    number = 0\n    time.sleep(2)"
    files = edit("ctx.start()\n    number = 0", idle)
    files["train.py"] = "import time\n" + files["train.py"]
    report = measure_files(files, budget=BY_CPU)
    assert (report.outcome, report.reason) == (RunOutcome.OK, "")
    used, before_start = report.seconds.budget, report.seconds.before_start
    assert used is not None and before_start is not None
    assert 0.5 < used <= 1.5 and report.seconds.training > 2
    assert before_start < 60
    assert report.curve[-1].seconds <= used
    by_wall = measure_files(files, budget=BY_CPU | {"clock": BudgetClock.WALL, "wall_seconds": None})
    assert by_wall.outcome is RunOutcome.TIMEOUT


def test_no_child_trains_for_free(measure_files: Measure, trainer_apart: Sandbox) -> None:
    """The file's own process hardly uses the CPU, so its own clock says that there is time."""
    hides = append(
        "\nhonest_train = train\n\ndef train(ctx, model):\n    import os, time\n    ctx.start()\n"
        "    if os.fork() == 0:\n        if os.fork() == 0:\n"
        "            begun = time.process_time()\n"
        "            while time.process_time() - begun < 3:\n                pass\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    while time.monotonic() < 1e12 and ctx.progress() < 0.5:\n        time.sleep(0.05)\n    ctx.log(1, 2.0)\n"
    )
    report = measure_files(hides, budget=BY_CPU, sandbox=trainer_apart)
    assert report.outcome is RunOutcome.TIMEOUT
    assert report.reason.startswith("training and handing over the result took more than 1 + 0.5 CPU seconds")


def test_a_wall_limit_ends_who_waits(measure_files: Measure) -> None:
    waits = append(TRAIN + "import time\n    ctx.start()\n    ctx.log(1, 2.0)\n    time.sleep(99)\n")
    report = measure_files(waits, budget=BY_CPU | {"wall_seconds": 2})
    assert report.outcome is RunOutcome.TIMEOUT and "2 + 0.5 s, the limit in wall time" in report.reason
    assert report.seconds.training < 60 and (report.seconds.budget or 0) < 1


STARTS_LATE = files_that_log_their_budget()
STARTS_LATE["train.py"] = STARTS_LATE["train.py"].replace("    ctx.start()\n", "    time.sleep(2)\n    ctx.start()\n")
STARTS_LATE["train.py"] = "import time\n" + STARTS_LATE["train.py"]


def test_a_long_start_is_taken_from_the_training(measure_files: Measure) -> None:
    """Without the limit a file has its whole training after whatever it did before."""
    free = measure_files(STARTS_LATE, budget={"training_seconds": 10.0})
    before_start = free.seconds.before_start
    assert before_start is not None and before_start >= 2
    assert 5 <= free.curve[0].loss < 10, "a hand-over takes at most half"
    assert Budget(training_seconds=10.0, warm_up_seconds=60.0).charge(before_start) == 0
    charged = measure_files(STARTS_LATE, budget={"training_seconds": 60.0, "warm_up_seconds": 0.5})
    before_start = charged.seconds.before_start
    assert before_start is not None and charged.curve[0].loss < 60 - (before_start - 0.5) < 60 - 1.4
    refused = measure_files(STARTS_LATE, budget={"training_seconds": 1.0, "warm_up_seconds": 0.5})
    assert refused.outcome is RunOutcome.TIMEOUT
    assert refused.reason.startswith("before ctx.start() the edited file took ")


WORKS_BEFORE_THE_START = """
honest_train = train

def train(ctx, model):
    import os, threading, time

    def burn():
        begun = time.process_time()
        while time.process_time() - begun < 0.4:
            pass

    def in_child(then):
        if os.fork() == 0:
            burn()
            then()
            os._exit(0)

    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
    in_child(lambda: None)
    os.wait()
    done = os.pipe()
    in_child(lambda: (os.write(done[1], b"x"), time.sleep(600)))
    os.read(done[0], 1)
    honest_train(ctx, model)
"""


def test_work_before_the_start_counts_whoever_does_it(measure_files: Measure, trainer_apart: Sandbox) -> None:
    """A thread, a child that has ended and one that still lives."""
    budget = BY_CPU | {"training_seconds": 10.0, "handover_seconds": 10, "warm_up_seconds": 0.5}
    files = files_that_log_their_budget()
    files["train.py"] += WORKS_BEFORE_THE_START
    report = measure_files(files, budget=budget, sandbox=trainer_apart)
    before_start = report.seconds.before_start
    assert before_start is not None and before_start >= 3 * 0.4
    assert report.curve[0].loss < 10 - (before_start - 0.5)


def test_no_host_goes_on_training(measure_files: Measure, host_apart: Sandbox) -> None:
    """The hosts learn from text that came with the weights, for longer than the training itself.

    Both are in sandboxes of their own, where the first use of torch takes its time from a host, too.
    """
    honest = edit("while not ctx.out_of_time():", "while not ctx.out_of_time() and number < 15:")
    cheat = honest | {"train.py": honest["train.py"] + train_in_the_host(rows=2000, steps=100)}
    budget = {"clock": BudgetClock.CPU, "training_seconds": 20.0, "wall_seconds": 300, "scoring_seconds": 300}
    limited = budget | {"answer_seconds": 0.25}
    fair = measure_files(honest, budget=limited, sandbox=host_apart)
    assert fair.metric is not None, fair.reason
    won = measure_files(cheat, budget=budget | {"clock": BudgetClock.WALL, "wall_seconds": None})
    assert won.metric is not None, won.reason
    assert won.metric < fair.metric - 0.05
    report = measure_files(cheat, budget=limited, sandbox=host_apart)
    assert report.outcome is RunOutcome.TIMEOUT and report.reason.startswith("a model host took ")


WORKS_BEFORE_THE_RESULT = """

import sys
import threading
import time

def burn(seconds):
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        pass

if sys.argv[0].endswith("/host.py"):
    {work}
"""


def test_no_host_works_before_the_result_is_in_reach(measure_files: Measure) -> None:
    files = seed_files()
    files["train.py"] += WORKS_BEFORE_THE_RESULT.format(work="burn(1)")
    won = measure_files(files, budget=BY_CPU)
    assert won.outcome is RunOutcome.OK, won.reason
    report = measure_files(files, budget=BY_CPU | {"warm_up_seconds": 0.9})
    assert report.outcome is RunOutcome.TIMEOUT
    assert report.reason.endswith("CPU seconds before the result was in reach; 0.9 are allowed"), report.reason


def test_no_thread_of_a_host_works_until_the_scorer_asks(
    measure_files: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = RunProcesses.begin_scorer

    def begin_late(processes: RunProcesses, size: int) -> None:
        assert processes.host is not None
        begun = processes.host.process.cpu_seconds().least
        while processes.host.process.cpu_seconds().least < begun + 1:
            time.sleep(0.01)
        begin(processes, size)

    monkeypatch.setattr(RunProcesses, "begin_scorer", begin_late)
    files = seed_files()
    files["train.py"] += WORKS_BEFORE_THE_RESULT.format(
        work="threading.Thread(target=burn, args=(600,), daemon=True).start()"
    )
    report = measure_files(files, budget=BY_CPU | {"warm_up_seconds": 0.9})
    assert report.outcome is RunOutcome.TIMEOUT
    assert report.reason.endswith("CPU seconds before the result was in reach; 0.9 are allowed"), report.reason


def test_a_host_is_not_charged_for_waiting_until_the_scorer_asks(
    measure_files: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By wall time, as on a GPU: reading a large validation set takes longer than answers may."""
    waited, begin = [0.0], RunProcesses.begin_scorer

    def read_long(processes: RunProcesses, size: int) -> None:
        waited[0] += 600
        begin(processes, size)

    monkeypatch.setattr(RunProcesses, "begin_scorer", read_long)
    monkeypatch.setattr(run_clock, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + waited[0]))
    budget = {"clock": BudgetClock.WALL, "wall_seconds": None, "answer_seconds": 60}
    report = measure_files(seed_files(), budget=budget)
    assert (report.outcome, report.reason) == (RunOutcome.OK, "")


def test_gives_no_text_before_the_start(measure_files: Measure) -> None:
    """Random tokens are not the text: most of the text's tokens are letters or pairs of them, few are control bytes."""
    code = (
        TRAIN
        + "b = ctx.batches(64); early = next(b)[0]; ctx.start(); late = next(b)[0]\n"
        + "    rare = lambda t: (t < 10).float().mean().item()\n"
        + "    assert not (rare(early) > 0.01 and rare(late) == 0), 'as it should be'\n"
    )
    report = measure_files(append(code), commands={"substitute": None})
    assert report.reason == "train.py raised AssertionError: as it should be"


def test_rejects_a_model_that_looks_ahead(measure_files: Measure) -> None:
    peek = "3 * F.one_hot(F.pad(tokens[:, 1:], (0, 1)), self.head.out_features)"
    report = measure_files(edit("self.head(self.norm(x))", f"self.head(self.norm(x)) + {peek}"))
    assert report.outcome is RunOutcome.INVALID
    assert report.reason.startswith("the model looks ahead")
    assert report.metric is None


def test_rejects_answers_that_are_not_numbers(measure_files: Measure) -> None:
    report = measure_files(
        edit("self.head(self.norm(x))", "self.head(self.norm(x)) * (1 if self.training else math.inf)")
    )
    assert report.outcome is RunOutcome.INVALID
    assert "not a finite number" in report.reason


def test_survives_a_flood(measure_files: Measure) -> None:
    flood = """ctx.log(number, step())
        for _ in range(300):
            ctx._next_log = 0
            ctx.log(number, 1.0)
            print("y" * 999)"""
    budget = {"training_seconds": 3, "handover_seconds": 15}  # what floods is read slowly
    report = measure_files(edit("ctx.log(number, step())", flood), budget=budget)
    assert report.outcome is RunOutcome.OK
    assert len(report.curve) <= MAX_CURVE_POINTS
    assert len(report.log_tail) <= 20_000


def test_does_not_blame_the_commit_for_a_broken_harness(measure_files: Measure) -> None:
    broken = seed_files() | {"harness/trainer.py": "import a_library_that_is_not_there\n"}
    with pytest.raises(RunImpossible, match="No module named 'a_library_that_is_not_there'"):
        measure_files(broken)


def test_keeps_the_edited_file_from_the_scorer(measure_files: Measure) -> None:
    files = seed_files()
    files["harness/scorer.py"] = "import train\n" + files["harness/scorer.py"]
    with pytest.raises(RunImpossible, match=r"the scorer .*No module named 'train'"):
        measure_files(files)
