"""The agent that runs a coding tool: one of presets.py (`--agent claude`), or `--agent-command 'tool {prompt_file}'`.

It works in a new folder with the parent's files, in a sandbox, for a limited time; only editable files are collected.
An answer that cannot be used is sent back with the reason, as long as there is time.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import TypeVar

from shared.contract import Contract
from shared.experiments import JobKind
from shared.findings import FindingDraft
from shared.formatting import format_change
from shared.protocol import Message
from shared.runs import RunReport
from worker.agents.base import (
    Agent,
    AgentError,
    AgentMisconfigured,
    AgentUnavailable,
    Draft,
    Task,
    Usage,
    describe_measurement,
)
from worker.agents.collect import CollectError, find_strays, read_regular
from worker.agents.edits import EditError, check_files
from worker.agents.presets import EDITABLE, ToolPreset
from worker.agents.prompt import TOOL, describe_task, fence, render, template_of
from worker.agents.reading import Unreadable, read_form
from worker.agents.refusals import LOG_IN, PASSING, UNKNOWN_OPTION, find_refusal, find_reset, is_usage_limit
from worker.agents.replies import PaperReply, Statement
from worker.agents.search_space import read_settings
from worker.agents.secrets import Secrets, collect_secrets, renew, shorten_home
from worker.agents.tool_room import RoomSettings, ToolRoom
from worker.agents.tool_usage import is_silent, read_usage, read_words
from worker.sandbox.base import ProcessOutcome
from worker.sandbox.tool import ANSWER, BRIEF, WORK

MAX_ROUNDS = 3
"""Times that a tool is run for one answer."""

LEAST_SECONDS = 15.0
"""A tool is not run again for less time."""

PAPER_SECONDS, QUESTION_SECONDS = 120.0, 60.0
QUESTION_ANSWER = "blue"
LIMIT_WAIT_SECONDS = 900.0
"""Wait after a usage limit whose end the tool does not tell."""

KEPT_LOGS = 40
_COLOR = re.compile("[\N{REPLACEMENT CHARACTER}\x1b]\\[[0-9;]*[A-Za-z]")
STATEMENT, PAPER = "proposal.json", "finding.json"

Answer = TypeVar("Answer")
Form = TypeVar("Form", bound=Message)


class AnswerError(ValueError):
    """The tool's answer cannot be used; the message says what to mend."""


@dataclass(frozen=True)
class Tool:
    """A tool and what it may see; `seconds` limits one draft. What it says is kept in `log_folder`."""

    name: str
    argv: Sequence[str]
    room: RoomSettings
    seconds: float
    log_folder: Path
    preset: ToolPreset | None = None
    transcripts: Path | None = None


class CommandAgent(Agent):
    """Runs the tool for drafts, repairs and findings. `notify` gets a line for people; `stop` ends the tool."""

    kinds = frozenset({JobKind.IMPROVE, JobKind.DRAFT})

    def __init__(self, tool: Tool, notify: Callable[[str], None], stop: Event) -> None:
        self._tool, self._notify, self._stop = tool, notify, stop
        self._left_out: Sequence[str] = ()
        self._answer = WORK if tool.preset is not None and tool.preset.answers_in_work else ANSWER

    @property
    def name(self) -> str:
        return self._tool.name[:80]

    def check(self) -> str:
        """See `Agent`: the small question, then a toy task: one file, one line to change. Raises AgentError."""
        self.begin()
        began = time.monotonic()
        files = {"train.py": "LEARNING_RATE = 0.003\n"}
        prompt = render("tool_toy", answer=self._answer)

        def collect(room: ToolRoom) -> str:
            text = read_regular(room.work, "train.py") or ""
            if read_settings({"train.py": text}).get("LEARNING_RATE") != 0.006:
                raise AnswerError("train.py does not say LEARNING_RATE = 0.006")
            return read_answer(room, STATEMENT, Statement).title

        usage = Usage()
        title = self._run("check", files, "", prompt, ["train.py"], collect, self._tool.seconds, usage)
        total = usage.total
        used = f": {total.describe()}" if total.requests else ", and does not say what it used"
        cost = f", cost {total.cost:.4f}" if total.cost is not None else ""
        return f"{self.name} did a toy task in {time.monotonic() - began:.0f} s ({title!r}){used}{cost}"

    def begin(self) -> None:
        """See `Agent`: asks the tool one small question, because only an answer shows that login and model are right.

        What this does not show is shown by the first job. An older version gets no newer options from then on. Raises
        AgentMisconfigured, AgentUnavailable.
        """
        prompt, files, preset = render("tool_question"), {"train.py": ""}, self._tool.preset
        deadline = time.monotonic() + min(self._tool.seconds, QUESTION_SECONDS)
        with ToolRoom(self._tool.room, files, "", self._notify) as room:
            secrets = self._collect_secrets()
            outcome, end, log = self._run_once(room, "question", prompt, list(files), deadline, secrets)
        said = read_words(outcome.log_tail).replace(prompt, "")
        if outcome.exit_status != 0 or QUESTION_ANSWER not in f"{said}{outcome.log_tail}".lower():
            # A tool that is ended because it is slow has not refused: its words may be warnings.
            advice = None if outcome.killed_for else find_refusal(said, outcome.exit_status)
            if advice == UNKNOWN_OPTION and preset is not None and preset.optional and not self._left_out:
                self._left_out = preset.optional
                return self.begin()
            advice = preset.log_in if advice == LOG_IN and preset is not None else advice
            end = f"{end}; all that it said: {log}"
            may_pass = bool(outcome.killed_for) or advice == PASSING
            self._raise_if_unavailable(said, end, None if may_pass else advice)
            if outcome.exit_status != 0 or is_silent(outcome.log_tail):
                kind = AgentUnavailable if may_pass else AgentMisconfigured
                raise kind(f"{self.name} did not answer a small question ({end})")

    def propose(self, task: Task) -> Draft:
        """See `Agent`. Raises AgentUnavailable if the tool cannot work now, or its sandbox cannot."""
        return self._draft("draft", task, task.base.files, self._brief(template_of(task), task))

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:
        """See `Agent`: the tool gets the files as they were run."""
        crash = f"{report.reason}\n\n{report.frame}\n\n{report.log_tail[-6000:]}"
        prompt = self._brief("tool_repair", task, crash=fence("what the program printed", crash))
        files = self._draft("repair", task, {**task.base.files, **draft.files}, prompt).files
        return draft.repair(files, _cost_of(task))

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        proposal, files = draft.proposal, {**task.tree, **task.base.files, **draft.files}
        prompt = render(
            "tool_paper",
            work=WORK,
            answer=self._answer,
            title=proposal.title,
            hypothesis=proposal.hypothesis,
            predicted=format_change(proposal.predicted_effect, unknown="none"),
            measured=fence("the measurement", describe_measurement(task, report)),
            change=f"Changed files: {', '.join(draft.files)}",
            notes=task.notes,
        )

        def collect(room: ToolRoom) -> FindingDraft:
            return read_answer(room, PAPER, PaperReply).to_finding(self.name)

        names = list(draft.files)
        return self._run("finding", files, task.context, prompt, names, collect, PAPER_SECONDS, task.usage)

    def _draft(self, purpose: str, task: Task, editable: Mapping[str, str], prompt: str) -> Draft:
        files = {**task.tree, **editable}

        def collect(room: ToolRoom) -> Draft:
            changed = collect_changes(room, files, task.contract)
            statement = read_answer(room, STATEMENT, Statement)
            return Draft(statement.to_proposal(read_settings(changed)), changed, self.name, is_code=True)

        def collect_at_last(room: ToolRoom) -> Draft:
            """The changes without words: the statement was asked for again in vain."""
            changed = collect_changes(room, files, task.contract)
            before, after = read_settings(editable), read_settings(changed)
            moves = [
                f"{name} {before[name]} -> {value}" for name, value in after.items() if before.get(name, value) != value
            ]
            statement = Statement.undescribed(", ".join(moves) or f"An undescribed change of {', '.join(changed)}")
            return Draft(statement.to_proposal(after), changed, self.name, is_code=True)

        names = task.contract.files.editable
        seconds, usage = self._tool.seconds, task.usage
        draft = self._run(purpose, files, task.context, prompt, names, collect, seconds, usage, collect_at_last)
        return replace(draft, cost=_cost_of(task))

    def _run(
        self,
        purpose: str,
        files: Mapping[str, str],
        context: str,
        prompt: str,
        editable: Sequence[str],
        collect: Callable[[ToolRoom], Answer],
        seconds: float,
        usage: Usage,
        collect_at_last: Callable[[ToolRoom], Answer] | None = None,
    ) -> Answer:
        """The answer to a prompt, from as many rounds as it takes and there is time for; what they used is added to
        `usage`. Raises AgentError."""
        deadline, secrets = time.monotonic() + seconds, self._collect_secrets()
        known = "\n".join([*files.values(), prompt, context])
        answer: Answer | None = None
        problem, asked = "", prompt
        with ToolRoom(self._tool.room, files, fence("other volunteers", context), self._notify) as room:
            for _ in range(MAX_ROUNDS):
                outcome, end, log = self._run_once(room, purpose, asked, editable, deadline, secrets)
                usage.add(read_usage(outcome.log_tail))
                try:
                    answer = collect(room)
                    break
                except (CollectError, EditError, AnswerError) as error:
                    problem = str(error)
                    self._raise_if_unavailable(read_words(outcome.log_tail)[-4000:], end)
                    if outcome.exit_status != 0 and not outcome.killed_for:
                        raise AgentUnavailable(f"{self.name} failed: {end}; all that it said: {log}") from error
                if deadline - time.monotonic() < LEAST_SECONDS:
                    break
                asked = render("tool_again", work=WORK, problem=problem, task=prompt)
            if strays := find_strays(room.work, files, [*editable, STATEMENT, PAPER]):
                self._notify(f"{self.name} made changes that are not allowed, which were dropped: {'; '.join(strays)}")
            if answer is None and collect_at_last is not None:
                with suppress(CollectError, EditError):
                    answer = collect_at_last(room)
        if answer is None:
            raise AgentError(f"{self.name}: {problem} ({end}; all that it said: {log})")
        if leak := renew(secrets).find_leak(_published(answer), known):
            raise AgentError(f"{self.name} copied a secret from {leak} into its answer, which was discarded")
        return answer

    def _run_once(
        self, room: ToolRoom, purpose: str, asked: str, editable: Sequence[str], deadline: float, secrets: Secrets
    ) -> tuple[ProcessOutcome, str, str]:
        """How a run of the tool ended, that in words without secrets, and where all that it said is kept."""
        words = [part for part in self._tool.argv if part not in self._left_out]
        argv = [word for part in words for word in (editable if part == EDITABLE else [part])]
        outcome = room.run(argv, asked, deadline, self._stop)
        return outcome, secrets.redact(describe_end(outcome)), self._keep(purpose, outcome)

    def _collect_secrets(self) -> Secrets:
        mounts = (mount.path for mount in self._tool.room.mounts)
        return collect_secrets(mounts, self._tool.room.environment, self._tool.transcripts)

    def _raise_if_unavailable(self, said: str, end: str, refusal: str | None = None) -> None:
        """Raise AgentUnavailable if what the tool said shows that asking again does not help.

        `refusal` is what to do about one that can never work, unless a limit ends by itself.
        """
        now, preset = datetime.now().astimezone(), self._tool.preset
        if preset is not None and any(phrase in said.lower() for phrase in preset.logged_out):
            raise AgentMisconfigured(f"{self.name} is not logged in ({end}): {preset.log_in}")
        reset = find_reset(said, now) if is_usage_limit(said) else None
        if refusal is not None and reset is None:
            raise AgentMisconfigured(f"{self.name} cannot work ({end}): {refusal}")
        if is_usage_limit(said):
            seconds = LIMIT_WAIT_SECONDS if reset is None else max(60.0, (reset - now).total_seconds())
            when = (
                "no time is given when it ends" if reset is None else f"it ends {reset.astimezone():%a %d %b %H:%M %Z}"
            )
            raise AgentUnavailable(f"{self.name} has reached its usage limit; {when} ({end})", seconds)

    def _keep(self, purpose: str, outcome: ProcessOutcome) -> str:
        """Keep what the tool said, for its owner's eyes, and return where; older logs are removed."""
        folder = self._tool.log_folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{datetime.now().astimezone():%Y%m%d-%H%M%S-%f}-{purpose}.log"
        path.touch(mode=0o600)
        path.write_text(f"{outcome.log_tail}\n[{describe_end(outcome)}]\n", encoding="utf-8")
        for old in sorted(folder.glob("*.log"))[:-KEPT_LOGS]:
            old.unlink(missing_ok=True)
        return shorten_home(path)

    def _brief(self, name: str, task: Task, **more: str) -> str:
        return render(name, layout=TOOL, work=WORK, brief=BRIEF, answer=self._answer, **describe_task(task), **more)


def collect_changes(room: ToolRoom, files: Mapping[str, str], contract: Contract) -> dict[str, str]:
    """The editable files that the tool changed. Raises CollectError, EditError."""
    texts = {path: read_regular(room.work, path) for path in contract.files.editable}
    base = {path: files[path] for path in texts if path in files}
    return check_files({path: text for path, text in texts.items() if text is not None}, base, contract.files)


def read_answer(room: ToolRoom, name: str, form: type[Form]) -> Form:
    """The content of an answer's file. Raises CollectError, AnswerError."""
    text = next(
        (found for folder in (room.answer, room.work) if (found := read_regular(folder, name)) is not None), None
    )
    if text is None:
        raise AnswerError(f"{name} is missing; write it where your task says")
    try:
        return read_form([text], form)[0]
    except Unreadable as error:
        raise AnswerError(f"{name} cannot be used: {error}") from error


def describe_end(outcome: ProcessOutcome) -> str:
    """The end of a tool in words, with the last line it printed."""
    how = outcome.killed_for or (
        f"exit status {outcome.exit_status}" if outcome.signal is None else f"signal {outcome.signal}"
    )
    lines = [line.strip() for line in _COLOR.sub("", read_words(outcome.log_tail)).splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    return f"{how}: {last[:200]}" if last else how


def _cost_of(task: Task) -> str:
    """The usage that the tool printed so far, in words; empty where it printed none."""
    return task.usage.total.describe() if task.usage.total.requests else ""


def _published(answer: object) -> str:
    """All text of an answer that leaves this machine."""
    if isinstance(answer, Draft):
        return "\n".join([*answer.files.values(), answer.proposal.model_dump_json()])
    return answer.model_dump_json() if isinstance(answer, FindingDraft) else str(answer)
