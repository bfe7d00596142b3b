"""Cheats, each as a whole file, and their outcome in the real harness."""

from contextlib import suppress
from pathlib import Path
from threading import Event

import psutil
import pytest

from shared.leases import Phase
from shared.runs import RunOutcome, RunReport
from tests.seed.cheats.attempts import (
    APART,
    CHANGES,
    EXPECTED,
    HERE,
    HONEST,
    PEEKS,
    REMEMBERS,
    SECRET,
    SHIPS,
    MakeJob,
    MeasureFile,
    base_files,
    ship,
    with_edit,
)
from worker.data.prepare import PreparedData
from worker.runs.runner import measure
from worker.runs.spec import RunProgress


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
    if expected in (PEEKS, CHANGES, REMEMBERS):  # with a number, trial and error could come closer to a threshold
        assert not any(letter.isdigit() for letter in report.reason)
    assert RunReport.model_validate_json((tmp_path / "result.json").read_text()) == report
    assert SECRET not in report.log_tail
    assert not [process for process in psutil.Process().children(recursive=True) if is_trainer(process)]


def is_trainer(process: psutil.Process) -> bool:
    """Whether the process was started as a trainer and still runs."""
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE and "harness.trainer" in process.cmdline()
    return False


def test_no_trainer_goes_on_while_scoring_is_reported(make_job: MakeJob) -> None:
    """It could write a newer result over the one that it has handed over."""
    alive: list[bool] = []

    def look(progress: RunProgress) -> None:
        if progress.phase is Phase.SCORING:
            alive.append(any(map(is_trainer, psutil.Process().children(recursive=True))))

    measure(make_job(base_files(), apart="harness.trainer"), look, Event())
    assert alive == [False]


def test_training_early_gains_nothing_here(measure_file: MeasureFile, honest: float) -> None:
    """Nothing is put back, but there was nothing to learn from: random tokens."""
    report = measure_file(with_edit(HERE / "files" / "trains_early.py"))
    assert report.metric is not None
    assert report.metric > honest - 0.05


@pytest.mark.parametrize("name", ["ignores_the_clock", "patches_time"])
def test_the_clock_is_the_supervisors(name: str, measure_file: MeasureFile) -> None:
    report = measure_file(with_edit(HERE / "files" / f"{name}.py"), training_seconds=0.5, handover_seconds=1)
    assert report.outcome is RunOutcome.TIMEOUT
    assert report.reason == "training and handing over the result took more than 0.5 + 1 s: it did not return in time"


def test_a_favourite_seed_is_no_favourite(measure_file: MeasureFile, honest: float) -> None:
    """It is scored at what it learnt. Its luck belongs to one numbering of tokens, and other seeds have others."""
    first, second = (
        measure_file(with_edit(HERE / "files" / "ignores_the_seed.py"), seed=seed).metric for seed in (1, 2)
    )
    assert first != pytest.approx(second, abs=1e-4)
    assert first == pytest.approx(honest, abs=0.3)


@pytest.mark.parametrize("name", SHIPS)
def test_a_text_learnt_by_heart_does_not_fit(name: str, measure_file: MeasureFile, data: PreparedData) -> None:
    report = measure_file(ship(name, data))
    assert report.outcome is RunOutcome.INVALID
    assert "bytes when compressed; the contract allows 4,096" in report.reason


def test_a_cache_is_thrown_away(measure_file: MeasureFile, honest: float, compiled: Path) -> None:
    """The archive that trainers begin with is made of the project's own code; what a run adds to its copy is gone."""
    files, before = with_edit(HERE / "files" / "poisons_the_cache.py"), compiled.read_bytes()
    runs = [measure_file(files, apart="harness.trainer", compiled=compiled) for _ in range(2)]
    assert [run.metric for run in runs] == pytest.approx([honest] * 2, abs=1e-4)
    assert all("kept in 3 places" in run.log_tail for run in runs)
    assert compiled.read_bytes() == before


@pytest.mark.parametrize(
    "name",
    [path.stem for path in sorted((HERE / "controls").glob("*.py"))],
)
def test_honest_code_passes(name: str, measure_file: MeasureFile, honest: float) -> None:
    files = with_edit(HERE / "controls" / f"{name}.py")
    if name == "stateful_but_causal":
        assert measure_file(files).metric == honest
    total = "return nats + windows[:, 1:].size * comparison.correction"
    assert total in files["harness/scorer.py"]
    files["harness/scorer.py"] = files["harness/scorer.py"].replace(total, "return comparison.correction")
    report = measure_file(files)
    assert (report.outcome, report.reason) == (RunOutcome.OK, "")
    assert report.metric == pytest.approx(0, abs=1e-10 if name in ("long_convolution", "experts") else 0)  # of rounding
