"""The agent that asks a language model, behind any endpoint with the chat-completions protocol.

Each experiment is a new conversation. The model has no tools, so its words reach no file, network or key.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from threading import Event
from typing import TypeVar

from shared.experiments import JobKind
from shared.findings import FindingDraft
from shared.formatting import format_change
from shared.runs import RunReport
from worker.agents import replies
from worker.agents.base import (
    Agent,
    AgentError,
    AgentInterrupted,
    AgentMisconfigured,
    AgentUnavailable,
    Draft,
    Task,
    Usage,
    describe_measurement,
)
from worker.agents.budget import BudgetSpent, UsageLog
from worker.agents.chat import (
    Abandoned,
    Busy,
    Chat,
    ChatError,
    EndpointUnreachable,
    Malformed,
    NotAnEndpoint,
    Reply,
    TooLong,
    Unusable,
)
from worker.agents.dialect import Turn, describe_form
from worker.agents.edits import EditError, apply_changes, check_files
from worker.agents.prompt import CHAT, describe_task, fence, render, template_of
from worker.agents.search_space import read_settings
from worker.api.retry import Backoff
from worker.loop.stop import Stop

SPARE_SECONDS = 60.0
"""Time between the end of a draft with all its attempts and the end of its lease."""

PAPER_SECONDS, CHECK_SECONDS = 90.0, 60.0
MAX_CORRECTIONS = 3
"""Times an unusable answer is sent back."""

FIRST_PAUSE_SECONDS = 1.0
BUSY_SECONDS, ABSENT_SECONDS = 45.0, 10.0
"""Time to retry one request while the endpoint is busy, or unreachable; the GPU may be idle meanwhile."""

Applied = TypeVar("Applied")


class OpenAIAgent(Agent):
    """Asks `chat` for drafts, repairs and findings. `notify` gets lines for people. For one thread.

    `stop` ends a conversation; a worker that drains still waits for the finding of its last run.
    """

    kinds = frozenset({JobKind.IMPROVE, JobKind.DRAFT})

    def __init__(self, chat: Chat, usage_log: UsageLog, notify: Callable[[str], None], stop: Stop) -> None:
        self._chat, self._usage_log, self._notify, self._stop = chat, usage_log, notify, stop
        self._backoff = Backoff()
        self._paused_until = -math.inf
        self._conversing_until = 0.0
        self._stop_event = stop.quiet

    @property
    def name(self) -> str:
        return f"openai {self._chat.model}"[:80]

    def check(self) -> str:
        """See `Agent`: asks the model for a small answer. Raises AgentMisconfigured where it will never answer."""
        turns = [
            Turn("system", 'Answer with JSON and nothing else, as {"answer": "blue"}.'),
            Turn("user", "Which colour has a clear sky at noon? One word."),
        ]
        usage, began = Usage(), time.monotonic()
        with self._conversation(CHECK_SECONDS, self._stop.quiet):
            try:
                answer, _, _ = self._ask(usage, turns, replies.ShortReply, corrections=0)
            except Unusable as error:
                raise Unusable(f"{error}{self._list_others()}") from error
        seconds, total = time.monotonic() - began, usage.total
        cost = "no prices are set" if total.cost is None else f"cost {total.cost:.6f}"
        return f"{self.name} answered {answer.answer[:40]!r} in {seconds:.1f} s: {total.describe()}, {cost}"

    def begin(self) -> None:
        """See `Agent`: the same small answer, which also teaches the server's habits.

        An address where no model has ever answered is a wrong setting rather than an absence.
        """
        try:
            self.check()
        except AgentUnavailable as error:
            if isinstance(error.__cause__, EndpointUnreachable | NotAnEndpoint) and not self._usage_log.has_answered:
                raise AgentMisconfigured(f"{error}. Does the model's server run, and is --base-url right?") from error
            raise

    def _list_others(self) -> str:
        """The endpoint's models, for one that it does not have."""
        try:
            models = self._chat.list_models()
        except (ChatError, ValueError, TypeError, AttributeError):  # it may have no list, or one of its own form
            return ""
        if not models or self._chat.model in models:
            return ""
        close = get_close_matches(self._chat.model, models, 1)
        return f"; did you mean {close[0]}?" if close else f"; the endpoint has: {', '.join(models[:10])}"

    def propose(self, task: Task) -> Draft:
        """See `Agent`. Raises AgentUnavailable while the endpoint is unreachable or the budget is spent."""
        with self._conversation(_draft_seconds(task), self._stop.quiet):
            try:
                return self._draft(task, self._brief(task))
            except TooLong:
                self._notify("the prompt is too long for the model: retrying without the context pack")
                cut = task.program[:4000] + "\n[cut]" if len(task.program) > 4000 else task.program
                return self._draft(task, self._brief(replace(task, context="", program=cut)))

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:
        """See `Agent`: from the deepest frame and the end of the log."""
        files = {**task.base.files, **draft.files}
        crash = f"{report.reason}\n\n{report.frame}\n\nThe log ends:\n{report.log_tail[-6000:]}"
        prompt = render(
            "repair",
            title=draft.proposal.title,
            crash=fence("what the program printed", crash),
            files=_show_files(files),
        )

        def apply(reply: replies.RepairReply) -> Draft | None:
            if not reply.edits and not reply.files:
                return None
            return draft.repair(_apply(reply, files, task), _cost_of(task))

        with self._conversation(_draft_seconds(task), self._stop.quiet):
            return self._ask_until_applied(task, prompt, replies.RepairReply, apply)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        proposal = draft.proposal
        prompt = render(
            "paper",
            title=proposal.title,
            hypothesis=proposal.hypothesis,
            predicted=format_change(proposal.predicted_effect, unknown="none"),
            measured=fence("the measurement", describe_measurement(task, report)),
            change=_show_files(draft.files),
        )
        with self._conversation(PAPER_SECONDS, self._stop.interrupt):
            reply, _, _ = self._ask(task.usage, _begin(task, replies.PaperReply, prompt), replies.PaperReply)
        return reply.to_finding(self.name)

    def _draft(self, task: Task, prompt: str) -> Draft:
        def apply(reply: replies.ExperimentReply) -> Draft:
            files = _apply(reply, task.base.files, task)
            return Draft(reply.to_proposal(read_settings(files)), files, self.name, _cost_of(task), is_code=True)

        return self._ask_until_applied(task, prompt, replies.ExperimentReply, apply)

    def _ask_until_applied(
        self, task: Task, prompt: str, form: type[Reply], apply: Callable[[Reply], Applied]
    ) -> Applied:
        """The result of `apply` on the first answer that it accepts; each EditError is sent back."""
        turns = _begin(task, form, prompt)
        reason = ""
        for _ in range(MAX_CORRECTIONS + 1):
            reply, text, turns = self._ask(task.usage, turns, form)
            try:
                return apply(reply)
            except EditError as error:
                reason = str(error)
                turns = _send_back(turns, text, reason)
        raise AgentError(
            f"{self.name} gave no change that can be applied, in {MAX_CORRECTIONS + 1} attempts; the last: {reason}"
        )

    def _ask(
        self, usage: Usage, turns: list[Turn], form: type[Reply], corrections: int = MAX_CORRECTIONS
    ) -> tuple[Reply, str, list[Turn]]:
        """An answer, its text, and the conversation up to it. Retries a busy endpoint while there is time."""
        pause, began = FIRST_PAUSE_SECONDS, time.monotonic()
        while True:
            self._usage_log.check(self._chat.estimate(turns), usage.total)
            try:
                seconds = max(1.0, self._conversing_until - time.monotonic())
                reply, text = self._chat.ask(turns, form, seconds, self._stop_event)
            except Busy as error:
                is_absent = isinstance(error, EndpointUnreachable | NotAnEndpoint)
                patience = ABSENT_SECONDS if is_absent else BUSY_SECONDS
                self._wait(error, pause, began + patience)
                pause *= 2
                continue
            except Malformed as error:
                corrections -= 1
                if corrections < 0:
                    raise AgentError(f"{self.name} gives no usable answer; the last time {error}") from error
                turns = _send_back(turns, "(unusable answer)", str(error))
                continue
            finally:
                usage.add(self._usage_log.record(self._chat.spent, self._chat.outcome))
                if self._chat.advice:
                    self._notify(self._chat.advice)
                    self._chat.advice = ""
            self._backoff.reset()
            return reply, text, turns

    def _wait(self, error: Busy, pause: float, until: float) -> None:
        """Wait before the next attempt; raises `error` if there is no time for one."""
        seconds = max(pause, error.retry_after_seconds or 0.0)
        if time.monotonic() + seconds >= min(until, self._conversing_until):
            raise error
        self._notify(f"{error}; retrying in {seconds:.0f} s")
        if self._stop_event.wait(seconds):
            raise AgentInterrupted("the worker is stopping or pausing")

    @contextmanager
    def _conversation(self, seconds: float, stop_event: Event) -> Iterator[None]:
        """A conversation of at most `seconds`, or until `stop_event`; the model's errors become AgentErrors.

        After a failure the endpoint is not asked for a while, so that the GPU does not wait for it each time.
        """
        now = time.monotonic()
        if now < self._paused_until:
            left = self._paused_until - now
            raise AgentUnavailable(f"the model endpoint failed and is not asked for another {left:.0f} s", left)
        self._conversing_until, self._stop_event = now + seconds, stop_event
        try:
            yield
        except (Busy, Unusable) as error:
            asked = error.retry_after_seconds if isinstance(error, Busy) else None
            self._paused_until = time.monotonic() + (wait := self._backoff.next_wait(asked))
            kind = AgentMisconfigured if isinstance(error, Unusable) else AgentUnavailable
            raise kind(str(error), wait) from error
        except Abandoned as error:
            raise AgentInterrupted(str(error)) from error
        except BudgetSpent as error:
            raise AgentUnavailable(f"the model's budget: {error}") from error
        except OSError as error:
            raise AgentUnavailable(f"the model's usage cannot be recorded: {error.strerror or error}") from error
        except ChatError as error:
            raise AgentError(f"{self.name}: {error}") from error

    def _brief(self, task: Task) -> str:
        return render(
            template_of(task),
            layout=CHAT,
            program=fence("the project's program.md, by its maintainers", task.program),
            context=fence("findings and trials of other volunteers", task.context),
            files=_show_files(task.base.files),
            **describe_task(task),
        )


def _draft_seconds(task: Task) -> float:
    """Limit for a draft with all its attempts: while it is made, the run before it has the device."""
    return task.contract.budget.drafting_seconds - SPARE_SECONDS


def _cost_of(task: Task) -> str:
    return task.usage.total.describe()


def _begin(task: Task, form: type[Reply], prompt: str) -> list[Turn]:
    """A new conversation; the form's JSON schema is in the prompt, because not every endpoint enforces one."""
    schema = json.dumps(describe_form(form))
    rules = render("system", editable=", ".join(task.contract.files.editable), schema=schema, notes=task.notes)
    return [Turn("system", rules), Turn("user", prompt)]


def _apply(reply: replies.Changes, base: Mapping[str, str], task: Task) -> dict[str, str]:
    return check_files(apply_changes(reply.edits, reply.files, base, task.tree), base, task.contract.files)


def _show_files(files: Mapping[str, str]) -> str:
    return "\n\n".join(fence(path, text) for path, text in files.items())


def _send_back(turns: list[Turn], text: str, reason: str) -> list[Turn]:
    """The conversation with its last unusable answer and the reason."""
    request = f"This answer cannot be used: {reason}. Send a complete new answer."
    return [*turns[:2], Turn("assistant", text), Turn("user", request)]
