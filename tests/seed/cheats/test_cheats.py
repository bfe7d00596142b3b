"""Attempts to win without learning, each as a whole file: what comes of it here, and what it gains in a plain loop.

Training ends after STEPS steps at one learning rate and not by the clock, so that runs of the same seed agree to the
last digits, and a cheat that gains nothing has exactly the honest result. Runs are real ones in the real sandbox, which
the processes of most runs share (see tests/support/preloaded.py); what tries to get out of it has one to itself.
"""

import base64
import json
import socket
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy
import psutil
import pytest

from shared.contract import Contract
from shared.runs import RunOutcome, RunReport
from tests.support.preloaded import PreloadedSandbox
from tests.support.tiny_project import PACKAGE, SEED, Files, pack_text, seed_files, serve_folder, tiny_contract
from worker.data import PreparedData, prepare_data
from worker.hardware import detect_hardware
from worker.sandbox import Limits, SandboxRequest
from worker.training import TrainingJob, compile_ahead, measure
from worker.worktree import write_worktree

HERE = Path(__file__).parent
NAIVE = HERE / "naive.py"
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


def endless_train(ctx, model):
    global STEPS
    STEPS = 10**9
    honest_train(ctx, model)


"""


def base_files() -> Files:
    """A small project from the seed, whose training ends after STEPS steps."""
    files = seed_files()
    loop = "while not ctx.out_of_time():"
    assert files["train.py"].count(loop) == 1
    files["train.py"] = files["train.py"].replace(loop, "while not ctx.out_of_time() and number < STEPS:") + PRELUDE
    return files


def with_edit(path: Path) -> Files:
    files = base_files()
    return files | {"train.py": files["train.py"] + path.read_text()}


@pytest.fixture(scope="session")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    folder = tmp_path_factory.mktemp("web")
    (folder / PACKAGE).write_bytes(pack_text())
    with serve_folder(folder) as address:
        yield tiny_contract(address, pack_text())


@pytest.fixture(scope="session")
def data(contract: Contract, preloaded: PreloadedSandbox, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare_data(contract, base_files(), tmp_path_factory.mktemp("cache"), preloaded, lambda progress: None)


MakeJob = Callable[..., TrainingJob]


@pytest.fixture(scope="session")
def make_job(
    contract: Contract, data: PreparedData, preloaded: PreloadedSandbox, tmp_path_factory: pytest.TempPathFactory
) -> MakeJob:
    """Runs of files; by default with so much time that a busy machine is not the reason why one fails."""
    hardware = detect_hardware("cpu", 1)

    def make(
        files: Files, seed: int = 7, seconds: float = 60, folder: Path | None = None, apart: str = ""
    ) -> TrainingJob:
        budget = {"training_seconds": seconds, "starting_seconds": 120, "scoring_seconds": 120}
        changed = contract.model_copy(
            update={
                "budget": contract.budget.model_copy(update=budget),
                "limits": contract.limits.model_copy(update={"compiled_mib": 1}),
            }
        )
        sandbox, folder = preloaded.keeping_apart(apart), folder or tmp_path_factory.mktemp("run")
        return TrainingJob(files, "c" * 40, changed, seed, "cpu", 1, data, sandbox, hardware, folder)

    return make


MeasureFile = Callable[..., RunReport]


@pytest.fixture(scope="session")
def measure_file(make_job: MakeJob) -> MeasureFile:
    def run(files: Files, compiled: Path | None = None, **changes: Any) -> RunReport:
        return measure(replace(make_job(files, **changes), compiled=compiled), lambda progress: None, Event())

    return run


@pytest.fixture(scope="session")
def compiled(make_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the untouched code compiles; here it says so only."""
    compiler = "\nimport os\nos.makedirs(os.environ.get('TORCHINDUCTOR_CACHE_DIR', '/tmp'), exist_ok=True)\n"
    files = base_files()
    archive = tmp_path_factory.mktemp("compiled") / "compiled.tar"
    assert compile_ahead(make_job(files | {"train.py": files["train.py"] + compiler}), archive, Event())
    return archive


@pytest.fixture(scope="session")
def honest(measure_file: MeasureFile) -> float:
    report = measure_file(base_files())
    assert report.metric is not None, report.reason
    return report.metric


@dataclass(frozen=True)
class Naive:
    """What a plain loop says."""

    metric: float
    log: str


Naively = Callable[..., Naive]


@pytest.fixture(scope="session")
def naively(
    data: PreparedData, preloaded: PreloadedSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Naively]:
    """Runs a file in the loop without defences, which itself runs in a sandbox: there, cheats do what they came for."""
    modules = {f"harness/{path.name}": path.read_text() for path in (SEED / "harness").glob("*.py")}
    folder = write_worktree(tmp_path_factory.mktemp("naive") / "tree", {**modules, "naive.py": NAIVE.read_text()})
    for name, path in (("validation.npz", data.validation), ("train.bin", data.train)):
        (folder / name).write_bytes(path.read_bytes())
        (folder / name).chmod(0o644)
    for parent in (folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = SandboxRequest(
        (sys.executable, "-B", "-P", "-m", "naive", str(theirs.fileno())),
        Limits(memory_mib=4096, processes=64, disk_mib=256),
        folder,
        descriptors=(theirs.fileno(),),
        environment={"SWARM_TOKEN": SECRET},
    )
    with ours, theirs:
        process = preloaded.start(request)
        theirs.close()

        def run(
            files: Files,
            seed: int = 7,
            one_host: bool = False,
            times: int = 1,
            old_result: float | None = None,
            linger_seconds: float = 0.0,
        ) -> Naive:
            asked = {"source": files["train.py"], "seed": seed, "one_host": one_host, "times": times}
            ours.send(json.dumps({**asked, "old_result": old_result, "linger_seconds": linger_seconds}).encode())
            packet = ours.recv(1 << 20)
            assert packet, process.kill().log_tail
            answer = json.loads(packet)
            assert answer["metric"] is not None, answer["log"]
            return Naive(answer["metric"], answer["log"])

        yield run
        process.kill()


@dataclass(frozen=True)
class Expected:
    """What becomes of a cheat. Without a reason it is scored, at its honest value."""

    outcome: RunOutcome = RunOutcome.OK
    reason: str = ""


HONEST = Expected()
PEEKS = Expected(RunOutcome.INVALID, "the model looks ahead: with later tokens replaced")
CHANGES = Expected(RunOutcome.INVALID, "the model's answers to the same tokens change when it is asked again")
NO_NUMBER = Expected(RunOutcome.INVALID, "the model returned a logit that is not a finite number")

EXPECTED = {
    "constant_loss": HONEST,
    "fake_summary": HONEST,
    "speaks_for_the_scorer": Expected(RunOutcome.CRASHED, "broke the harness's protocol: it said `scored` out of turn"),
    "peeks_at_the_next_token": PEEKS,
    "peeks_rarely": PEEKS,
    "peeks_at_one_place": PEEKS,
    "mixes_in_the_future": PEEKS,
    "learns_the_questions": CHANGES,
    "replays_windows": HONEST,
    "peeks_and_remembers": PEEKS,
    "leaves_notes": PEEKS,
    "answers_by_chance": CHANGES,
    "not_a_number": NO_NUMBER,
    "infinite_logits": NO_NUMBER,
    "finds_the_validation_data": HONEST,
    "patches_the_harness": HONEST,
    "overwrites_the_result": HONEST,
    "rests_on_an_old_result": Expected(RunOutcome.CRASHED, "the trainer ended with exit status 0 before"),
    "drops_data_by_batch_size": HONEST,
    "answers_half": Expected(RunOutcome.CRASHED, "in eval mode the model returned (32, 16, 320), not logits of shape"),
    "asks_the_network": HONEST,
    "reads_secrets": HONEST,
    "outlives_the_run": HONEST,
}


APART = {
    "finds_the_validation_data": "harness.trainer",
    "outlives_the_run": "harness.trainer",
    "reads_secrets": "harness.trainer",
    "peeks_and_remembers": "harness.host",
    "leaves_notes": "harness.host",
}
"""What tries to get out of its process's own sandbox, and which process that is."""


@pytest.mark.parametrize("name", EXPECTED)
def test_gains_nothing_here(
    name: str, measure_file: MeasureFile, honest: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SWARM_TOKEN", SECRET)
    (tmp_path / "result.json").write_text('{"outcome": "ok", "metric": 0.06}')
    report = measure_file(with_edit(HERE / "files" / f"{name}.py"), folder=tmp_path, apart=APART.get(name, ""))
    expected = EXPECTED[name]
    assert (report.outcome, expected.reason in report.reason) == (expected.outcome, True), report.reason
    if expected is HONEST:
        assert report.metric == pytest.approx(honest, abs=1e-4)
    assert RunReport.model_validate_json((tmp_path / "result.json").read_text()) == report
    assert SECRET not in report.log_tail
    assert not [process for process in psutil.Process().children(recursive=True) if is_trainer(process)]


def is_trainer(process: psutil.Process) -> bool:
    """Whether it was started as one, and still runs."""
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE and "harness.trainer" in process.cmdline()
    return False


def test_training_early_gains_nothing_here(measure_file: MeasureFile, honest: float) -> None:
    """Nothing is put back, but there was nothing to learn from: random tokens."""
    report = measure_file(with_edit(HERE / "files" / "trains_early.py"))
    assert report.metric is not None
    assert report.metric > honest - 0.05


@pytest.mark.parametrize("name", ["ignores_the_clock", "patches_time"])
def test_the_clock_is_the_supervisors(name: str, measure_file: MeasureFile) -> None:
    report = measure_file(with_edit(HERE / "files" / f"{name}.py"), seconds=0.5)
    assert report.outcome is RunOutcome.TIMEOUT
    assert report.reason == "training and handing over the result took more than 0.5 + 1 s: it did not return in time"


def test_a_favourite_seed_shows(measure_file: MeasureFile, honest: float) -> None:
    """It is scored at what it learnt. Two seeds that agree to the last digit are what the coordinator holds back."""
    first, second = (
        measure_file(with_edit(HERE / "files" / "ignores_the_seed.py"), seed=seed).metric for seed in (1, 2)
    )
    assert first == pytest.approx(second, abs=1e-4)
    assert first == pytest.approx(honest, abs=0.3)


def ship(name: str, data: PreparedData) -> Files:
    """The file with the validation text inside, as a string or as names."""
    tokens = numpy.load(data.validation)["windows"].astype(numpy.uint16).ravel()
    string = base64.b85encode(zlib.compress(tokens.tobytes(), 9)).decode()
    names = "".join(f"\n    t{token}" for token in tokens)
    files = with_edit(HERE / "files" / f"{name}.py")
    source = files["train.py"].replace('SHIPPED = ""', f'SHIPPED = "{string}"')
    return files | {"train.py": source.replace('"""The test puts it here."""', names)}


SHIPS = ["ships_the_validation_text", "ships_the_text_in_names"]


@pytest.mark.parametrize("name", SHIPS)
def test_a_text_learnt_by_heart_does_not_fit(name: str, measure_file: MeasureFile, data: PreparedData) -> None:
    report = measure_file(ship(name, data))
    assert report.outcome is RunOutcome.INVALID
    assert "bytes when they are packed; the contract allows 4,096" in report.reason


def test_a_cache_is_thrown_away(measure_file: MeasureFile, honest: float, compiled: Path) -> None:
    """The archive that trainers begin with is made of the project's own code; what a run adds to its copy is gone."""
    files, before = with_edit(HERE / "files" / "poisons_the_cache.py"), compiled.read_bytes()
    runs = [measure_file(files, apart="harness.trainer", compiled=compiled) for _ in range(2)]
    assert [run.metric for run in runs] == pytest.approx([honest] * 2, abs=1e-4)
    assert all("kept in 3 places" in run.log_tail for run in runs)
    assert compiled.read_bytes() == before


@pytest.mark.parametrize("name", ["stateful_but_causal", "dropout_left_on", "unusual_but_legal"])
def test_honest_code_passes(name: str, measure_file: MeasureFile, honest: float) -> None:
    report = measure_file(with_edit(HERE / "controls" / f"{name}.py"))
    assert (report.outcome, report.reason) == (RunOutcome.OK, "")
    if name == "stateful_but_causal":
        assert report.metric == pytest.approx(honest, abs=1e-4)


# What each cheat gains where its defence is missing.

IN_A_PLAIN_LOOP = {*EXPECTED, "trains_early", "ignores_the_clock", "patches_time"} - {
    "peeks_and_remembers",  # below: they get past a check that has one host
    "leaves_notes",
    "rests_on_an_old_result",  # below: it needs an earlier run
    "reads_secrets",  # below: it gains no points
}


@pytest.fixture(scope="session")
def naive_honest(naively: Naively) -> float:
    """What an honest file gets in the plain loop."""
    return naively(base_files()).metric


@pytest.mark.parametrize("name", sorted(IN_A_PLAIN_LOOP))
def test_gains_in_a_plain_loop(name: str, naively: Naively, naive_honest: float) -> None:
    # What outlives a run takes a moment to come back.
    found = naively(with_edit(HERE / "files" / f"{name}.py"), linger_seconds=1.0 if name == "outlives_the_run" else 0)
    assert found.metric < naive_honest - 0.01


@pytest.mark.parametrize("name", ["peeks_and_remembers", "leaves_notes"])
def test_gains_by_remembering_where_one_host_is_asked_twice(name: str, naively: Naively, naive_honest: float) -> None:
    files = with_edit(HERE / "files" / f"{name}.py")
    assert naively(files, one_host=True).metric < naive_honest - 0.01


@pytest.mark.parametrize("name", SHIPS)
def test_gains_by_a_text_where_nobody_counts(
    name: str, naively: Naively, naive_honest: float, data: PreparedData
) -> None:
    assert naively(ship(name, data)).metric < naive_honest - 0.01


def test_gains_by_an_old_result_where_results_are_files(naively: Naively, naive_honest: float) -> None:
    found = naively(with_edit(HERE / "files" / "rests_on_an_old_result.py"), old_result=naive_honest - 1)
    assert found.metric == naive_honest - 1


def test_gains_from_run_to_run_where_a_cache_stays(naively: Naively, naive_honest: float) -> None:
    assert naively(with_edit(HERE / "files" / "poisons_the_cache.py"), times=2).metric < naive_honest - 0.01


def test_finds_secrets_where_the_environment_is_handed_on(naively: Naively) -> None:
    assert SECRET in naively(with_edit(HERE / "files" / "reads_secrets.py")).log


def test_looks_certain_where_the_file_owns_the_seed(naively: Naively) -> None:
    lucky = with_edit(HERE / "files" / "ignores_the_seed.py")
    assert naively(lucky, seed=1).metric == naively(lucky, seed=2).metric
    assert naively(base_files(), seed=1).metric != naively(base_files(), seed=2).metric
