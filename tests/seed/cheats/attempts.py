"""The cheats as files, the expected outcome of each, and how they are run.

Training ends after STEPS steps at one learning rate and not by the clock, so that runs of the same seed agree to the
last digits, and a cheat that gains nothing has exactly the honest result.
"""

import base64
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy

from shared.runs import RunOutcome, RunReport
from tests.support.tiny_project import Files, seed_files
from worker.data.prepare import PreparedData
from worker.runs.spec import RunSpec

HERE = Path(__file__).parent
STEPS = 15
SECRET = "a-volunteers-key"

PRELUDE = f"""

import numpy as np

STEPS = {STEPS}
honest_train = train


def learning_rate(progress):
    return 1.0


class SignDescent:
    \"""In the place of AdamW: making one of torch's optimizers imports modules for as long as torch itself.\"""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.param_groups = [{{"lr": 0.004, "full_lr": 0.004}}]

    def zero_grad(self, set_to_none=True):
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self):
        for parameter in self.parameters:
            parameter -= self.param_groups[0]["lr"] * parameter.grad.sign()


def make_optimizer(model):
    return SignDescent(model.parameters())


class HonestGPT(GPT):
    \"""Where it does not train, a cheat may change what it answers.\"""

    def forward(self, tokens):
        logits = super().forward(tokens)
        return logits if self.training else self.answer(tokens, logits)


def endless_train(ctx, model):
    global STEPS
    STEPS = 10**9
    honest_train(ctx, model)


"""


def base_files() -> Files:
    """A small project from the seed, whose training ends after STEPS steps, and which checks what it checked before."""
    files = seed_files()
    foreseen = files["harness/scorer.py"].replace("default_rng()", "default_rng(1)")
    assert foreseen != files["harness/scorer.py"]
    files["harness/scorer.py"] = foreseen
    loop = "while not ctx.out_of_time():"
    assert files["train.py"].count(loop) == 1
    files["train.py"] = files["train.py"].replace(loop, "while not ctx.out_of_time() and number < STEPS:") + PRELUDE
    return files


def with_edit(path: Path) -> Files:
    files = base_files()
    return files | {"train.py": files["train.py"] + path.read_text()}


def choose_fixed(data: PreparedData) -> dict[str, numpy.ndarray]:
    """A validation file of fixed windows, about 8 kB of the pool, as a loop without draws scores them."""
    loaded = numpy.load(data.validation)
    pool, byte_lengths = loaded["windows"], loaded["byte_lengths"]
    step = max(1, round(byte_lengths[pool[:, 1:]].sum() / 8192))
    return {"windows": pool[::step].astype(numpy.int64), "byte_lengths": byte_lengths}


def ship(name: str, data: PreparedData) -> Files:
    """The file with the validation text inside, as a string or as names."""
    tokens = choose_fixed(data)["windows"].astype(numpy.uint16).ravel()
    string = base64.b85encode(zlib.compress(tokens.tobytes(), 9)).decode()
    names = "".join(f"\n    t{token}" for token in tokens)
    files = with_edit(HERE / "files" / f"{name}.py")
    source = files["train.py"].replace('SHIPPED = ""', f'SHIPPED = "{string}"')
    return files | {"train.py": source.replace('"""The test puts it here."""', names)}


def train_in_the_host(rows: int, steps: int) -> str:
    """Code for the end of the seed's file."""
    return f"\n\nROWS, STEPS = {rows}, {steps}\n\n" + (HERE / "files" / "trains_in_the_host.py").read_text()


SHIPS = ["ships_the_validation_text", "ships_the_text_in_names"]


@dataclass(frozen=True)
class Naive:
    """The result of a plain loop."""

    metric: float
    log: str


MakeJob = Callable[..., RunSpec]
MeasureFile = Callable[..., RunReport]
Naively = Callable[..., Naive]


@dataclass(frozen=True)
class Expected:
    """The outcome of a cheat. Without a reason it is scored at its honest value."""

    outcome: RunOutcome = RunOutcome.OK
    reason: str = ""


HONEST = Expected()
PEEKS = Expected(RunOutcome.INVALID, "the model looks ahead: with later tokens replaced, its answers")
CHANGES = Expected(RunOutcome.INVALID, "the model's answers to the same tokens change when it is asked again")
REMEMBERS = Expected(RunOutcome.INVALID, "the model")  # found by its cuts, or by its repeats
NO_NUMBER = Expected(RunOutcome.INVALID, "the model returned a logit that is not a finite number")

EXPECTED = {
    "constant_loss": HONEST,
    "fake_summary": HONEST,
    "speaks_for_the_scorer": Expected(RunOutcome.CRASHED, "broke the harness's protocol: it sent `scored` out of turn"),
    "peeks_at_the_next_token": PEEKS,
    "peeks_rarely": PEEKS,
    "peeks_at_one_place": PEEKS,
    "mixes_in_the_future": PEEKS,
    "learns_the_questions": CHANGES,
    "learns_for_each_third_batch": REMEMBERS,
    "asks_which_host_it_is": REMEMBERS,
    "answers_before_it_is_asked": REMEMBERS,
    "replays_windows": REMEMBERS,
    "peeks_and_remembers": REMEMBERS,
    "leaves_notes": REMEMBERS,
    "leaves_a_child": REMEMBERS,
    "marks_in_impossible_tokens": PEEKS,
    "marks_in_tails": PEEKS,
    "marks_in_token_classes": PEEKS,
    "marks_in_the_order": PEEKS,
    "peeks_below_a_tolerance": PEEKS,
    "raises_the_threshold": CHANGES,
    "behaves_where_it_sees_a_splice": REMEMBERS,
    "sees_its_block": PEEKS,
    "filters_the_spectrum": PEEKS,
    "counts_the_batch": PEEKS,
    "answers_by_chance": CHANGES,
    "not_a_number": NO_NUMBER,
    "infinite_logits": NO_NUMBER,
    "finds_the_validation_data": HONEST,
    "patches_the_harness": HONEST,
    "overwrites_the_result": HONEST,
    "rests_on_an_old_result": Expected(RunOutcome.CRASHED, "the trainer ended with exit status 0 before"),
    "drops_data_by_batch_size": HONEST,
    "answers_half": Expected(RunOutcome.CRASHED, "in eval mode the model returned (27, 16, 320), not logits of shape"),
    "asks_the_network": HONEST,
    "reads_secrets": HONEST,
    "outlives_the_run": HONEST,
    "reads_the_callers_frame": HONEST,
    "overrides_torch_functions": HONEST,
    "enters_a_dispatch_mode": HONEST,
    "changes_its_answer_later": HONEST,
}


APART = {
    "finds_the_validation_data": "harness.trainer",
    "outlives_the_run": "harness.trainer",
    "reads_secrets": "harness.trainer",
    "peeks_and_remembers": "harness.host",
    "leaves_notes": "harness.host",
    "leaves_a_child": "harness.host",
}
"""Cheats that try to leave their process's sandbox, and the process of each."""
