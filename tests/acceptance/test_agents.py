"""Real worker processes with each agent and a real coordinator, on seed/codec, whose runs are short.

test_installed.py has the search agent on seed/gpt-cpu, and test_seeds.py has seed/gpt.
"""

import json
import re
from pathlib import Path

import pytest

from shared.runs import ModelUsage
from tests.acceptance.conftest import Volunteer
from tests.support.chat_server import PAPER, Body, Response, refuse, say, serve_chat
from tests.support.tiny_project import codec_files

pytestmark = pytest.mark.acceptance

KEY = "sk-canary-31415"


class Clumsy:
    """A model whose experiment crashes, and that mends it when it sees the crash."""

    def __init__(self, file: str, line: str, broken: str, mended: str) -> None:
        self._file, self._broken = file, broken
        self._constant = line.partition(" = ")[0]
        self._cure = {"file": file, "search": broken, "replace": mended}
        self.crash = ""

    def __call__(self, body: Body) -> Response:
        form = body["response_format"]["json_schema"]["name"]
        if form == "PaperReply":
            return say(PAPER)
        if form == "RepairReply":
            self.crash = body["messages"][1]["content"]
            return say({"explanation": "A division by zero.", "edits": [self._cure], "files": []})
        words = {"title": "Another value", "hypothesis": "Cheaper.", "axis": "it", "direction": "down", "value": ""}
        line = re.search(rf"\n{self._constant} = [^\n]*", body["messages"][1]["content"])  # the parent's value
        edit = {"file": self._file, "search": line[0] if line else "", "replace": f"\n{self._broken}"}
        return say(words | {"predicted_effect": -0.1, "refuted_by": "No change.", "edits": [edit], "files": []})


TOOL = """
brief=$1
grep -q 'colour has a clear' "$brief" && echo Blue && exit 0
if grep -q 'crashed before it gave a result' "$brief"; then
    grep -q ZeroDivisionError "$brief" || exit 8
    sed -i 's/ORDER = .*/ORDER = 1/' {file}
else
    grep -q '{file}' "$brief" || exit 9
    echo 'ORDER = {value}' >> {file}
    echo 'a stray' > notes.txt
    echo '{{"title": "By a tool", "hypothesis": "It may.", "axis": "ORDER", "direction": "change", "value": "1",
           "predicted_effect": null, "refuted_by": "Nothing."}}' > /swarm/answer/proposal.json
fi
"""


def command_of(folder: Path, file: str, value: str) -> list[str]:
    """A coding tool that adds a constant of that value; if that is a mistake, it mends it."""
    tool = folder / "tool.sh"
    tool.write_text(TOOL.format(file=file, value=value))
    return ["--agent-command", f"/bin/bash {tool} {{prompt_file}}", "--agent-path", str(tool)]


def script_of(folder: Path, file: str, text: str) -> list[str]:
    """A script of one step, which fits whatever parent it gets."""
    step = {"title": "By a script", "hypothesis": "It may.", "axis": "x", "files": {file: text}}
    path = folder / "script.json"
    path.write_text(json.dumps({"steps": [step]}))
    return ["--script", str(path)]


def test_a_model_repairs_its_crash_and_its_key_stays_secret(codec: Volunteer) -> None:
    model = Clumsy("codec.py", "NICE_LENGTH = 64", "NICE_LENGTH = 32 // 0", "NICE_LENGTH = 32")
    with serve_chat(model) as server:
        done = codec.work("--agent", "openai", "--model", "m", "--base-url", server.url, jobs=2, OPENAI_API_KEY=KEY)
    (experiment,) = codec.list_experiments()
    assert (experiment.title, experiment.outcome) == ("Another value", "ok")
    assert "+NICE_LENGTH = 32" in experiment.diff and "// 0" not in experiment.diff
    assert experiment.finding is not None and experiment.finding.claim == PAPER["claim"]
    assert "ZeroDivisionError" in model.crash and "codec.py" in model.crash
    assert "trying a repair" in done.stderr
    (run,) = experiment.runs
    assert "the model gives" not in done.stderr, "what it said to the first small question is no job"
    assert run.usage == ModelUsage(requests=3, input_tokens=270, output_tokens=30), "draft, repair and finding"
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert KEY not in done.stdout + done.stderr + server.prompts() + json.dumps(experiment.model_dump(mode="json"))


def test_what_goes_wrong_at_an_endpoint_is_survived(codec: Volunteer) -> None:
    """Search drafts the job of a refusal; the next meets all other faults; then nobody answers any more.

    Spare jobs take what the limit of jobs leaves beside those two: how many those are depends on the machine's speed.
    """
    kept = "NICE_LENGTH = 100"  # which is not among the file's choices, so that no search draws the same
    model = Clumsy("codec.py", "NICE_LENGTH = 64", kept, kept)
    with serve_chat(model) as server:
        server.script = [
            say({"answer": "blue"}), say("", refusal="I will not."),
            refuse(429, "rate_limit_exceeded", Retry_After="1"), Response(hangs=True), refuse(503),
            say("no JSON"), say("", finish="length"), refuse(400, "context_length_exceeded"),
        ]  # fmt: skip
        waits = {"SWARM_REQUEST_SECONDS": "15", "SWARM_SHORTEST_WAIT_SECONDS": "0.5", "SWARM_LONGEST_WAIT_SECONDS": "1"}
        done = codec.work("--agent", "openai", "--model", "m", "--base-url", server.url, jobs=6, **waits)
        assert "openai m: the model refuses; the search agent proposes instead" in done.stderr
        assert "did not answer in time; retrying in" in done.stderr
        assert done.stderr.count("retrying in") >= 3
        assert "retrying without the context pack" in done.stderr
        assert "cannot be used" in server.prompts()
    done = codec.work("--agent", "openai", "--model", "m", "--base-url", server.url, jobs=1)
    assert done.stderr.count("the search agent proposes instead") >= 1
    experiments = codec.list_experiments()
    by_model, *_ = of_model = [one for one in experiments if one.finding and one.finding.agent != "search"]
    assert {(one.title, one.outcome) for one in of_model} == {("Another value", "ok")}
    assert by_model.runs[0].usage is not None
    *_, of_nobody = by_search = [one for one in experiments if one not in of_model]
    assert any(one.runs[0].usage is not None for one in by_search), "the refusal is counted, too"
    assert of_nobody.runs[0].usage is None
    for one in by_search:
        assert one.runs, "measured, though what it drew at random need not run"
        assert "->" in one.title and one.finding is not None and one.finding.agent == "search"


def test_a_tool_a_search_and_a_script_on_a_compressor(codec: Volunteer, tmp_path: Path) -> None:
    done = codec.work(*command_of(tmp_path, "codec.py", "1 // 0"), jobs=2)
    assert "notes.txt is new" in done.stderr and "trying a repair" in done.stderr
    codec.work(jobs=1)
    codec.work(*script_of(tmp_path, "codec.py", codec_files()["codec.py"] + "\nSCRIPTED = 1\n"), jobs=1)
    tool, search, script = codec.list_experiments()
    assert [tool.title, script.title] == ["By a tool", "By a script"] and "->" in search.title
    assert {tool.outcome, script.outcome} == {"ok"} and search.runs, "what is drawn at random need not run"
    assert tool.diff.count("+ORDER = 1\n") == 1 and tool.finding is not None and tool.finding.agent == "command bash"
