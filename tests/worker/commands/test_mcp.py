"""`swarm-worker mcp` and the skill, the plugin and the snippet that lead to it (tests/acceptance/ uses it)."""

import json
import re
import sys
from pathlib import Path

import anyio
import pytest
import yaml
from typer.testing import CliRunner

from worker.cli import app
from worker.commands.mcp_jobs import JobEvents, JobSession
from worker.commands.mcp_server import make_server

ROOT = Path(__file__).parents[3]
SKILL = ROOT / "skills/research-swarm/SKILL.md"


def test_the_skill_names_the_tools_that_there_are() -> None:
    _, head, body = SKILL.read_text().split("---\n", 2)
    matter = yaml.safe_load(head)
    assert matter["name"] == SKILL.parent.name and len(matter["description"]) <= 1024
    assert len(matter["compatibility"]) <= 500
    session = JobSession(None, None, JobEvents(), ROOT)  # type: ignore[arg-type] - its tools are listed, not called
    server = make_server(session)
    tools = {tool.name: tool for tool in anyio.run(server.list_tools)}
    assert all(tool.description for tool in tools.values())
    for text in (body, (SKILL.parent / "assets/AGENTS.md").read_text(), server.instructions or ""):
        assert set(re.findall(r"`([a-z_]+)`", text)) >= tools.keys() - {"status"}
    assert "status" in body


def test_the_plugin_starts_the_command_that_there_is() -> None:
    plugin = json.loads((ROOT / ".claude-plugin/plugin.json").read_text())
    (server,) = plugin["mcpServers"].values()
    assert (server["command"], server["args"]) == ("swarm-worker", ["mcp"])
    assert (ROOT / plugin["skills"] / "research-swarm/SKILL.md").exists()
    (listed,) = json.loads((ROOT / ".claude-plugin/marketplace.json").read_text())["plugins"]
    assert listed["name"] == plugin["name"]
    assert CliRunner().invoke(app, ["mcp", "--help"]).exit_code == 0


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.fastmcp", None)
    monkeypatch.delitem(sys.modules, "worker.commands.mcp_server", raising=False)
    done = CliRunner().invoke(app, ["mcp"])
    assert "pip install 'research-swarm[worker,mcp]'" in str(done.exception)
