"""Scorers draw from what the edited file cannot foresee, and score sealed data with a key only."""

from pathlib import Path
from time import process_time

import pytest

from shared.runs import RunOutcome
from tests.support.tiny_project import Files, seed_files
from tests.worker.runs.conftest import Measure
from worker.runs.processes import TRAINING_SEEDS, derive_draw, derive_substitution, derive_training_seed

SHORT, SEALED = {"training_seconds": 0.2}, {"holdout": "harness.scorer"}
KEYS = ["a1" * 32, "b2" * 32]

SAYS_ITS_DRAW = """
from harness.channel import run

def score(channel, begin, *descriptors):
    channel.send("ask", count=0)
    channel.expect("answered")
    channel.send("scored", metric=int(begin["draw"][:8], 16) + 0.5 * begin["sealed"], scored_bytes=1)

run(score)
"""
ANSWERS_ONCE = """
import os

from harness.channel import run

def serve(channel, begin, *shared):
    channel.send("imported")
    channel.expect("load")
    channel.send("loaded")
    channel.expect("ask")
    channel.send("answered")
    channel.expect("ask")

run(serve)
"""


@pytest.fixture
def files() -> Files:
    """The tiny project with a scorer that says what it was told; its host answers a single question."""
    return seed_files() | {"harness/scorer.py": SAYS_ITS_DRAW, "harness/host.py": ANSWERS_ONCE}


def number(draw: str) -> int:
    return int(draw[:8], 16)


def test_only_a_run_with_a_key_scores_sealed_data(measure_files: Measure, files: Files) -> None:
    report = measure_files(files, budget=SHORT, commands=SEALED)
    assert (report.outcome, report.reason) == (RunOutcome.OK, "")
    assert (report.metric, report.holdout_metric) == (number(derive_draw(7)), None)
    for key in KEYS:
        report = measure_files(files, budget=SHORT, commands=SEALED, holdout_key=key)
        assert (report.metric, report.holdout_metric) == (number(derive_draw(7)), number(key) + 0.5), report.reason


def test_a_project_without_sealed_data_has_none_to_report(measure_files: Measure, files: Files) -> None:
    report = measure_files(files, budget=SHORT, commands={"holdout": None}, holdout_key=KEYS[0])
    assert (report.outcome, report.holdout_metric) == (RunOutcome.OK, None)


def test_a_fault_on_sealed_data_is_the_runs(measure_files: Measure, files: Files) -> None:
    rejects = SAYS_ITS_DRAW.replace(
        '    channel.send("scored"', '    if begin["sealed"]:\n        raise Rejected("no")\n    channel.send("scored"'
    ).replace("import run", "import Rejected, run")
    report = measure_files(files | {"harness/scorer.py": rejects}, budget=SHORT, commands=SEALED, holdout_key=KEYS[0])
    assert (report.outcome, report.reason) == (RunOutcome.INVALID, "no")
    assert report.metric is None and report.holdout_metric is None


def test_the_metric_of_sealed_data_stays_off_the_disk(measure_files: Measure, files: Files, tmp_path: Path) -> None:
    report = measure_files(files, budget=SHORT, commands=SEALED, holdout_key=KEYS[0])
    written = "".join((tmp_path / "run" / name).read_text() for name in ("result.json", "summary.txt", "log.txt"))
    assert str(number(derive_draw(7))) in written and report.holdout_metric is not None
    assert str(number(KEYS[0])) not in written


def test_what_an_edited_file_knows_tells_it_no_draw() -> None:
    """It knows 16 bits, which many seeds of leases share, and to try them all takes at least 20 days of a core."""
    before, seeds = process_time(), range(2**31 - 20, 2**31)
    told = {derive_training_seed(seed) for seed in seeds}
    assert (process_time() - before) / len(seeds) * 2**31 > 20 * 24 * 3600
    assert max(told) < TRAINING_SEEDS == 2**16 and len(told) >= 18
    assert len({derive_draw(seed) for seed in seeds} | {derive_substitution(seed) for seed in seeds}) == 40
    assert derive_draw(7) == derive_draw(7) and len(derive_draw(7)) == 64


def test_the_seeds_own_scorer_scores_windows_that_ordinary_runs_never_see(measure_files: Measure) -> None:
    report = measure_files(seed_files(), commands=SEALED, holdout_key=KEYS[0])
    assert (report.outcome, report.reason) == (RunOutcome.OK, "")
    assert report.metric is not None and report.holdout_metric is not None
    assert report.holdout_metric != report.metric
    assert abs(report.holdout_metric - report.metric) < 0.3, "both are texts of one kind"
