"""worker/runs/runner.py, with the real sandbox, data and training."""

from collections.abc import Mapping
from pathlib import Path
from threading import Event

import pytest

from shared.contract import Contract, ContractError, Rung
from shared.leases import Phase
from shared.runs import DeviceKind, RunOutcome
from tests.support.preloaded_sandbox import PreloadedSandbox
from tests.support.tiny_project import files_that_log_their_budget, seed_files
from worker.machine.hardware import detect_machine
from worker.runs.runner import KEPT_RUNS, LocalRunner, RunRequest
from worker.runs.spec import RunImpossible, RunProgress, RunStopped


@pytest.fixture
def local(tmp_path: Path, preloaded: PreloadedSandbox) -> LocalRunner:
    return LocalRunner("cpu", detect_machine("cpu", 1).hardware, preloaded, tmp_path / "cache", tmp_path / "runs")


def test_prepares_data_once_measures_and_keeps_the_last_runs(
    local: LocalRunner,
    contract: Contract,
) -> None:
    for number in range(1, 31):
        (local.runs / f"{number:06d}-{'a' * 10}").mkdir(parents=True)
    told: list[str] = []
    phases: list[Phase] = []

    def follow(progress: RunProgress) -> None:
        phases.append(progress.phase)

    request = RunRequest(contract, "b" * 40, seed_files(), seed=7)
    reports = [local.measure(request, follow, told.append, Event()) for _ in range(2)]
    assert [r.outcome for r in reports] == [RunOutcome.OK, RunOutcome.OK], reports[0].reason
    assert reports[0].seed == 7 and reports[0].commit_sha == "b" * 40
    assert len(told) == len(set(told)) == 3  # download, check and preparation, each said once
    assert phases[0] is Phase.STARTING and {Phase.TRAINING, Phase.SCORING} <= set(phases)
    folders = sorted(path.name for path in local.runs.iterdir())
    assert len(folders) == KEPT_RUNS
    assert folders[-2:] == [f"000031-{'b' * 10}", f"000032-{'b' * 10}"]
    assert (local.runs / folders[-1] / "result.json").exists()


ADDS_A_PARAMETER = """
def train(ctx, model):
    model.surprise = nn.Parameter(torch.zeros(1))
    ctx.start()
    ctx.log(1, 5.0)
"""


def test_new_code_is_tried_first_and_what_its_host_cannot_load_costs_seconds(
    local: LocalRunner, contract: Contract
) -> None:
    told: list[str] = []
    files = seed_files()
    broken = files | {"train.py": files["train.py"] + ADDS_A_PARAMETER}
    local.smoke_seconds = 0.1
    patient = contract.model_copy(update={"budget": contract.budget.model_copy(update={"training_seconds": 600})})
    report = local.measure(
        RunRequest(patient, "b" * 40, broken, 7, try_first=True), lambda _: None, told.append, Event()
    )
    assert report.outcome is RunOutcome.CRASHED and report.metric is None
    assert report.reason.startswith("in a smoke run of 0.1 s: ") and "loading state_dict" in report.reason
    assert report.seconds.training < 600, "the whole budget was not spent"
    report = local.measure(
        RunRequest(contract, "c" * 40, files, 7, try_first=True), lambda _: None, told.append, Event()
    )
    assert report.outcome is RunOutcome.OK and report.seconds.training > 0.3
    assert told[-2:] == ["new code is tried for 0.1 s first"] * 2


def test_a_run_on_a_rung_has_its_budget_and_its_settings_and_the_same_data(
    local: LocalRunner, contract: Contract
) -> None:
    rung = Rung(name="long", training_seconds=20.0, settings={"scored_bytes": 4096})
    contract = contract.model_copy(update={"rungs": [rung]})
    told: list[str] = []
    files = files_that_log_their_budget()
    on_rung, ordinary = (
        local.measure(RunRequest(contract, "b" * 40, files, 7, rung=name), lambda _: None, told.append, Event())
        for name in ("long", None)
    )
    assert on_rung.outcome is ordinary.outcome is RunOutcome.OK, on_rung.reason + ordinary.reason
    assert ordinary.curve[0].loss < contract.budget.training_seconds and 10 <= on_rung.curve[0].loss < 20
    assert on_rung.scored_bytes < 0.7 * ordinary.scored_bytes
    assert told.count("preparing the data") == 1
    with pytest.raises(ContractError, match="no rung 'longer'"):
        local.measure(
            RunRequest(contract, "b" * 40, seed_files(), 7, rung="longer"), lambda _: None, told.append, Event()
        )


def test_a_short_run_is_its_own_smoke_run(local: LocalRunner, contract: Contract) -> None:
    told: list[str] = []
    request = RunRequest(contract, "b" * 40, seed_files(), 7, try_first=True)
    assert local.measure(request, lambda _: None, told.append, Event()).outcome is RunOutcome.OK
    assert not any("tried" in line for line in told)


@pytest.mark.parametrize("moment", ["downloading", "preparing the data"])
def test_stopping_while_data_is_prepared(local: LocalRunner, contract: Contract, moment: str) -> None:
    stop = Event()

    def tell(line: str) -> None:
        if line.startswith(moment):
            stop.set()

    with pytest.raises(RunStopped, match="prepared the project's data"):
        local.measure(RunRequest(contract, "b" * 40, seed_files(), 7), lambda _: None, tell, stop)
    assert stop.is_set()
    assert not local.runs.exists() or not list(local.runs.iterdir())


def test_the_untouched_code_compiles_once_for_all_runs(local: LocalRunner, contract: Contract) -> None:
    """Each device, torch and root has an archive of its own; so has nobody who did not ask for one, and no CPU."""
    told: list[str] = []
    limits, budget = {"compiled_mib": 1}, {"training_seconds": 0.2, "handover_seconds": 60}
    asked = contract.model_copy(
        update={
            "limits": contract.limits.model_copy(update=limits),
            "budget": contract.budget.model_copy(update=budget),
        }
    )
    untouched = seed_files()
    edited = untouched | {"train.py": "raise RuntimeError"}

    def archives() -> set[str]:
        return {path.name for path in (local.cache / "compiled").glob("*")}

    def measure(contract: Contract, untouched: Mapping[str, str] | None) -> RunOutcome:
        request = RunRequest(contract, "b" * 40, edited, 7, untouched=untouched)
        return local.measure(request, lambda _: None, told.append, Event()).outcome

    measure(asked, untouched)
    local.hardware = local.hardware.model_copy(update={"kind": DeviceKind.CUDA})  # and trains on the CPU all the same
    measure(contract, untouched)
    measure(asked, None)
    assert archives() == set()
    assert measure(asked, untouched) is RunOutcome.CRASHED, "the archive is not of the edited file"
    (first,) = archives()
    assert first.startswith("gpt-cpu-") and first.endswith(".tar")
    measure(asked, untouched)
    assert archives() == {first}
    measure(asked, untouched | {"train.py": untouched["train.py"] + "\n"})
    assert len(archives()) == 2
    assert told.count("compiling the project's own code once for all runs") == 2
    with pytest.raises(RunImpossible, match="own code fails"):
        measure(asked, edited)
    assert len(archives()) == 2, "code that does not start leaves none"
