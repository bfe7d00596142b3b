"""The trainer of the next run starts while one is scored, which nobody notices but by the seconds that it saves."""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Event

import psutil
import pytest

from shared.contract import BudgetClock, Contract
from shared.leases import Phase
from shared.runs import RunOutcome, RunReport
from tests.support.tiny_project import codec_contract, codec_files, pack_text, serve_text
from worker.machine.hardware import detect_machine
from worker.runs import processes, started_trainer
from worker.runs.runner import LocalRunner, RunRequest
from worker.runs.spec import RunProgress
from worker.runs.started_trainer import COARSE_SECONDS, SPARE_CORES, TrainerAhead
from worker.sandbox.base import Sandbox, SandboxedProcess, SandboxRequest, SandboxUnavailable


class Witness:
    """A sandbox that remembers which modules it started, each with the phase of the run meanwhile."""

    def __init__(self, real: Sandbox) -> None:
        self.name, self.limits, self._real = real.name, real.limits, real
        self.phase: Phase | None = None
        self.started: list[tuple[str, Phase | None]] = []
        self.processes: list[SandboxedProcess] = []

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        self.started.append((request.argv[request.argv.index("-m") + 1], self.phase))
        self.processes.append(self._real.start(request))
        return self.processes[-1]

    def phases_of_trainers(self) -> list[Phase | None]:
        return [phase for module, phase in self.started if module == "harness.trainer"]


@pytest.fixture
def witness(sandbox: Sandbox) -> Witness:
    return Witness(sandbox)


@pytest.fixture
def request_of(tmp_path: Path) -> Iterator[Callable[[str], RunRequest]]:
    """Requests for runs of codec by CPU time, which differ in a comment."""
    with serve_text(tmp_path) as address:
        contract = codec_contract(address, pack_text())
        patient = {"clock": BudgetClock.CPU, "training_seconds": 20.0, "starting_seconds": 90.0}
        contract = contract.model_copy(update={"budget": contract.budget.model_copy(update=patient)})
        files = codec_files()

        def make(comment: str) -> RunRequest:
            return RunRequest(contract, "c" * 40, files | {"codec.py": f"{files['codec.py']}\n# {comment}\n"}, 7)

        yield make


@pytest.fixture
def local(tmp_path: Path, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalRunner]:
    monkeypatch.setattr(started_trainer, "SPARE_CORES", 1)
    one_core = frozenset([min(os.sched_getaffinity(0))])  # the same each time, whatever cores other tests hold
    monkeypatch.setattr(processes, "claim_cores", lambda _: nullcontext(one_core))
    runner = LocalRunner("cpu", detect_machine("cpu", 1).hardware, witness, tmp_path / "cache", tmp_path / "runs")
    yield runner
    runner.drop_ahead()


def measure(local: LocalRunner, request: RunRequest, following: RunRequest | None = None) -> RunReport:
    def follow(progress: RunProgress) -> None:
        assert isinstance(local.sandbox, Witness)
        local.sandbox.phase = progress.phase

    report = local.measure(request, follow, lambda _: None, Event(), lambda: following)
    assert report.outcome is RunOutcome.OK, report.reason
    return report


def test_the_next_run_begins_with_it_and_measures_the_same(
    local: LocalRunner, witness: Witness, request_of: Callable[[str], RunRequest]
) -> None:
    one, other = request_of("one"), request_of("other")
    measure(local, one, following=other)
    assert witness.phases_of_trainers() == [Phase.STARTING, Phase.SCORING]
    ahead = measure(local, other)
    assert len(witness.phases_of_trainers()) == 2, "it did not start its own"
    assert ahead.metric == measure(local, other).metric
    assert len(witness.phases_of_trainers()) == 3, "it serves one run"
    assert all(process.wait(0) is not None for process in witness.processes), "nothing is left"


def test_a_run_that_was_not_foretold_or_whose_trainer_has_ended_starts_its_own(
    local: LocalRunner, witness: Witness, request_of: Callable[[str], RunRequest]
) -> None:
    one, other = request_of("one"), request_of("other")
    measure(local, one, following=other)
    measure(local, one, following=other)
    assert witness.phases_of_trainers()[:4] == [Phase.STARTING, Phase.SCORING] * 2
    for process in witness.processes:
        process.kill()
    measure(local, other, following=one)
    assert witness.phases_of_trainers()[4:] == [Phase.STARTING, Phase.SCORING]
    local.drop_ahead()
    assert all(process.wait(0) is not None for process in witness.processes)


def test_none_starts_where_the_scoring_is_measured_by_wall_time(
    local: LocalRunner, witness: Witness, request_of: Callable[[str], RunRequest]
) -> None:
    request = request_of("one")
    budget = request.contract.budget.model_copy(update={"clock": BudgetClock.WALL})
    measure(
        local,
        replace(request, contract=request.contract.model_copy(update={"budget": budget})),
        following=request_of("other"),
    )
    assert witness.phases_of_trainers() == [Phase.STARTING]


class NoSandbox:
    """A sandbox that cannot start anything, and counts how often it was asked."""

    name, limits, asked = "none", (), 0

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        self.asked += 1
        raise SandboxUnavailable("none")


@pytest.mark.parametrize(
    ("device", "cores", "changes", "starts"),
    [
        ("cuda:0", SPARE_CORES, {}, True),
        ("cuda:0", SPARE_CORES - 1, {}, False),
        ("cuda:0", SPARE_CORES, {"answer_seconds": COARSE_SECONDS}, True),
        ("cuda:0", SPARE_CORES, {"answer_seconds": 1.0}, False),
        ("cpu", SPARE_CORES, {"clock": BudgetClock.CPU, "answer_seconds": 1.0}, True),
        ("cpu", SPARE_CORES - 1, {"clock": BudgetClock.CPU}, False),
        ("cpu", SPARE_CORES, {}, False),
    ],
)
def test_starts_only_where_it_takes_nothing_from_what_is_measured(
    device: str,
    cores: int,
    changes: dict[str, object],
    starts: bool,
    contract: Contract,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sandbox = NoSandbox()
    ahead = TrainerAhead(device, sandbox)
    ahead.following = lambda: RunRequest(contract, "c" * 40, {"train.py": ""}, 7)
    wall = {"clock": BudgetClock.WALL, "answer_seconds": None}
    budget = contract.budget.model_copy(update={**wall, **changes})
    ahead.start(budget, frozenset(range(cores)), Event())
    assert sandbox.asked == starts, "and that it cannot start is no error"
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1 << 30}))
    ahead.start(budget, frozenset(range(cores)), Event())
    assert sandbox.asked == starts, "nor where memory is short"
