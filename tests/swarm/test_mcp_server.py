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
from mcp.server.fastmcp.exceptions import ToolError
from pydantic import SecretStr

from swarm.client import Client
from swarm.mcp_server import make_server

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
        for name, answer in answers.items():
            assert len(answer.content[0].text) <= 1_500, name
            assert listed[name].annotations is not None and listed[name].annotations.readOnlyHint is True
        assert "n=" in answers["search"].content[0].text and "±" in answers["search"].content[0].text
        assert "+++ b/train.py" in answers["diff"].content[0].text
        assert answers["topic"].content[0].text.startswith("LEARNING_RATE: ")
        detailed = {name: await session.call_tool(name, given | {"detail": True}) for name, given in CALLS.items()}
        hit = json.loads(detailed["search"].content[0].text.splitlines()[0])
        assert hit["finding"]["project"] == "tiny" and len(detailed["search"].content[0].text) > 1_500
        posterior = json.loads(detailed["paper"].content[0].text)["summary"]["posterior"]
        assert len(str(posterior["metric_sd"]).lstrip("0.")) <= 3 and len(str(posterior["effect_mean"])) < 10
        assert json.loads(detailed["diff"].content[0].text)["diff"].startswith("--- a/train.py")
        refused = await session.call_tool("paper", {"finding_id": 999})
        assert refused.isError and "There is no finding 999" in refused.content[0].text
        assert "Numbers of findings come from `search`" in refused.content[0].text
        for given in ({}, {"words": "lr", "limit": "many"}):
            wrong = await session.call_tool("search", given)
            said = wrong.content[0].text
            assert wrong.isError and "Give `words`" in said and "pydantic" not in said and "type=" not in said
        for name, given, words in (
            ("search", {"words": "lr", "detial": True}, "search has no `detial`; it has words, project"),
            ("serach", {}, "There is no tool serach; there are search"),
        ):
            mistyped = await session.call_tool(name, given)
            assert mistyped.isError and words in mistyped.content[0].text


def test_tools_that_write_need_a_token(url: str) -> None:
    with Client(url) as reader, Client(url, SecretStr("swt_nobody")) as writer:
        assert {tool.name for tool in anyio.run(make_server(reader, None).list_tools)} == TOOLS
        server = make_server(writer, None)
        tools = {tool.name: tool for tool in anyio.run(server.list_tools)}
        assert set(tools) == TOOLS | {"name_branch", "note"}
        assert tools["note"].annotations is not None and tools["note"].annotations.readOnlyHint is False
        with pytest.raises(ToolError, match="token"):
            anyio.run(server.call_tool, "name_branch", {"name": "optimizers", "theme": "Optimizers."})
        with pytest.raises(ToolError, match="small letters"):
            anyio.run(server.call_tool, "name_branch", {"name": "Not a Name!", "theme": "x"})


def test_without_the_extra_it_says_what_to_install(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.fastmcp", None)
    monkeypatch.delitem(sys.modules, "swarm.mcp_server", raising=False)
    from typer.testing import CliRunner  # noqa: PLC0415  after the module is gone

    from swarm.cli import app  # noqa: PLC0415  likewise

    done = CliRunner().invoke(app, ["mcp", "--coordinator", url])
    assert done.exit_code == 1 and "pip install 'research-swarm[mcp]'" in done.stderr
