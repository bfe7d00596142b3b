"""Real runs of files in the real sandbox, and the loop without defences.

The processes of most runs share a sandbox (see tests/support/preloaded_sandbox.py); a
file that tries to leave it has its own.
"""

import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy
import pytest

from shared.contract import Contract
from shared.runs import RunReport
from tests.seed.cheats.attempts import HERE, SECRET, MakeJob, MeasureFile, Naive, Naively, base_files, choose_fixed
from tests.support.preloaded_sandbox import PreloadedSandbox
from tests.support.tiny_project import SEED, Files, pack_text, serve_text, tiny_contract
from worker.data.prepare import PreparedData, prepare_data
from worker.git.repository import write_worktree
from worker.machine.hardware import detect_machine
from worker.runs.runner import compile_ahead, measure
from worker.runs.spec import RunSpec
from worker.sandbox.base import ProcessLimits, SandboxRequest

NAIVE = HERE / "naive.py"


@pytest.fixture(scope="session")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    with serve_text(tmp_path_factory.mktemp("web")) as address:
        yield tiny_contract(address, pack_text())


@pytest.fixture(scope="session")
def data(contract: Contract, preloaded: PreloadedSandbox, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare_data(contract, base_files(), tmp_path_factory.mktemp("cache"), preloaded, lambda progress: None)


@pytest.fixture(scope="session")
def make_job(
    contract: Contract, data: PreparedData, preloaded: PreloadedSandbox, tmp_path_factory: pytest.TempPathFactory
) -> MakeJob:
    """Runs of files; by default with so much time that a busy machine is not the reason why one fails."""
    hardware = detect_machine("cpu", 1).hardware

    def make(files: Files, seed: int = 7, folder: Path | None = None, apart: str = "", **seconds: float) -> RunSpec:
        budget = {"training_seconds": 60, **seconds}
        changed = contract.model_copy(
            update={
                "budget": contract.budget.model_copy(update=budget),
                "limits": contract.limits.model_copy(update={"compiled_mib": 1}),
            }
        )
        sandbox, folder = preloaded.with_separate(apart), folder or tmp_path_factory.mktemp("run")
        return RunSpec(files, "c" * 40, changed, seed, "cpu", 1, data, sandbox, hardware, folder)

    return make


@pytest.fixture(scope="session")
def measure_file(make_job: MakeJob) -> MeasureFile:
    def run(files: Files, compiled: Path | None = None, **changes: Any) -> RunReport:
        return measure(replace(make_job(files, **changes), compiled=compiled), lambda progress: None, Event())

    return run


@pytest.fixture(scope="session")
def compiled(make_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled code of the untouched file; here only named."""
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


@pytest.fixture(scope="session")
def naively(
    data: PreparedData, preloaded: PreloadedSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Naively]:
    """Runs a file in the loop without defences, which itself runs in a sandbox: there, cheats do what they came for."""
    modules = {f"harness/{path.name}": path.read_text() for path in (SEED / "harness").glob("*.py")}
    tools = {path.name: path.read_text() for path in (NAIVE, NAIVE.with_name("derived_check.py"))}
    folder = write_worktree(tmp_path_factory.mktemp("naive") / "tree", modules | tools)
    numpy.savez(folder / "validation.npz", **choose_fixed(data))
    (folder / "train.bin").write_bytes(data.train.read_bytes())
    for name in ("validation.npz", "train.bin"):
        (folder / name).chmod(0o644)
    for parent in (folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = SandboxRequest(
        (sys.executable, "-B", "-P", "-m", "naive", str(theirs.fileno())),
        ProcessLimits(memory_mib=4096, processes=64, disk_mib=256),
        folder,
        descriptors=(theirs.fileno(),),
    )
    with ours, theirs:
        process = preloaded.start(request)
        theirs.close()

        def run(
            files: Files,
            seed: int = 7,
            check: str = "none",
            times: int = 1,
            old_result: float | None = None,
            linger_seconds: float = 0.0,
        ) -> Naive:
            asked = {"source": files["train.py"], "seed": seed, "check": check, "times": times}
            asked["environment"] = {"SWARM_TOKEN": SECRET}
            ours.send(json.dumps({**asked, "old_result": old_result, "linger_seconds": linger_seconds}).encode())
            packet = ours.recv(1 << 20)
            assert packet, process.kill().log_tail
            answer = json.loads(packet)
            assert answer["metric"] is not None, answer["log"]
            return Naive(answer["metric"], answer["log"])

        yield run
        process.kill()
