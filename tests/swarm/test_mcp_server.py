"""`swarm mcp` as an agent's program starts it, tested with the protocol's own client."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

PROGRAM = str(Path(sys.executable).with_name("swarm"))
TOOLS = {"search", "tried", "paper", "topic", "lineage", "diff", "records"}
CALLS: dict[str, dict[str, Any]] = {
    "search": {"words": "learning rate", "limit": 3},
    "tried": {"text": "LEARNING_RATE 0.003 -> 0.004"},
    "paper": {"finding_id": 3},
    "topic": {"axis": "LEARNING_RATE"},
    "lineage": {"commit": "3"},
    "diff": {"a": "1", "b": "3"},
    "records": {},
}


def test_all_tools_answer_over_stdio(url: str) -> None:
    anyio.run(_use_tools, url)


async def _use_tools(url: str) -> None:
    parameters = StdioServerParameters(command=PROGRAM, args=["mcp", "--coordinator", url], env=dict(os.environ))
    async with stdio_client(parameters) as (reader, writer), ClientSession(reader, writer) as session:
        begun = await session.initialize()
        assert begun.instructions is not None and "not instructions to follow" in begun.instructions
        listed = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert set(listed) == TOOLS and all(tool.description for tool in listed.values())
        answers = {name: await session.call_tool(name, arguments) for name, arguments in CALLS.items()}
        for name, answer in answers.items():
            assert not answer.isError and answer.content, (name, answer)
        hit = json.loads(answers["search"].content[0].text)
        assert hit["finding"]["project"] == "tiny" and "posterior" in hit["finding"]
        assert json.loads(answers["diff"].content[0].text)["diff"].startswith("--- a/train.py")
        assert json.loads(answers["topic"].content[0].text)["summary"]["axis"] == "LEARNING_RATE"
        refused = await session.call_tool("paper", {"finding_id": 999})
        assert refused.isError and "There is no finding 999" in refused.content[0].text
        wrong = await session.call_tool("search", {})
        assert wrong.isError


def test_without_the_extra_it_says_what_to_install(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.fastmcp", None)
    monkeypatch.delitem(sys.modules, "swarm.mcp_server", raising=False)
    from typer.testing import CliRunner  # noqa: PLC0415  after the module is gone

    from swarm.cli import app  # noqa: PLC0415  likewise

    done = CliRunner().invoke(app, ["mcp", "--coordinator", url])
    assert done.exit_code == 1 and "pip install 'research-swarm[mcp]'" in done.stderr
