"""A worker with each coding tool for many jobs, some answers bad, on one coordinator with a tiny project."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.acceptance.conftest import ALSO_LONG, MOST_IDLE, Volunteer
from tests.support.coding_tools import STAND_INS, StandIn, install
from tests.support.device_time import read_device_time

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1200)]

JOBS, LARGE_JOBS = 12, 20
BAD = ["question", "question", "question", "leak"]
"""A question in each of a draft's three rounds, and a login in the code: no draft. A job takes two good answers."""

PLAN = ["good"] * 2 + BAD + ["good"] * 2 + ["wordless"] + ["good"] * 30
"""The bad ones come early: a tool takes longer than a run of this project, so search does many of the jobs."""


def work(levels: Volunteer, tool: StandIn, jobs: int, plan: list[str]) -> str:
    """Let a worker with the tool report this many jobs; returns its messages."""
    home = levels.folder / tool.name
    if not home.exists():
        install(tool, home, plan)
    (home / tool.folder / "plan.json").write_text(json.dumps(plan))
    paths = [home / tool.link, home / ".nvm/versions/node/v22.0.0/bin/node"]
    path = ":".join([*(str(place.parent) for place in paths), "/usr/bin", "/bin"])
    environment = {**levels.environment, "HOME": str(home), "PATH": path, "SWARM_SHORTEST_WAIT_SECONDS": "1"}
    for name in list(environment):
        if name.endswith(("_API_KEY", "_TOKEN")):
            del environment[name]
    one = replace(levels, folder=home / "data", environment=environment)
    return one.work("--agent", tool.name, "--name", tool.name, jobs=jobs, seconds=900).stderr


@ALSO_LONG
def test_each_tool_works_through_bad_answers(levels: Volunteer, request: pytest.FixtureRequest) -> None:
    is_large = request.node.get_closest_marker("large") is not None
    jobs = LARGE_JOBS if is_large else JOBS
    with ThreadPoolExecutor(len(STAND_INS)) as pool:
        messages = list(pool.map(lambda tool: work(levels, tool, jobs, PLAN), STAND_INS.values()))
    said = dict(zip(STAND_INS, messages, strict=True))
    by_author: dict[str, int] = {}
    for experiment in levels.list_experiments():
        assert experiment.finding is not None and experiment.outcome == "ok"
        author = experiment.finding.agent
        by_author[author] = by_author.get(author, 0) + 1
        text = json.dumps(experiment.model_dump(mode="json"))
        assert "numbers alone" not in text and "Qw7Lk2Vn8Bt5Yc1Hd6Mf4Zp3x9" not in text
        assert (f"+BY_{author.upper()}_" in experiment.diff) is (author != "search"), (author, experiment.diff)
        if author != "search":
            assert experiment.finding.claim.startswith((f"Written by {author}.", experiment.title))
    for name, lines in said.items():
        idle = read_device_time(lines.splitlines()).idle_share
        sys.stderr.write(f"{name}: {jobs} jobs, device idle {idle:.1%}\n")
        assert idle < MOST_IDLE or not is_large, name
        # How many depends on the machine; one draft or finding is lost to questions, one to a leak.
        assert by_author[name] >= (4 if is_large else 2), by_author
        assert lines.count("the search agent proposes instead") <= 4, lines
    assert by_author.get("search", 0) >= 2 and "copied a secret from ~/" in "".join(messages)
    # A usage limit: the tool is asked once, and search works until it ends.
    codex = STAND_INS["codex"]
    lines = work(levels, codex, 3, ["limit"])
    assert lines.count("codex has reached its usage limit; it ends") >= 1
    authors = [one.finding.agent for one in levels.list_experiments()[-3:] if one.finding is not None]
    assert authors == ["search"] * 3
