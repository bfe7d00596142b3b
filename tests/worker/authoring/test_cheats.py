"""Edited files that cheat the harness which `new-project` writes, in real sandboxes, beside an honest one."""

from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from shared.runs import RunOutcome, RunReport
from shared.seeds import read_seed
from worker.authoring.new_project import write_project
from worker.data.prepare import prepare_data
from worker.machine.hardware import detect_machine
from worker.runs.runner import measure
from worker.runs.spec import RunSpec
from worker.sandbox.base import Sandbox

OWN = """
import json, os, sys, time

honest = answer

def find_host():
    frame = sys._getframe(1)
    while "channel" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["channel"], frame.f_locals["questions"], frame.f_locals["memory"]
"""
CHEATS = {
    "a child answers after the parent said so": (
        "def answer(built, text):\n    channel, questions, memory = find_host()\n"
        "    if os.fork() == 0:\n        time.sleep(0.2)\n"
        "        said = json.dumps(honest(built, text)).encode()\n        memory[: len(said)] = said\n"
        "        os._exit(0)\n    channel.send('answered', count=len(json.dumps(honest(built, text))))\n"
        "    time.sleep(9)\n",
        RunOutcome.INVALID,
    ),
    "answers are said ahead": (
        "def answer(built, text):\n    channel, questions, memory = find_host()\n    said = honest(built, text)\n"
        "    for _ in range(9):\n        channel.send('answered', count=len(json.dumps(said)))\n    return said\n",
        RunOutcome.INVALID,
    ),
    "the question is exchanged": (
        "def answer(built, text):\n    channel, questions, memory = find_host()\n"
        "    questions[:] = b'a' * len(questions)\n    return ['a']\n",
        RunOutcome.INVALID,
    ),
    "an answer to break terminals and reports": (
        "def answer(built, text):\n    channel, questions, memory = find_host()\n"
        "    said = bytes.fromhex('001b5b324ae280aeffeda080') * 20\n    memory[: len(said)] = said\n"
        "    channel.send('answered', count=2**53)\n    time.sleep(9)\n",
        RunOutcome.INVALID,
    ),
    "words of a broken machine": (
        "def answer(built, text):\n    raise OSError(28, 'No space left on device')\n",
        RunOutcome.CRASHED,
    ),
    "the scorer's verdict": (
        "def answer(built, text):\n    find_host()[0].send('scored', metric=0.02, scored_bytes=1)\n"
        "    return honest(built, text)\n",
        RunOutcome.CRASHED,
    ),
}
MeasureSolution = Callable[[str], RunReport]


@pytest.fixture(scope="module")
def measure_solution(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> MeasureSolution:
    folder = tmp_path_factory.mktemp("own")
    write_project(folder / "fast-words")
    contract, files = read_seed(folder / "fast-words")
    settings = contract.data.settings | {"texts": 4, "words": 1000}
    contract = contract.model_copy(update={"data": contract.data.model_copy(update={"settings": settings})})
    data = prepare_data(contract, files, folder / "cache", sandbox, lambda _: None)

    def run(code: str) -> RunReport:
        edited = files | {"solution.py": files["solution.py"] + OWN + "\n" + code}
        hardware = detect_machine("cpu", 1).hardware
        spec = RunSpec(edited, "c" * 40, contract, 7, "cpu", 1, data, sandbox, hardware, Path(folder / "run"))
        return measure(spec, lambda _: None, Event())

    return run


def test_an_honest_solution_passes(measure_solution: MeasureSolution) -> None:
    report = measure_solution("")
    assert (report.outcome, report.reason) == (RunOutcome.OK, "")


@pytest.mark.parametrize("name", CHEATS)
def test_has_no_metric(name: str, measure_solution: MeasureSolution) -> None:
    code, outcome = CHEATS[name]
    report = measure_solution(code)
    assert (report.outcome, report.metric) == (outcome, None)
    assert RunReport.model_validate_json(report.model_dump_json()) == report
    assert report.reason.isprintable()
