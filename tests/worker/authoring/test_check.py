"""worker/authoring/check.py: what reading a seed finds."""

from pathlib import Path

import pytest

from shared.runs import RunReport
from tests.support.messages import HARDWARE, make_run
from tests.support.tiny_project import SEED
from tests.worker.authoring.conftest import edit
from worker.authoring.check import Level, Remark, Spread, inspect, judge_noise, judge_run, runs_to_resolve
from worker.authoring.local_run import read_tree


def remarks(project: Path, level: Level) -> list[str]:
    return [remark.text for remark in inspect(read_tree(project), HARDWARE) if remark.level is level]


def test_finds_nothing_wrong_with_a_new_project(project: Path) -> None:
    assert remarks(project, Level.ERROR) == remarks(project, Level.WARNING) == []


@pytest.mark.parametrize("name", ["gpt-cpu", "codec"])
def test_our_seeds_can_be_published(name: str) -> None:
    assert remarks(SEED / name, Level.ERROR) == []


ERRORS = {
    "too large": ("swarm.toml", "max_bytes = 32768", "max_bytes = 99", "solution.py has"),
    "no Python": ("solution.py", "def build(", "def build)", "solution.py:12 is not Python"),
    "no module": ("swarm.toml", "harness.host", "harness.guest", "harness/guest.py is missing"),
    "own judge": (
        "swarm.toml",
        '["solution.py"]',
        '["solution.py", "harness/scorer.py"]',
        "commands.scorer is harness/scorer.py, which experiments may edit",
    ),
    "beside the judge": (
        "swarm.toml",
        '["solution.py"]',
        '["solution.py", "harness/channel.py"]',
        "experiments may edit harness/channel.py, beside the scorer",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_finds_what_is_unsafe(name: str, project: Path) -> None:
    file, old, new, words = ERRORS[name]
    edit(project, file, old, new)
    assert any(words in text for text in remarks(project, Level.ERROR))


WARNINGS = {
    "long hand-over": ("handover_seconds = 0.2", "handover_seconds = 0.5", "is 10% of the training"),
    "small effect": ("min_effect = 0.5", "min_effect = 0.01", "takes about 17187 runs of each commit"),
    "much memory": ("memory_mib = 1024", "memory_mib = 10485760", "is more than this machine has"),
    "plain http": (
        "[evidence]",
        '[[data.sources]]\nfile = "w"\nurl = "http://example.org/w"\nsha256 = "' + "0" * 64 + '"\n[evidence]',
        "plain http",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_warns(name: str, project: Path) -> None:
    old, new, words = WARNINGS[name]
    edit(project, "swarm.toml", old, new)
    assert any(words in text for text in remarks(project, Level.WARNING))
    assert remarks(project, Level.ERROR) == []


def test_warns_of_missing_words_and_constants(project: Path) -> None:
    (project / "program.md").unlink()
    edit(project, "solution.py", "CHUNK = 4096  # choices: 256, 1024, 4096, 16384", "CHUNK = min(4096, 10**6)")
    found = remarks(project, Level.WARNING)
    assert len(found) == 2
    assert "there is no program.md" in found[0] and "finds nothing to change" in found[1]


def judged(project: Path, report: RunReport) -> list[Remark]:
    return list(judge_run(report, read_tree(project).contract))


def test_judges_a_run(project: Path) -> None:
    fine, slow = judged(project, make_run("a" * 40, 2.5))  # of 29 s, 5 of which the contract calls training
    assert (fine.level, "milliseconds 2.5" in fine.text) == (Level.FINE, True)
    assert (slow.level, "only 5 s are the experiment's own" in slow.text) == (Level.WARNING, True)
    (crashed,) = judged(project, make_run("a" * 40, None, reason="it fell over"))
    assert (crashed.level, "it fell over" in crashed.text) == (Level.ERROR, True)
    assert Level.ERROR in {remark.level for remark in judged(project, make_run("a" * 40, 0.001))}


def test_judges_noise(project: Path) -> None:
    contract = read_tree(project).contract
    assert judge_noise(Spread((2.5, 2.6, 2.4)), contract).level is Level.FINE
    assert judge_noise(Spread((1.0, 4.0, 2.0)), contract).level is Level.WARNING


def test_counts_the_runs_that_an_effect_takes() -> None:
    assert runs_to_resolve(effect=1.0, noise_sd=0.1) == 1
    assert runs_to_resolve(effect=0.1, noise_sd=0.1) == 20
