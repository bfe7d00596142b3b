"""A worker's night with a model of whose answers a tenth are from the corpus of bad replies; and wrong settings."""

import json
import re
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import ALSO_LONG, MOST_IDLE, Volunteer
from tests.support.chat_server import PAPER, Body, Response, refuse, say, serve_chat
from tests.support.device_time import read_device_time

pytestmark = pytest.mark.acceptance

JOBS = 20
REPLIES = Path(__file__).parents[1] / "worker" / "agents" / "replies"
BAD = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(REPLIES.glob("*.json"))]


class Fickle:
    """A model with a new idea for each draft; each tenth answer is one of the corpus, each fortieth an error."""

    def __init__(self) -> None:
        self._answers, self._ideas = count(1), count(200)
        refusals = [case["body"] for case in BAD if case["expect"] == "refused"]
        self._bad = [*(case["body"] for case in BAD if case["expect"] == "read"), *refusals][::7]

    def __call__(self, body: Body) -> Response:
        number = next(self._answers)
        if number % 40 == 0:
            return refuse(500, message="out of memory")
        if number % 10 == 0:
            return Response(body=self._bad[number // 10 % len(self._bad)])
        form = body["response_format"]["json_schema"]["name"]
        if form == "ShortReply":
            return say({"answer": "blue"})
        if form == "PaperReply":
            return say(PAPER)
        found = re.search(r"\nLEVEL = \S+", body["messages"][1]["content"])
        assert found is not None
        edit = {"file": "train.py", "search": found[0], "replace": f"\nLEVEL = {2 - next(self._ideas) / 1000}"}
        words: dict[str, Any] = {"hypothesis": "Another level.", "axis": "LEVEL", "direction": "down", "value": ""}
        words |= {"title": f"A level of {edit['replace'].split()[-1]}", "insists": "Each level is wanted."}
        return say(words | {"predicted_effect": None, "refuted_by": "No change.", "edits": [edit], "files": []})


@ALSO_LONG
def test_the_device_works_all_night_and_each_finding_names_its_author(
    levels: Volunteer, request: pytest.FixtureRequest
) -> None:
    with serve_chat(Fickle()) as server:
        done = levels.work("--agent", "openai", "--model", "m", "--base-url", server.url, jobs=JOBS, seconds=900)
    time = read_device_time(done.stderr.splitlines())
    sys.stderr.write(f"{JOBS} jobs, {time.seconds:.0f} s, device idle {time.idle_share:.1%}, {time.waits} waits\n")
    assert time.idle_share < MOST_IDLE or not request.node.get_closest_marker("large")
    # On a slow machine the search drafts most jobs, and may have tried all that there is to try here.
    is_exhausted = "have been tried already" in done.stderr
    failed = [line for line in done.stderr.splitlines() if "event=waiting" in line or "the job failed" in line]
    assert not failed or is_exhausted, failed
    experiments = levels.list_experiments()
    assert len(experiments) >= JOBS / 2
    for experiment in experiments:
        assert experiment.finding is not None
        author = "openai m" if experiment.title.startswith("A level") else "search"
        assert experiment.finding.agent == author, experiment.title
    by_model = sum(experiment.title.startswith("A level") for experiment in experiments)
    assert by_model >= len(experiments) / 4, "search drafts what a slow machine leaves the model no time for"


def test_wrong_settings_end_the_worker_before_its_first_job(levels: Volunteer) -> None:
    """Each time the same worker on the same coordinator, whose start takes longer than the worker's refusal."""
    for status, words in (
        (401, "it wants a key, and none is set"), (402, "no credit"), (404, "no such model"), (422, "HTTP 422")
    ):  # fmt: skip
        answer = refuse(status, message="No.")
        with serve_chat(lambda body, answer=answer: answer) as server, pytest.raises(AssertionError) as caught:
            levels.work("--agent", "openai", "--model", "m", "--base-url", server.url, jobs=1)
        assert words in str(caught.value) and "event=job" not in str(caught.value), status
    assert levels.list_experiments() == []
