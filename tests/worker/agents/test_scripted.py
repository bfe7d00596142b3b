"""worker/agents/scripted.py"""

import json
from pathlib import Path

import pytest

from shared.experiments import AxisDirection
from tests.support.messages import make_run
from tests.worker.agents.tasks import TRAIN, make_task, sha_of
from worker.agents.base import AgentError, AgentFinished
from worker.agents.scripted import ScriptedAgent, ScriptError, load_script

SCRIPT = """
[[steps]]
title = "More depth"
hypothesis = "Layers help."
axis = "DEPTH"
direction = "up"
value = "6"
[[steps.edits]]
file = "train.py"
search = "DEPTH: int = 4"
replace = "DEPTH: int = 6"
[[steps.edits]]
file = "train.py"
search = "BETA = 0.95"
replace = "BETA = 0.9"

[[steps]]
title = "A new file"
hypothesis = "Less is more."
axis = "everything"
[steps.files]
"train.py" = "A = 1\\n"
"""


def write(folder: Path, text: str, name: str = "script.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_replays_the_steps_and_then_is_finished(tmp_path: Path) -> None:
    agent = ScriptedAgent(load_script(write(tmp_path, SCRIPT)))
    first, second = agent.propose(make_task()), agent.propose(make_task())
    assert first.files["train.py"] == TRAIN.replace("int = 4", "int = 6").replace("0.95", "0.9")
    assert (first.proposal.title, first.proposal.direction) == ("More depth", AxisDirection.UP)
    assert (first.proposal.settings["DEPTH"], first.proposal.settings["BETA"]) == (6, 0.9)
    assert second.files == {"train.py": "A = 1\n"}
    assert second.proposal.settings == {"A": 1}
    with pytest.raises(AgentFinished):
        agent.propose(make_task())


def test_reads_json_too(tmp_path: Path) -> None:
    step = {"title": "t", "hypothesis": "h", "axis": "a", "insists": "i", "files": {"train.py": "def broken(:\n"}}
    agent = ScriptedAgent(load_script(write(tmp_path, json.dumps({"steps": [step]}), "script.json")))
    draft = agent.propose(make_task())
    assert draft.proposal.insists == "i"
    assert draft.proposal.settings == {}  # no Python, but a trial all the same
    finding = agent.write_finding(make_task(), draft, make_run(sha_of("x"), None, reason="SyntaxError"))
    assert "SyntaxError" in finding.mechanism


@pytest.mark.parametrize(
    ("search", "file", "message"),
    [
        ("NOPE", "train.py", "occurs 0 times"),
        ("= 4", "train.py", "occurs 2 times"),
        ("x", "evil.py", "not an editable file"),
    ],
)
def test_an_edit_that_does_not_fit_is_the_agents_error(tmp_path: Path, search: str, file: str, message: str) -> None:
    edit = {"file": file, "search": search, "replace": "5"}
    step = {"title": "t", "hypothesis": "h", "axis": "a", "edits": [edit]}
    agent = ScriptedAgent(load_script(write(tmp_path, json.dumps({"steps": [step]}), "script.json")))
    with pytest.raises(AgentError, match=message):
        agent.propose(make_task())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = []", "steps"),
        ("not toml", "script.toml"),
        ("[[steps]]\ntitle = 't'\nhypothesis = 'h'\naxis = 'a'", "either `files` or `edits`"),
        ("[[steps]]\ntitle = 't'\nhypothesis = 'h'\naxis = 'a'\nfoo = 1\nfiles = {a = 'b'}", "foo"),
        (
            "[[steps]]\ntitle = 't'\nhypothesis = 'h'\naxis = 'a'\nnew_branch = 'x'\nfiles = {a = 'b'}",
            "cannot give new_branch",
        ),
    ],
)
def test_a_bad_script_is_named_with_its_mistake(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ScriptError, match=message):
        load_script(write(tmp_path, text))


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="No such file"):
        load_script(tmp_path / "nowhere.toml")
