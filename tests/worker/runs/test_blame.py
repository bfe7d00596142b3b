"""A machine's fault is never a commit's: a crash is blamed on a commit only where the project's own code runs."""

from pathlib import Path
from threading import Event

import pytest

from shared.contract import Contract
from shared.runs import RunOutcome, RunReport
from tests.support.preloaded_sandbox import PreloadedSandbox
from tests.support.tiny_project import Files, seed_files
from worker.data.prepare import PreparedData
from worker.machine.hardware import detect_machine
from worker.runs.runner import LocalRunner, RunRequest, compile_ahead
from worker.runs.spec import MachineFault, RunImpossible, RunSpec

NO_COMPILER = """
def train(ctx, model):
    os.environ["PATH"] = "/nowhere"
    torch.compile(lambda x: x.sin() + 1)(torch.ones(8))
"""
NO_HEADERS = """
def train(ctx, model):  # as Triton builds its launcher, with the folder of a Python that has no headers
    import subprocess, tempfile
    folder = tempfile.mkdtemp()
    open(f"{folder}/main.c", "w").write("#include <Python.h>")
    subprocess.check_call(["gcc", f"{folder}/main.c", "-shared", "-fPIC", "-o", f"{folder}/a.so", f"-I{folder}"])
"""
RAISES = """
def train(ctx, model):
    raise {error}
"""
OLD_CARD = RAISES.format(
    error='RuntimeError("CUDA error: no kernel image is available for execution on the device\\n'
    'CUDA kernel errors might be asynchronously reported at some other API call.\\nCompile with `TORCH_USE_CUDA_DSA`")'
)
NO_DRIVER = RAISES.format(error='OSError("libcuda.so.1: cannot open shared object file: No such file or directory")')
NO_MEMORY = RAISES.format(error='torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")')
BROKEN = RAISES.format(error='KeyError("a mistake")')
CASES = {
    "no compiler": (NO_COMPILER, "apt-get install gcc"),
    "no headers": (NO_HEADERS, "apt-get install python3-dev"),
    "old card": (OLD_CARD, "no kernel image is available.*cu126"),
    "no driver": (NO_DRIVER, "ldconfig"),
    "no memory": (NO_MEMORY, "end other programs"),
}


def files_with(code: str) -> Files:
    files = seed_files()
    return files | {"train.py": "import os\n" + files["train.py"] + code}


@pytest.fixture
def local(tmp_path: Path, preloaded: PreloadedSandbox) -> LocalRunner:
    return LocalRunner(
        "cpu", detect_machine("cpu", 1).hardware, preloaded, tmp_path / "cache", tmp_path / "runs", smoke_seconds=0.2
    )


def measure(local: LocalRunner, contract: Contract, code: str, own: str = "") -> tuple[RunReport, list[str]]:
    told: list[str] = []
    request = RunRequest(contract, "b" * 40, files_with(code), 7, untouched=files_with(own))
    return local.measure(request, lambda _: None, told.append, Event()), told


@pytest.mark.parametrize(("code", "remedy"), CASES.values(), ids=CASES)
def test_own_code_that_does_not_start_stops_the_worker_with_reason_and_remedy(
    code: str, remedy: str, contract: Contract, data: PreparedData, preloaded: PreloadedSandbox, tmp_path: Path
) -> None:
    limits = contract.limits.model_copy(update={"compiled_mib": 1})
    contract, hardware = contract.model_copy(update={"limits": limits}), detect_machine("cpu", 1).hardware
    job = RunSpec(files_with(code), "c" * 40, contract, 7, "cpu", 1, data, preloaded, hardware, tmp_path / "run")
    with pytest.raises(MachineFault, match=rf"(?i)^the project's own code fails on this machine: .*{remedy}") as fault:
        compile_ahead(job, tmp_path / "compiled.tar", Event())
    assert "\n" not in str(fault.value)


def test_a_crash_is_the_commits_once_the_projects_own_code_has_run_here(local: LocalRunner, contract: Contract) -> None:
    for _ in range(2):
        report, told = measure(local, contract, BROKEN)
        assert (report.outcome, report.frame.partition(":")[0]) == (RunOutcome.CRASHED, "train.py")
    assert not any("own code" in line for line in told), "it is tried once"
    report, told = measure(local, contract, NO_MEMORY)
    assert report.outcome is RunOutcome.CRASHED, "this commit alone takes too much"
    assert told == ["the run crashed: trying whether the project's own code runs on this machine"]


def test_a_run_that_goes_well_shows_that_the_machine_works(local: LocalRunner, contract: Contract) -> None:
    assert measure(local, contract, "WELL = 1\n", own="OWN = 1\n")[0].outcome is RunOutcome.OK
    report, told = measure(local, contract, BROKEN, own="OWN = 1\n")
    assert (report.outcome, told) == (RunOutcome.CRASHED, []), "the device is not kept from the next job"


@pytest.mark.parametrize("code", ["", BROKEN], ids=["the project's own", "another"])
def test_a_crash_is_the_machines_where_the_projects_own_code_crashes(
    local: LocalRunner, contract: Contract, code: str
) -> None:
    """Whichever of the two was to be measured, no agent is asked to repair it."""
    with pytest.raises(MachineFault, match="Free its memory"):
        measure(local, contract, code or NO_MEMORY, own=NO_MEMORY)
    with pytest.raises(RunImpossible, match=r"own code fails on this machine: train.py raised KeyError") as unknown:
        measure(local, contract, code or BROKEN, own=BROKEN)
    assert not isinstance(unknown.value, MachineFault), "which may be the project's mistake: others' jobs go on"


def test_a_machine_that_breaks_later_is_found(local: LocalRunner, contract: Contract) -> None:
    """A driver that is lost shows in the project's own code, too, though that has run before."""
    lost = RAISES.format(error='RuntimeError("CUDA error: GPU is lost")')
    failure = RAISES.format(error='RuntimeError("CUDA error: unspecified launch failure")')
    assert measure(local, contract, BROKEN)[0].outcome is RunOutcome.CRASHED
    for words in (lost, failure):  # the second is what a wrong kernel says, too
        with pytest.raises(MachineFault, match="dmesg"):
            measure(local, contract, words, own=lost)
    report, told = measure(local, contract, failure)
    assert report.outcome is RunOutcome.CRASHED and len(told) == 1, (
        "the project's own code ran: the commit's own kernel"
    )
