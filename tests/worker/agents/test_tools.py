"""worker/agents/tools.py and presets.py: each preset with a stand-in that behaves as the tool's documentation says."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from tests.support.coding_tools import STAND_INS, StandIn, install
from tests.support.messages import make_run
from tests.worker.agents.tasks import make_task, sha_of
from worker.agents.base import AgentError, AgentMisconfigured, AgentUnavailable
from worker.agents.command import CommandAgent
from worker.agents.presets import PRESETS
from worker.agents.programs import ProgramMissing, find_program_files
from worker.agents.refusals import find_refusal
from worker.agents.tool_usage import read_words
from worker.agents.tools import make_tool
from worker.settings import SettingsError, WorkerSettings

SOURCE = "LEARNING_RATE = 0.003\nDEPTH = 4\n"
TASK = replace(make_task(source=SOURCE), tree={"program.md": "# Lower val_bpb\n"}, context="CONTEXT-PACK")
Make = Callable[..., CommandAgent]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Make:
    """Installs a stand-in with its plan; makes its agent."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_TOKEN")) or name.startswith("SWARM_"):
            monkeypatch.delenv(name)

    def make(tool: StandIn, *plan: str, **settings: object) -> CommandAgent:
        for name, value in install(tool, tmp_path / "home", list(plan)).items():
            monkeypatch.setenv(name, value)
        values = {"agent": tool.name, "data_dir": tmp_path / "data", "agent_seconds": 60, **settings}
        return CommandAgent(make_tool(WorkerSettings.model_validate(values), said.append), said.append, Event())

    return make


@pytest.mark.parametrize("tool", STAND_INS.values(), ids=STAND_INS)
def test_a_tool_drafts_writes_its_paper_and_keeps_its_login(
    tool: StandIn, make: Make, said: list[str], tmp_path: Path
) -> None:
    agent = make(tool, "good")
    assert "did a toy task in" in agent.check()
    draft = agent.propose(TASK)
    assert (draft.agent, draft.proposal.title) == (tool.name, f"BY_{tool.name.upper()}_2 by {tool.name}")
    assert draft.files["train.py"].startswith(SOURCE)
    report = make_run(sha_of("x"), 0.9)
    assert agent.write_finding(TASK, draft, report).claim == f"Written by {tool.name}."
    folder = tmp_path / "home" / tool.folder
    assert json.loads((folder / tool.login).read_text())["refresh_token"].endswith("_4"), "renewed each time"
    assert (folder / tool.transcripts).read_text().count("weight_decay=0.05") == 2
    assert list((tmp_path / "home/.config" / tool.name).iterdir()) == [], "it wrote into a copy"
    assert said == []


@pytest.mark.parametrize("tool", STAND_INS.values(), ids=STAND_INS)
def test_what_a_tool_says_of_limits_and_logins_is_understood(tool: StandIn, make: Make) -> None:
    agent = make(tool, "limit", "logged-out")
    with pytest.raises(AgentUnavailable, match="usage limit; it ends") as limit:
        agent.propose(TASK)
    assert limit.value.retry_after_seconds is not None and 0 < limit.value.retry_after_seconds <= 86400
    with pytest.raises(AgentMisconfigured, match="is not logged in") as logged_out:
        agent.propose(TASK)
    assert PRESETS[tool.name].log_in in str(logged_out.value)


@pytest.mark.parametrize("tool", STAND_INS.values(), ids=STAND_INS)
def test_a_tool_that_can_never_work_is_an_error_before_the_first_job(tool: StandIn, make: Make, tmp_path: Path) -> None:
    advice = {
        "logged-out": PRESETS[tool.name].log_in,
        "no-credit": "no credit",
        "no-model": "--model",
        "old": "update it",
    }
    agent = make(tool)
    for act in ("logged-out", "no-model"):
        (tmp_path / "home" / tool.folder / "plan.json").write_text(json.dumps([act]))
        with pytest.raises(AgentMisconfigured, match=re.escape(advice[act])):
            agent.begin()
    for act, said in tool.refusals.items():
        assert advice[act] in str(find_refusal(read_words(said), 1)), said


def test_a_tool_may_work_later_or_need_more_than_it_is_granted(make: Make, tmp_path: Path) -> None:
    agent = make(STAND_INS["opencode"], "limit")
    with pytest.raises(AgentUnavailable, match="usage limit; it ends") as limit:  # and the worker works meanwhile
        agent.begin()
    assert not isinstance(limit.value, AgentMisconfigured)
    (tmp_path / "home" / STAND_INS["opencode"].program).write_text("#!/bin/sh\nexec /opt/not-granted/tool\n")
    with pytest.raises(AgentMisconfigured, match="--agent-path PATH"):
        agent.begin()


def test_an_older_version_gets_no_newer_options(make: Make) -> None:
    agent = make(STAND_INS["opencode"], "version-1")
    agent.begin()
    assert agent.propose(TASK).proposal.title.endswith("by opencode")


def test_bad_answers_of_a_tool(make: Make, tmp_path: Path) -> None:
    agent = make(STAND_INS["opencode"], "question", "question", "question", "wordless", "wordless", "wordless", "leak")
    with pytest.raises(AgentError, match=r"nothing is changed.*Should I continue\?.*all that it said: .*said"):
        agent.propose(TASK)
    assert agent.propose(TASK).proposal.title.startswith("An undescribed change of train.py")
    with pytest.raises(AgentError, match=r"copied a secret from ~/.local/share/opencode/auth.json"):
        agent.propose(TASK)


def test_the_model_and_another_command_are_the_volunteers_choice(make: Make) -> None:
    agent = make(STAND_INS["codex"], "good", model="gpt-x")
    assert list(agent._tool.argv[1:4]) == ["exec", "--model", "gpt-x"]
    command = "~/.npm-global/bin/codex exec --dangerously-bypass-approvals-and-sandbox --profile mine -"
    settings = WorkerSettings.model_validate({"agent": "codex", "agent_command": command})
    tool = make_tool(settings, print)
    assert tool.argv[0] == str(Path.home() / ".npm-global/bin/codex") and "mine" in tool.argv and tool.name == "codex"


@pytest.mark.parametrize("tool", STAND_INS.values(), ids=STAND_INS)
def test_a_login_that_is_missing_is_an_error_at_the_start(
    tool: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tool)
    (Path.home() / tool.folder / tool.login).unlink()
    settings = WorkerSettings.model_validate({"agent": tool.name})
    with pytest.raises(SettingsError, match="has no login here") as missing:
        make_tool(settings, print)
    assert PRESETS[tool.name].log_in in str(missing.value)
    monkeypatch.setenv(PRESETS[tool.name].keys[0], "a-key")
    assert make_tool(settings, print).room.environment[PRESETS[tool.name].keys[0]] == "a-key"
    monkeypatch.setenv("PATH", "/usr/bin")
    with pytest.raises(SettingsError, match="there is no program"):
        make_tool(settings, print)


def test_a_folder_named_by_the_tools_own_variable_is_used(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make(STAND_INS["codex"])
    (Path.home() / ".codex").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "elsewhere"))
    tool = make_tool(WorkerSettings.model_validate({"agent": "codex"}), print)
    assert [mount.path for mount in tool.room.mounts] == [tmp_path / "elsewhere"]
    assert tool.transcripts == tmp_path / "elsewhere/sessions"


def test_links_of_a_dotfiles_folder_are_named(make: Make, said: list[str], tmp_path: Path) -> None:
    make(STAND_INS["claude"])
    (tmp_path / "dotfiles").write_text("{}")
    (Path.home() / ".claude/settings.json").symlink_to(tmp_path / "dotfiles")
    make_tool(WorkerSettings.model_validate({"agent": "claude"}), said.append)
    assert f"--agent-path {tmp_path / 'dotfiles'}" in said[0]


def test_programs_of_the_system_need_nothing_and_circles_end(tmp_path: Path) -> None:
    assert find_program_files("bash", "/usr/bin:/bin").places == set()
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for word in ("a", "nowhere", "~/no/such/tool"):
        with pytest.raises(ProgramMissing):
            find_program_files(word, str(tmp_path))
