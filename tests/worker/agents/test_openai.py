"""worker/agents/openai.py against a real endpoint on loopback, with what goes wrong at one."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared.runs import ModelUsage, RunOutcome
from tests.support.chat_server import PAPER, Body, ChatServer, Response, change_depth, refuse, say, serve_chat
from tests.support.messages import make_run
from tests.worker.agents.tasks import make_task, sha_of
from worker.agents import openai
from worker.agents.base import AgentError, AgentMisconfigured, AgentUnavailable, Task
from worker.agents.budget import Allowance, UsageLog
from worker.agents.chat import Chat
from worker.agents.composite import FallbackAgent
from worker.agents.openai import OpenAIAgent
from worker.agents.search import SearchAgent
from worker.loop.stop import Stop

KEY = "sk-canary-0123456789"
SOURCE = "LEARNING_RATE = 0.003\nDEPTH = 4\n"


@dataclass
class Hired:
    """An agent, its endpoint, and what it tells people."""

    agent: OpenAIAgent
    server: ChatServer
    usage_log: UsageLog
    stop: Stop
    said: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serve_chat() as server:
        yield server


@pytest.fixture
def hired(server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hired:
    monkeypatch.setattr(openai, "FIRST_PAUSE_SECONDS", 0.01)
    hired = hire(server.url, tmp_path)
    hired.server = server
    return hired


@pytest.fixture
def task() -> Task:
    return make_task(source=SOURCE)


def hire(url: str, folder: Path, timeout: float = 20.0, **allowance: Any) -> Hired:
    """An agent for an endpoint."""
    said: list[str] = []
    usage_log, stop = UsageLog(folder / "agent", "test", Allowance(**allowance)), Stop()
    agent = OpenAIAgent(Chat(url, "test", SecretStr(KEY), timeout), usage_log, said.append, stop)
    return Hired(agent, ChatServer(lambda body: say("")), usage_log, stop, said)


def test_drafts_an_experiment_from_edits_and_counts_what_it_cost(task: Task, hired: Hired) -> None:
    draft = hired.agent.propose(task)
    assert draft.files == {"train.py": SOURCE.replace("4", "6")}
    assert draft.proposal.settings == {"LEARNING_RATE": 0.003, "DEPTH": 6}
    assert draft.made_by == "openai test (1 request, 90 + 10 tokens)"
    assert hired.usage_log.today().tokens == 100
    request = hired.server.requests[0]
    assert request["response_format"]["json_schema"]["strict"] is True
    assert "3.3000 ± 0.0050" in request["messages"][1]["content"]
    assert hired.server.keys == [f"Bearer {KEY}"]


def test_each_experiment_is_a_conversation_of_its_own(task: Task, hired: Hired) -> None:
    other = make_task(source=SOURCE)
    hired.agent.propose(task)
    hired.agent.propose(other)
    assert [len(request["messages"]) for request in hired.server.requests] == [2, 2]
    assert task.usage.total.tokens == other.usage.total.tokens == 100


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"edits": [{"file": "train.py", "search": "DEPTH = 5", "replace": ""}]}, "occurs 0 times"),
        ({"edits": [{"file": "train.py", "search": "= ", "replace": ""}]}, "occurs 2 times"),
        ({"edits": [{"file": "harness/scorer.py", "search": "a", "replace": "b"}]}, "not an editable file"),
        ({"edits": [], "files": [{"file": "../escape.py", "text": "x = 1"}]}, "is not editable"),
        ({"edits": [], "files": [{"file": "train.py", "text": "DEPTH = ("}]}, "not valid Python: line 1"),
        ({"edits": [], "files": [{"file": "train.py", "text": SOURCE}]}, "nothing is changed"),
        ({"files": [{"file": "train.py", "text": "DEPTH = 5"}]}, "given twice"),
        ({"edits": [], "files": [{"file": "train.py", "text": f"X = '{'x' * 70_000}'"}]}, "allows"),
    ],
)
def test_changes_that_cannot_be_applied_are_sent_back_with_the_reason(
    task: Task, hired: Hired, changes: Body, reason: str
) -> None:
    hired.server.script = [say(change_depth() | changes)]
    assert hired.agent.propose(task).files == {"train.py": SOURCE.replace("4", "6")}
    assert reason in hired.server.requests[1]["messages"][-1]["content"]
    assert len(hired.server.requests[1]["messages"]) == 4


def test_gives_up_on_a_model_that_cannot_edit(task: Task, hired: Hired) -> None:
    hired.server.model = lambda body: say(change_depth() | {"edits": []})
    with pytest.raises(AgentError, match="no change that can be applied"):
        hired.agent.propose(task)
    assert len(hired.server.requests) == 4
    assert task.usage.total.requests == 4


@pytest.mark.parametrize(
    "answer",
    [
        say("no JSON at all"),
        say({"title": "half of it"}),
        say(""),
        say('{"title": "cut', finish="length"),
    ],
)
def test_a_malformed_answer_is_asked_for_again(task: Task, hired: Hired, answer: Response) -> None:
    hired.server.script = [answer]
    assert hired.agent.propose(task).proposal.title == "DEPTH 6"
    assert "cannot be used" in hired.server.requests[1]["messages"][-1]["content"]


@pytest.mark.parametrize("wrapped", ["```json\n%s\n```", "<think>Hm.</think>\n%s", "  %s\n"])
def test_reads_answers_that_are_wrapped(task: Task, hired: Hired, wrapped: str) -> None:
    hired.server.script = [say(wrapped % json.dumps(change_depth(5)))]
    assert hired.agent.propose(task).proposal.title == "DEPTH 5"


@pytest.mark.parametrize(
    "fault",
    [
        refuse(429, "rate_limit_exceeded", Retry_After="0.05"),
        refuse(500),
        refuse(503),
        refuse(408),
        Response(body="<html>a proxy</html>", headers={"Content-Type": "text/html"}),
        Response(body="{half", headers={"Content-Type": "application/json"}),
        Response(body={"object": "chat.completion", "choices": []}),
    ],
)
def test_a_passing_fault_is_waited_out(task: Task, hired: Hired, fault: Response) -> None:
    hired.server.script = [fault, fault]
    assert hired.agent.propose(task).proposal.title == "DEPTH 6"
    assert len(hired.server.requests) == 3
    assert sum("retrying" in line for line in hired.said) in (1, 2)


def test_obeys_retry_after_and_does_not_wait_beyond_the_lease(task: Task, hired: Hired) -> None:
    hired.server.script = [refuse(429, Retry_After="7200")]
    with pytest.raises(AgentUnavailable, match="HTTP 429"):
        hired.agent.propose(task)
    with pytest.raises(AgentUnavailable, match=r"not asked for another 3\d\d\d s"):
        hired.agent.propose(task)
    assert len(hired.server.requests) == 1


@pytest.mark.parametrize(
    "answer", [say("", refusal="I will not."), say("x", finish="content_filter"), refuse(400, "content_filter")]
)
def test_a_refusal_is_told_and_costs_one_draft(task: Task, hired: Hired, answer: Response) -> None:
    hired.server.script = [answer]
    with pytest.raises(AgentError, match=r"refuses|HTTP 400"):
        hired.agent.propose(task)
    assert hired.agent.propose(task).proposal.title == "DEPTH 6"


@pytest.mark.parametrize(
    "fault", [refuse(401, "invalid_api_key", f"Wrong key {KEY}"), refuse(429, "insufficient_quota")]
)
def test_an_endpoint_that_will_never_answer_is_not_stormed(task: Task, hired: Hired, fault: Response) -> None:
    hired.server.script = [fault]
    with pytest.raises(AgentUnavailable) as caught:
        hired.agent.propose(task)
    assert KEY not in str(caught.value)
    assert len(hired.server.requests) == 1


def test_a_prompt_that_is_too_long_loses_its_context(hired: Hired) -> None:
    task = make_task(source=SOURCE)
    task = type(task)(task.contract, task.base, task.program, "CONTEXT-PACK", (), 1)
    hired.server.script = [refuse(400, "context_length_exceeded")]
    assert hired.agent.propose(task).proposal.title == "DEPTH 6"
    first, second = (request["messages"][1]["content"] for request in hired.server.requests)
    assert "CONTEXT-PACK" in first and "CONTEXT-PACK" not in second


def test_a_server_that_cuts_prompts_without_a_word_is_named_once_with_what_to_raise(hired: Hired) -> None:
    task = replace(make_task(source=SOURCE), context="A finding of another volunteer. " * 1000)
    hired.server.model = lambda body: say(change_depth(), usage=(2050, 10))
    for _ in range(2):
        assert hired.agent.propose(task).proposal.title == "DEPTH 6"
    (line,) = hired.said
    assert "read 2,050 of about" in line and "--n_ctx" in line


def test_a_server_that_reads_all_is_not_named(hired: Hired) -> None:
    task = replace(make_task(source=SOURCE), context="A finding of another volunteer. " * 1000)
    hired.server.model = lambda body: say(change_depth(), usage=(6000, 10))
    hired.agent.propose(task)
    assert hired.said == []


def test_a_slow_model_may_draft_as_long_as_a_run_may_last(task: Task) -> None:
    budget = task.contract.budget.model_copy(update={"training_seconds": 3000.0})
    slow = replace(task, contract=task.contract.model_copy(update={"budget": budget}))
    assert openai._draft_seconds(task) == 240.0
    assert openai._draft_seconds(slow) > 3000.0


def test_a_server_that_knows_no_schema_gets_it_in_the_prompt(task: Task, hired: Hired) -> None:
    hired.server.script = [refuse(400, message="response_format is not supported")]
    assert hired.agent.propose(task).proposal.title == "DEPTH 6"
    hired.agent.propose(task)
    assert ["response_format" in request for request in hired.server.requests] == [True, False, False]
    assert '"predicted_effect"' in hired.server.requests[1]["messages"][0]["content"]


def test_a_silent_endpoint_is_a_time_out_and_nobody_is_nobody(
    task: Task, server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "ABSENT_SECONDS", 0.5)
    monkeypatch.setattr(openai, "BUSY_SECONDS", 0.5)
    server.model = lambda body: Response(hangs=True)
    with pytest.raises(AgentUnavailable, match="in time"):
        hire(server.url, tmp_path, timeout=0.3).agent.propose(task)
    with pytest.raises(AgentUnavailable, match="cannot be reached"):
        hire("http://127.0.0.1:1/v1", tmp_path).agent.propose(task)


def test_an_address_where_no_model_ever_answered_is_a_wrong_setting(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "ABSENT_SECONDS", 0.1)
    hired = hire(server.url, tmp_path)
    server.model = lambda body: Response(body="<html>Welcome</html>")
    with pytest.raises(AgentMisconfigured, match="is --base-url right"):
        hired.agent.begin()
    with pytest.raises(AgentMisconfigured, match="is --base-url right"):
        hire("http://127.0.0.1:1/v1", tmp_path).agent.begin()
    hired.usage_log.record(ModelUsage(requests=1, input_tokens=1, output_tokens=1))  # as after an answer
    with pytest.raises(AgentUnavailable, match="cannot be reached") as away:
        hire("http://127.0.0.1:1/v1", tmp_path).agent.begin()
    assert not isinstance(away.value, AgentMisconfigured), "it is away, and search works meanwhile"


def test_a_pause_ends_a_request_under_way(task: Task, hired: Hired) -> None:
    def pause(body: Body) -> Response:
        hired.stop.set_pause("Paused.")
        return Response(hangs=True)

    hired.server.model = pause
    with pytest.raises(AgentError, match="stopped waiting"):
        hired.agent.propose(task)
    assert hired.usage_log.today().tokens > 0, "the model has read the prompt"


def test_one_who_drains_still_waits_for_the_finding_and_for_no_draft(task: Task, hired: Hired) -> None:
    draft = hired.agent.propose(task)
    hired.stop.request()
    assert hired.agent.write_finding(task, draft, make_run(sha_of("x"), 3.2)).claim == PAPER["claim"]
    hired.server.model = lambda body: Response(hangs=True)
    with pytest.raises(AgentError, match="stopped waiting"):
        hired.agent.propose(task)
    hired.stop.request()
    with pytest.raises(AgentError, match="stopped waiting"):
        hired.agent.write_finding(task, draft, make_run(sha_of("x"), 3.2))


def test_while_the_endpoint_is_away_the_search_agent_proposes_and_says_so(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "ABSENT_SECONDS", 0.5)
    hired = hire("http://127.0.0.1:1/v1", tmp_path, timeout=1.0)
    agent = FallbackAgent(hired.agent, SearchAgent(), hired.said.append)
    draft = agent.propose(task)
    assert draft.made_by == "search"
    assert "the search agent proposes instead" in hired.said[-1]
    assert agent.write_finding(task, draft, make_run(sha_of("x"))).agent == "search"
    assert agent.repair(task, draft, make_run(sha_of("x"), None)) is None
    assert agent.wants_trials


@pytest.mark.parametrize(
    ("allowance", "words"),
    [
        ({"tokens_per_experiment": 100}, "this experiment's 100 tokens"),
        ({"tokens_per_day": 100}, "today's (UTC) 100 tokens"),
        ({"cost_per_day": 0.01, "input_price": 1.0, "output_price": 10.0}, "budget of 0.01"),
    ],
)
def test_a_budget_is_kept_before_a_request_is_made(
    task: Task, server: ChatServer, tmp_path: Path, allowance: dict[str, Any], words: str
) -> None:
    hired = hire(server.url, tmp_path, **allowance)
    with pytest.raises(AgentUnavailable) as caught:
        hired.agent.propose(task)
    assert words in str(caught.value)
    assert server.requests == []


def test_an_experiment_pays_for_its_own_finding_while_the_next_is_drafted(server: ChatServer, tmp_path: Path) -> None:
    server.model = lambda body: say(PAPER if "Measured:" in body["messages"][1]["content"] else change_depth())
    one, other = make_task(source=SOURCE), make_task(source=SOURCE)
    hired = hire(server.url, tmp_path, input_price=1.0, output_price=10.0)
    draft = hired.agent.propose(one)
    hired.agent.propose(other)
    hired.agent.write_finding(one, draft, make_run(sha_of("x"), 3.2))
    assert (one.usage.total.requests, one.usage.total.tokens) == (2, 200)
    assert one.usage.total.cost == pytest.approx(2 * (90 * 1.0 + 10 * 10.0) / 1e6)
    assert other.usage.total.requests == 1


def test_a_days_budget_holds_for_all_workers_and_over_a_restart(task: Task, server: ChatServer, tmp_path: Path) -> None:
    server.model = lambda body: say(change_depth(), usage=(20_000, 1_000))
    for _ in range(2):
        hired = hire(server.url, tmp_path, tokens_per_day=50_000)
        hired.agent.propose(task)
    with pytest.raises(AgentUnavailable, match="42000"):
        hire(server.url, tmp_path, tokens_per_day=50_000).agent.propose(task)
    (file,) = (tmp_path / "agent").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert KEY not in file.read_text()


def test_repairs_a_crash_from_frame_and_log(task: Task, hired: Hired) -> None:
    draft = hired.agent.propose(task)
    edit = {"file": "train.py", "search": "DEPTH = 6", "replace": "DEPTH = 5"}
    hired.server.script = [say({"explanation": "Too deep.", "edits": [edit], "files": []})]
    crash = make_run(sha_of("x"), None, reason="it broke", frame="train.py:2 in build", log_tail="ValueError: depth")
    assert crash.outcome is RunOutcome.CRASHED
    repaired = hired.agent.repair(task, draft, crash)
    assert repaired is not None and repaired.files == {"train.py": SOURCE.replace("4", "5")}
    assert repaired.made_by == "openai test (2 requests, 180 + 20 tokens)"
    prompt = hired.server.requests[-1]["messages"][1]["content"]
    assert all(text in prompt for text in ("it broke", "train.py:2 in build", "ValueError: depth", "DEPTH = 6"))
    assert hired.agent.repair(task, draft, crash) is None, "the honest model gives it up"
    assert task.usage.total.requests == 3


def test_writes_a_finding_and_cuts_what_is_too_long(task: Task, hired: Hired) -> None:
    draft = hired.agent.propose(task)
    finding = hired.agent.write_finding(task, draft, make_run(sha_of("x"), 3.2))
    assert (finding.claim, finding.agent) == (PAPER["claim"], "openai test")
    assert "3.2000" in hired.server.requests[-1]["messages"][1]["content"]
    hired.server.script = [say({**PAPER, "mechanism": "word " * 400})]
    long = hired.agent.write_finding(task, draft, make_run(sha_of("x"), 3.2))
    assert len(f"{long.claim} {long.mechanism}".split()) <= 250


def test_an_answer_that_holds_the_key_is_thrown_away(task: Task, hired: Hired) -> None:
    hired.server.script = [say(change_depth() | {"title": f"My key is {KEY}"})]
    with pytest.raises(AgentError, match="discarded") as caught:
        hired.agent.propose(task)
    assert KEY not in str(caught.value)
    assert KEY not in hired.server.prompts()
