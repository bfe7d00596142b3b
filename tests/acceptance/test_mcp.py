"""`swarm-worker mcp` as a coding agent's program starts it: two jobs in a row by the protocol's own client."""

import json
import os
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import Implementation

from tests.acceptance.conftest import BIN, Volunteer

pytestmark = pytest.mark.acceptance

TOOLS = {"next_job", "context", "tried", "propose", "measure", "write_finding", "status"}
Json = dict[str, Any]


class Agent:
    """A session of a coding agent that knows the server's tools."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def call(self, tool: str, is_error: bool = False, **arguments: Any) -> Json:
        """The tool's answer; its text, if it is an error."""
        answer = await self._session.call_tool(tool, arguments)
        text = answer.content[0].text
        assert answer.isError is is_error, text
        return {"error": text} if is_error else json.loads(text)

    async def call_until(self, tool: str, state: str, **arguments: Any) -> Json:
        for _ in range(60):
            found = await self.call(tool, **arguments)
            if state in found["state"]:
                return found
            assert found["state"] == "no job" or found.get("waits"), found
        raise AssertionError(found)


@asynccontextmanager
async def connect(codec: Volunteer, *arguments: str):  # noqa: ANN201 - an Agent
    command = ["mcp", "--device", "cpu", "--cores", "1", "--coordinator", codec.url, *arguments]
    command += ["--data-dir", str(codec.folder / "workers"), "--folder", str(codec.folder / "jobs")]
    environment = {**codec.environment, "SWARM_TOKEN": codec.token, "HOME": str(codec.folder)}
    parameters = StdioServerParameters(command=str(BIN / "swarm-worker"), args=command, env=environment)
    async with (
        stdio_client(parameters) as (reader, writer),
        ClientSession(reader, writer, client_info=Implementation(name="some-tool", version="1")) as session,
    ):
        await session.initialize()
        assert {tool.name for tool in (await session.list_tools()).tools} == TOOLS
        yield Agent(session)


async def _work_twice(codec: Volunteer, notes: Path) -> None:
    words: Mapping[str, Any] = {"hypothesis": "It may help.", "axis": "NAME", "direction": "change"}
    paper = {"mechanism": "A constant that nothing reads.", "caveats": "One run."}
    async with connect(codec, "--notes", str(notes)) as agent:
        assert "there is no job" in (await agent.call("propose", is_error=True, title="x", **words))["error"]
        # The first job: a duplicate is told, a mistake in Python too, the token is kept in, a crash is mended.
        job = await agent.call_until("next_job", "waits for your proposal")
        assert job["notes"] == "Be brief." and job["metric"] and "codec.py" in job["editable"]
        file = Path(job["folder"]) / "codec.py"
        source = file.read_text()
        assert (await agent.call("next_job"))["folder"] == job["folder"], "one job at a time"
        assert "DATA" in (await agent.call("context"))["context"]
        assert "answer" in await agent.call("tried", text="NICE_LENGTH 64 -> 100")
        assert "nothing is changed" in (await agent.call("propose", is_error=True, title="x", **words))["error"]
        file.write_text("def (:\n")
        assert "not valid Python" in (await agent.call("propose", is_error=True, title="x", **words))["error"]
        file.write_text(f"{source}\n# {codec.token}\n")
        assert "SWARM_TOKEN" in (await agent.call("propose", is_error=True, title="x", **words))["error"]
        file.write_text(f"{source}\nFIRST = 1 // 0\n")
        assert (await agent.call("propose", title="A first idea", **words))["accepted"]
        crashed = await agent.call_until("measure", "waits for your repair")
        assert "ZeroDivisionError" in crashed["log"]
        file.write_text(
            f"{source}\nFIRST = 1\nLONG = {os.urandom(2000).hex()!r}\n"
        )  # its size counts: no parent of others
        assert (await agent.call("propose", title="A first idea", **words))["accepted"]
        measured = await agent.call_until("measure", "waits for your finding")
        assert "one run gave" in measured["measured"]
        done = await agent.call_until("write_finding", "no job", claim="The first.", **paper)
        assert done["result"]["at"].startswith(codec.url)
        # The second, on the same parent: its files come with the call; it is much like the first, and insisted upon.
        job = await agent.call_until("next_job", "waits for your proposal")
        second = (Path(job["folder"]) / "codec.py").read_text() + "\nSECOND = 2\n"
        refused = await agent.call("propose", title="A second", files={"codec.py": second}, **words)
        assert (
            not refused["accepted"] and "Much like this" in refused["reason"] and "A first idea" in refused["similar"]
        )
        words = {**words, "insists": "Another name."}
        assert (await agent.call("propose", title="A second", files={"codec.py": second}, **words))["accepted"]
        await agent.call_until("measure", "waits for your finding")
        await agent.call_until("write_finding", "no job", claim="The second.", **paper)
        # A third is begun and left: it is given back.
        await agent.call_until("next_job", "waits for your proposal")


def test_a_session_does_two_jobs_and_leaves_the_third(codec: Volunteer, tmp_path: Path) -> None:
    notes = tmp_path / "program.md"
    notes.write_text("Be brief.\n")
    anyio.run(_work_twice, codec, notes)
    first, second = codec.list_experiments()
    assert [first.title, second.title] == ["A first idea", "A second"]
    assert "+FIRST = 1\n" in first.diff and "// 0" not in first.diff and {first.outcome, second.outcome} == {"ok"}
    for experiment, claim in ((first, "The first."), (second, "The second.")):
        assert experiment.finding is not None
        assert (experiment.finding.claim, experiment.finding.agent) == (claim, "mcp some-tool")
    log = next((codec.folder / "workers/workers").glob("*/*.log")).read_text()
    assert log.count("event=dropped") == 1
