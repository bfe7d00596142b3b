"""worker/laboratory.py, with the real sandbox, data and training."""

from pathlib import Path
from threading import Event

import pytest

from shared.contract import Contract
from shared.leases import Phase
from shared.runs import RunOutcome
from tests.support.tiny_project import seed_files
from worker.hardware import detect_hardware
from worker.laboratory import KEPT_RUNS, LocalLaboratory, Sample
from worker.sandbox import Sandbox
from worker.training import Progress, RunStopped


@pytest.fixture
def local(tmp_path: Path, sandbox: Sandbox) -> LocalLaboratory:
    return LocalLaboratory("cpu", detect_hardware("cpu", 1), sandbox, tmp_path / "cache", tmp_path / "runs")


def test_prepares_data_once_measures_and_keeps_the_last_runs(
    local: LocalLaboratory,
    contract: Contract,
) -> None:
    for number in range(1, 31):
        (local.runs / f"{number:06d}-{'a' * 10}").mkdir(parents=True)
    told: list[str] = []
    phases: list[Phase] = []

    def follow(progress: Progress) -> None:
        phases.append(progress.phase)

    sample = Sample(contract, "b" * 40, seed_files(), seed=7)
    reports = [local.measure(sample, follow, told.append, Event()) for _ in range(2)]
    assert [r.outcome for r in reports] == [RunOutcome.OK, RunOutcome.OK], reports[0].reason
    assert reports[0].seed == 7 and reports[0].commit_sha == "b" * 40
    assert len(told) == len(set(told)) == 3  # download, check and preparation, each said once
    assert phases[0] is Phase.STARTING and {Phase.TRAINING, Phase.SCORING} <= set(phases)
    folders = sorted(path.name for path in local.runs.iterdir())
    assert len(folders) == KEPT_RUNS
    assert folders[-2:] == [f"000031-{'b' * 10}", f"000032-{'b' * 10}"]
    assert (local.runs / folders[-1] / "result.json").exists()


def test_stopping_while_data_is_prepared(
    local: LocalLaboratory,
    contract: Contract,
) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(RunStopped, match="prepared the project's data"):
        local.measure(Sample(contract, "b" * 40, seed_files(), 7), lambda _: None, lambda _: None, stop)
    assert not local.runs.exists() or not list(local.runs.iterdir())
