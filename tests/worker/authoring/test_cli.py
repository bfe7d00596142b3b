"""worker/authoring/cli.py, with real sandboxes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.runs import RunReport
from tests.worker.authoring.conftest import Command, edit
from tests.worker.conftest import LiveCoordinator
from worker.authoring.local_run import read_tree

PROGRAM = str(Path(sys.executable).with_name("swarm-worker"))


def test_runs_a_work_tree_and_prints_its_summary(command: Command, project: Path) -> None:
    done = command("run-local", project)
    assert done.status == 0
    summary = dict(line.split(":", 1) for line in done.stdout.splitlines())
    assert float(summary["milliseconds"]) > 0
    assert summary["outcome"].strip() == "ok" and summary["seed"].strip() == "1"
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["preparing", "starting", "training", "scoring"]


def test_writes_json_lines_for_programs(command: Command, project: Path) -> None:
    done = command("run-local", project, "--json", "--seed", "7")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    progress = [event for event in events if event["event"] == "progress"]
    assert {event["phase"] for event in progress} == {"starting", "training", "scoring"}
    assert set(progress[-1]) == {
        "event", "phase", "step", "loss", "tokens", "tokens_per_second", "share", "peak_memory_mib",
    }  # fmt: skip
    result = events[-1]
    assert result.pop("event") == "result"
    assert RunReport.model_validate(result).seed == 7


def test_the_name_of_a_tree_follows_its_content(project: Path) -> None:
    first = read_tree(project).sha
    assert read_tree(project).sha == first
    edit(project, "solution.py", "CHUNK = 4096", "CHUNK = 1024")
    assert read_tree(project).sha != first


def test_a_run_without_a_metric_is_an_error_with_its_last_lines(command: Command, project: Path) -> None:
    edit(project, "solution.py", '    return b""', '    print("building")\n    return examples[99]')
    done = command("run-local", project)
    assert done.status == 1
    assert "crashed" in done.stdout
    assert "solution.py raised IndexError: list index out of range" in done.stdout
    assert "in build: return examples[99]" in done.stdout
    assert "building\n" in done.stderr.partition("The last lines that it printed:")[2]


def test_a_wrong_answer_is_invalid(command: Command, project: Path) -> None:
    edit(project, "solution.py", "[:10]", "[:9]")
    done = command("run-local", project)
    assert (done.status, "for one of the texts the answer was" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("run-local", "/nowhere"), 2, "/nowhere is not a folder"),
        (("run-local", "/usr"), 1, "/usr has no swarm.toml"),
        (("noise", "/usr"), 1, "/usr has no swarm.toml"),
        (("check", "/usr"), 1, "/usr has no swarm.toml"),
        (("prepare", "/usr"), 1, "/usr has no swarm.toml"),
        (("prepare", "/nowhere"), 2, "/nowhere is not a folder"),
        (("prepare", "gpt", "--coordinator", "http://127.0.0.1:1"), 1, "no answer from http://127.0.0.1:1"),
        (("new-project", "/usr"), 2, "/usr is not empty: choose a new folder"),
        (("new-project", "/proc/nothing"), 1, "cannot write to /proc/nothing"),
        (("run-local",), 2, "SEED"),
    ],
)
def test_a_bad_situation_is_one_clear_line(
    command: Command, arguments: tuple[str, ...], status: int, words: str
) -> None:
    done = command(*arguments)
    assert (done.status, done.stdout) == (status, "")
    assert words in done.stderr


def test_a_device_that_is_not_there(command: Command, project: Path) -> None:
    for device, status in (("tpu", 2), ("cuda:7", 1)):
        done = command("run-local", project, "--device", device)
        assert (done.status, len(done.stderr.splitlines())) == (status, 1)


def test_says_what_keeps_data_from_being_prepared(command: Command, project: Path) -> None:
    edit(project, "swarm.toml", "words = 4000", "words = -1")
    done = command("prepare", project)
    assert done.status == 1
    assert "the project's data could not be prepared" in done.stderr.splitlines()[-1]


def test_prepares_ahead_of_time(command: Command, project: Path) -> None:
    done = command("prepare", project)
    assert done.status == 0
    assert (Path(done.stdout.strip()) / "train.bin").exists()
    assert "preparing" not in command("run-local", project).stderr


def test_prepares_a_project_by_its_name(command: Command, live: LiveCoordinator, tmp_path: Path) -> None:
    """Whatever this folder holds: what the coordinator says is prepared, and a worker then finds it done."""
    done = command("prepare", "fast-words", "--coordinator", live.url)
    assert done.status == 0, done.stderr
    assert (Path(done.stdout.strip()) / "train.bin").exists()
    assert "preparing" not in command("run-local", tmp_path / "fast-words").stderr
    done = command("prepare", "slow-words", "--coordinator", live.url)
    assert (done.status, done.stdout) == (1, "")
    assert f"slow-words is neither a folder nor a project of {live.url}" in done.stderr


def test_measures_noise(command: Command, project: Path) -> None:
    done = command("noise", project, "--runs", "2")
    assert done.status == 0
    rows = {line[:14].strip(): line[14:].split() for line in done.stdout.splitlines()}
    assert rows["varied seeds"][0] == rows["same seed"][0] == "2"
    mean, sd, low, high = map(float, rows["same seed"][1:])
    assert low <= mean <= high and 0 <= sd <= high - low
    assert "1 cores" in done.stdout and "evidence" not in done.stdout
    assert [line for line in done.stderr.splitlines() if line.startswith("run ") and "milliseconds" in line][-1]
    last = json.loads(command("noise", project, "--runs", "2", "--json").stdout.splitlines()[-1])
    assert last["event"] == "noise" and last["varied_seeds"]["runs"] == 2 and "cpu" in last["hardware_class"]


def test_noise_of_runs_that_fail_is_none(command: Command, project: Path) -> None:
    edit(project, "solution.py", "[:10]", "[:9]")
    done = command("noise", project)
    assert (done.status, done.stdout) == (1, "")
    assert "a run ended as invalid: for one of the texts" in done.stderr.splitlines()[-1]


def test_checks_a_seed(command: Command, project: Path) -> None:
    done = command("check", project, "--runs", "2")
    assert done.status == 0
    lines = done.stdout.splitlines()
    assert any("it runs: milliseconds" in line for line in lines)
    assert any("over 2 seeds" in line for line in lines)


def test_a_check_that_finds_an_error_runs_nothing(command: Command, project: Path) -> None:
    (project / "harness" / "scorer.py").unlink()
    done = command("check", project)
    assert done.status == 1
    assert "error    commands.scorer = 'harness.scorer' is not a module of this folder" in done.stdout
    assert "starting" not in done.stderr
    assert json.loads(command("check", project, "--json").stdout.splitlines()[-1])["event"] == "remark"


def test_ctrl_c_ends_a_run_at_once(project: Path, tmp_path: Path) -> None:
    edit(project, "solution.py", '    return b""', "    import time\n    time.sleep(999)")
    edit(project, "swarm.toml", "training_seconds = 5 ", "training_seconds = 999 ")
    environment = os.environ | {"SWARM_DATA_DIR": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path)}
    with subprocess.Popen(
        [PROGRAM, "run-local", str(project)], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("training") for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        assert process.stderr.read().splitlines()[-1] == "swarm-worker: stopped"


@pytest.mark.parametrize("name", ["run-local", "noise", "check", "prepare", "new-project"])
def test_help_teaches_with_examples(command: Command, name: str) -> None:
    done = command(name, "--help")
    assert done.status == 0
    assert f"      swarm-worker {name} " in done.stdout or f"    swarm-worker {name} " in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
