"""Trainers begin with the compile cache of untouched code, and no run can change it for others."""

import tarfile
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from shared.contract import Contract
from shared.runs import RunOutcome
from tests.support.preloaded_sandbox import PreloadedSandbox
from tests.support.tiny_project import Files, seed_files
from worker.data.prepare import PreparedData
from worker.machine.hardware import detect_machine
from worker.runs.runner import compile_ahead, measure
from worker.runs.spec import RunImpossible, RunSpec, RunStopped

COMPILER = """
import os

HONEST_TRAIN = train
KERNEL = os.path.join(os.environ.get("TORCHINDUCTOR_CACHE_DIR", "/nowhere"), "kernel")


def train(ctx, model):  # stands for torch.compile, which does as much, and takes a minute
    print("found " + open(KERNEL).read() if os.path.exists(KERNEL) else "compiled", flush=True)
    os.makedirs(os.path.dirname(KERNEL), exist_ok=True)
    with open(KERNEL, "a") as file:
        file.write("as it should be")
    HONEST_TRAIN(ctx, model)


class GPT(GPT):
    def forward(self, tokens):
        assert self.training or not os.path.exists(KERNEL), "the host reads what was compiled"
        return super().forward(tokens)
"""

POISON = """

def spoil(path):
    try:
        with open(path, "r+b") as file:
            file.write(b"poison")
    except OSError:
        return


SOUND_TRAIN = train


def train(ctx, model):
    SOUND_TRAIN(ctx, model)
    spoil(KERNEL)
    for number in os.listdir("/proc/self/fd"):
        spoil(f"/proc/self/fd/{number}")
    os._exit(0)
"""


def project_files(more_code: str = "") -> Files:
    files = seed_files()
    return files | {"train.py": files["train.py"] + COMPILER + more_code}


@pytest.fixture
def job(contract: Contract, data: PreparedData, preloaded: PreloadedSandbox, tmp_path: Path) -> RunSpec:
    limits = contract.limits.model_copy(update={"compiled_mib": 1})
    patient = contract.budget.model_copy(update={"training_seconds": 0.5, "handover_seconds": 60})
    contract = contract.model_copy(update={"limits": limits, "budget": patient})
    files, hardware = project_files(), detect_machine("cpu", 1).hardware
    return RunSpec(files, "c" * 40, contract, 7, "cpu", 1, data, preloaded, hardware, tmp_path / "run")


def content_of(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as files:
        opened = ((member.name, files.extractfile(member)) for member in files)
        return {name: file.read() for name, file in opened if file is not None}


def test_runs_begin_with_what_was_compiled_and_cannot_spoil_it(
    job: RunSpec, preloaded: PreloadedSandbox, tmp_path: Path
) -> None:
    archive = tmp_path / "cache" / "compiled.tar"
    assert compile_ahead(job, archive, Event())
    assert content_of(archive) == {"./inductor/kernel": b"as it should be"}
    before = archive.read_bytes()

    def run(job: RunSpec) -> tuple[RunOutcome, list[str]]:
        report = measure(job, lambda progress: None, Event())
        return report.outcome, report.log_tail.splitlines()

    assert run(job) == (RunOutcome.OK, ["compiled"])
    warm = replace(job, compiled=archive)
    apart = preloaded.with_separate("harness.trainer")
    assert run(replace(warm, files=project_files(POISON), sandbox=apart))[1] == ["found as it should be"]
    assert run(warm) == (RunOutcome.OK, ["found as it should be"]), "and its hosts found nothing"
    assert archive.read_bytes() == before
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_runs_compile_for_themselves_where_there_is_no_room(job: RunSpec, tmp_path: Path) -> None:
    big = "\nopen(os.path.dirname(os.path.dirname(KERNEL)) + '/big', 'wb').write(bytes(1 << 21))\n"
    job = replace(job, files=project_files(big))
    assert not compile_ahead(job, tmp_path / "compiled.tar", Event())
    assert list(tmp_path.glob("compiled.tar*")) == []


@pytest.mark.parametrize("code", ["\nraise RuntimeError\n", "\nHONEST_TRAIN = os._exit\n"], ids=["raises", "ends"])
def test_own_code_that_does_not_start_is_an_error(code: str, job: RunSpec, tmp_path: Path) -> None:
    with pytest.raises(RunImpossible, match="own code fails on this machine"):
        compile_ahead(replace(job, files=project_files(code)), tmp_path / "compiled.tar", Event())
    assert list(tmp_path.glob("compiled.tar*")) == []


def test_stops_when_asked(job: RunSpec, tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(RunStopped, match="while it compiled"):
        compile_ahead(job, tmp_path / "compiled.tar", stop)
