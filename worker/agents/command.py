"""The agent that runs a coding tool of the volunteer's choice: `--agent-command 'tool -p {prompt_file}'`.

It works in a new folder with the parent's files, in a sandbox, for a limited time; only editable files are collected.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from pydantic import ValidationError

from shared.experiments import JobKind
from shared.runs import RunReport
from worker.agents.base import Agent, AgentError, AgentInterrupted, AgentUnavailable, Draft, Task
from worker.agents.collect import CollectError, find_strays, read_regular, size_of
from worker.agents.prompt import TOOL, describe_task, fence, render, template_of
from worker.agents.replies import EditError, Statement, check_files
from worker.agents.search_space import read_settings
from worker.agents.secrets import Secrets, collect_secrets, renew
from worker.git.repository import write_worktree
from worker.sandbox.base import ProcessOutcome, SandboxUnavailable
from worker.sandbox.tool import ANSWER, BRIEF, LIMITS, WORK, Mount, ToolRun, start_tool

MIB = 1024 * 1024
POLL_INTERVAL_SECONDS = 0.5
PROMPT_FILE = "{prompt_file}"


@dataclass(frozen=True)
class Tool:
    """The volunteer's command and the paths and variables it may see; `seconds` limits one draft."""

    argv: Sequence[str]
    home: Path
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    seconds: float


class CommandAgent(Agent):
    """Runs the tool for each draft and repair. `notify` gets a line for people; `stop` ends the tool."""

    kinds = frozenset({JobKind.IMPROVE, JobKind.DRAFT})

    def __init__(self, tool: Tool, notify: Callable[[str], None], stop: Event) -> None:
        self._tool, self._notify, self._stop = tool, notify, stop

    @property
    def name(self) -> str:
        return f"command {Path(self._tool.argv[0]).name}"[:80]

    def propose(self, task: Task) -> Draft:
        """See `Agent`. Raises AgentUnavailable if the tool or its sandbox does not work."""
        files = {**task.tree, **task.base.files}
        return self._run(task, files, self._brief(template_of(task), task))

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:
        """See `Agent`: the tool gets the files as they were run."""
        crash = f"{report.reason}\n\n{report.frame}\n\n{report.log_tail[-6000:]}"
        files = {**task.tree, **task.base.files, **draft.files}
        prompt = self._brief("tool_repair", task, crash=fence("what the program printed", crash))
        return draft.repair(self._run(task, files, prompt).files)

    def _run(self, task: Task, files: Mapping[str, str], prompt: str) -> Draft:
        with tempfile.TemporaryDirectory(prefix="swarm-agent-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            write_worktree(folder / "work", files)
            brief = {"prompt.md": prompt, "context.md": fence("other volunteers", task.context)}
            write_worktree(folder / "brief", brief)
            (folder / "answer").mkdir()
            secrets = collect_secrets((mount.path for mount in self._tool.mounts), self._tool.environment)
            outcome = self._await(folder)
            strays = find_strays(folder / "work", files, task.contract.files.editable)
            if strays:
                self._notify(f"{self.name} made changes that are not allowed, which were dropped: {'; '.join(strays)}")
            try:
                return self._collect_draft(task, files, folder, renew(secrets), prompt)
            except (CollectError, EditError) as error:
                raise AgentError(f"{self.name}: {error} ({_describe(outcome)})") from error

    def _await(self, folder: Path) -> ProcessOutcome:
        """Run the tool to its end; end it at its deadline, if its files are too large, or if the worker stops."""
        argv = [word.replace(PROMPT_FILE, f"{BRIEF}/prompt.md") for word in self._tool.argv]
        run = ToolRun(argv, folder, self._tool.home, self._tool.environment, self._tool.mounts)
        deadline = time.monotonic() + self._tool.seconds
        try:
            process = start_tool(run, os.geteuid())
        except SandboxUnavailable as error:
            raise AgentUnavailable(str(error)) from error
        try:
            while (outcome := process.wait(POLL_INTERVAL_SECONDS)) is None:
                if self._stop.is_set():
                    raise AgentInterrupted("the worker is stopping or pausing")
                if time.monotonic() > deadline:
                    raise AgentError(f"{self.name} took more than {self._tool.seconds:g} s and was ended")
                if size_of(folder) > LIMITS.disk_mib * MIB:
                    raise AgentError(f"{self.name} wrote more than {LIMITS.disk_mib} MiB and was ended")
        finally:
            process.kill()
        if outcome.exit_status != 0:
            raise AgentUnavailable(f"{self.name} failed: {_describe(outcome)}")
        return outcome

    def _collect_draft(
        self, task: Task, files: Mapping[str, str], folder: Path, secrets: Secrets, prompt: str
    ) -> Draft:
        """The draft in the folder. Raises CollectError, EditError, AgentError."""
        texts = {path: read_regular(folder / "work", path) for path in task.contract.files.editable}
        base = {path: files[path] for path in texts if path in files}
        changed = check_files({p: t for p, t in texts.items() if t is not None}, base, task.contract.files)
        try:
            statement = Statement.model_validate_json(read_regular(folder / "answer", "proposal.json") or "")
        except ValidationError:
            statement = Statement.undescribed()
        answer = "\n".join([*changed.values(), statement.model_dump_json()])
        if leak := secrets.find_leak(answer, "\n".join([*files.values(), prompt, task.context])):
            raise AgentError(f"{self.name} copied a secret from {leak} into its answer, which was discarded")
        return Draft(statement.to_proposal(read_settings(changed)), changed, self.name, is_code=True)

    def _brief(self, name: str, task: Task, **more: str) -> str:
        return render(name, layout=TOOL, work=WORK, brief=BRIEF, answer=ANSWER, **describe_task(task), **more)


def _describe(outcome: ProcessOutcome) -> str:
    """The end of a tool in words, with the last line it printed."""
    how = outcome.killed_for or (
        f"exit status {outcome.exit_status}" if outcome.signal is None else f"signal {outcome.signal}"
    )
    last = outcome.log_tail.rpartition("\n")[2]
    return f"{how}: {last[:200]}" if last else how
