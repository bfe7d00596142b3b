"""Readings of a seed's throughput: probes, runs of the seed, what is sent, and what the disk keeps."""

from pathlib import Path
from threading import Event

import pytest

from shared.contract import Contract
from shared.runs import CurvePoint, RunSeconds
from tests.support.messages import HARDWARE, make_run
from tests.support.preloaded_sandbox import PreloadedSandbox
from tests.support.tiny_project import Files, files_that_log_their_budget, seed_files
from worker.machine.hardware import detect_machine
from worker.runs.runner import LocalRunner, RunRequest
from worker.runs.throughput import (
    PROBE_AGAIN_SECONDS,
    SeedThroughputs,
    choose_probe_seconds,
    read_throughput,
)

SEED, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def local(tmp_path: Path, preloaded: PreloadedSandbox) -> LocalRunner:
    return LocalRunner("cpu", detect_machine("cpu", 1).hardware, preloaded, tmp_path / "cache", tmp_path / "runs")


def give_seconds(contract: Contract, seconds: float) -> Contract:
    return contract.model_copy(update={"budget": contract.budget.model_copy(update={"training_seconds": seconds})})


def files_of_a_metronome() -> Files:
    """The seed's, but a step is a thousandth of a second of the budget, on a machine of any speed."""
    files, loop = seed_files(), "number += 1\n        ctx.log(number, step())"
    assert files["train.py"].count(loop) == 1
    beats = "time.sleep(0.01)\n        ctx.log(round(1000 * ctx.progress() * ctx.budget_seconds), 2.0)"
    return files | {"train.py": "import time\n" + files["train.py"].replace(loop, beats)}


def test_a_probe_finds_what_a_run_of_the_seed_finds(local: LocalRunner, contract: Contract) -> None:
    """In a fraction of its time, and with scorer and hosts left out. A busy machine tells of steps late."""
    told: list[str] = []
    request = RunRequest(give_seconds(contract, 16.0), SEED, files_of_a_metronome(), seed=7)
    probed = local.probe(request, told.append, Event())
    assert any("trying for 2 s" in line for line in told), told
    short = RunRequest(give_seconds(contract, 2.0), SEED, files_of_a_metronome(), seed=7)
    found = read_throughput(local.measure(short, lambda _: None, told.append, Event()))
    for throughput in (probed, found):
        assert throughput is not None and 250 < throughput < 4000


def test_a_paced_run_has_its_share_of_the_budget(local: LocalRunner, contract: Contract) -> None:
    """A hand-over takes at most half of a budget."""
    request = RunRequest(give_seconds(contract, 2.0), SEED, files_that_log_their_budget(), seed=7, pace=4.0)
    report = local.measure(request, lambda _: None, lambda _: None, Event())
    assert 4.0 <= report.curve[0].loss < 8.0, report.reason


def test_a_seed_that_crashes_has_no_throughput(local: LocalRunner, contract: Contract) -> None:
    files = seed_files() | {"train.py": "def build(config): raise ValueError\n"}
    assert local.probe(RunRequest(give_seconds(contract, 16.0), SEED, files, seed=7), lambda _: None, Event()) is None


def test_short_budgets_are_not_probed(local: LocalRunner, contract: Contract) -> None:
    request = RunRequest(give_seconds(contract, 2.0), SEED, seed_files(), seed=7)
    assert local.probe(request, lambda _: None, Event()) is None and choose_probe_seconds(2.0, 1) is None
    assert (choose_probe_seconds(300, 1), choose_probe_seconds(40, 2)) == (8.0, 5.0)


def test_a_run_of_the_seed_is_a_reading_without_its_warm_up() -> None:
    curve = [CurvePoint(step=step, seconds=10 + step / 20, loss=3.0) for step in range(0, 201, 10)]
    seconds = RunSeconds(starting=1, training=20, scoring=1, total=22)
    run = make_run(SEED, 3.0, steps=200, tokens=2000, curve=curve, seconds=seconds)
    assert read_throughput(run) == pytest.approx(200)
    assert read_throughput(run.model_copy(update={"tokens": 0})) == pytest.approx(20), "steps, where none are counted"
    assert read_throughput(make_run(SEED, None)) is None
    assert read_throughput(run.model_copy(update={"curve": []})) is None


def test_what_is_sent_is_a_median_that_stays(tmp_path: Path) -> None:
    moment = [1e9]
    seeds = SeedThroughputs(tmp_path / "t.json", HARDWARE, lambda: moment[0])
    assert seeds.newest == (None, None) and not seeds.is_due(SEED), "an unknown seed is read when it is asked for"
    for reading, sent in ((100.0, 100.0), (104.0, 100.0), (300.0, 104.0), (106.0, 104.0), (None, 104.0)):
        seeds.add(SEED, reading)
        assert seeds.newest == (SEED, sent)
    assert not seeds.is_due(SEED)
    moment[0] += PROBE_AGAIN_SECONDS
    assert seeds.is_due(SEED)
    seeds.add(OTHER, None)
    assert seeds.newest == (OTHER, None)


def test_readings_outlive_the_process_but_not_the_hardware(tmp_path: Path) -> None:
    SeedThroughputs(tmp_path / "t.json", HARDWARE).add(SEED, 100.0)
    assert SeedThroughputs(tmp_path / "t.json", HARDWARE).newest == (SEED, 100.0)
    other = HARDWARE.model_copy(update={"memory_mib": 99})
    assert SeedThroughputs(tmp_path / "t.json", other).newest == (None, None)
    (tmp_path / "t.json").write_text("{")
    assert SeedThroughputs(tmp_path / "t.json", HARDWARE).newest == (None, None)
