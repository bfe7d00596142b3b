"""The jobs of a coding agent's session: one at a time, each by the worker's own loop in a thread."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from shared.commits import CommitError
from shared.contract import ContractError
from shared.experiments import AxisDirection
from shared.findings import Question
from shared.leases import GrantedLease, Phase
from worker.agents.base import AgentError, Draft, describe_measurement
from worker.agents.collect import CollectError, read_regular
from worker.agents.edits import EditError, check_files
from worker.agents.presets import PRESETS
from worker.agents.prompt import describe_task, fence
from worker.agents.replies import PaperReply, Statement
from worker.agents.search_space import read_settings
from worker.agents.secrets import collect_secrets
from worker.agents.session import SessionAgent, SessionRequest, Wanted
from worker.api.client import ClientError
from worker.data.download import DataError
from worker.git.repository import write_worktree
from worker.loop.heartbeat import HeartbeatDied
from worker.runs.spec import RunImpossible
from worker.settings import login_path
from worker.start import OpenWorker
from worker.ui.events import Event, JobClaimed, JobDropped, JobProgressed, Notice, RunFinished, RunSummary, WaitStarted
from worker.ui.status import read_status

WAIT_SECONDS = 45.0
"""Longest wait of one call: clients end a call after a minute, some of them."""

POLL_INTERVAL_SECONDS = 0.1
KEPT_NOTICES = 8
NEXT_TOOL = {
    Wanted.PROPOSAL: "edit the files in `folder`, then call `propose`",
    Wanted.REPAIR: "the run crashed: mend the files in `folder` and call `propose`, or call it unchanged to give up",
    Wanted.FINDING: "call `write_finding`",
}

Json = dict[str, Any]


class JobEvents:
    """Keeps what happens to the current job: its lease, its phase, its summary, and the last lines for people."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.lease: GrantedLease | None = None
        self.phase: Phase | None = None
        self.summary: RunSummary | None = None
        self.notices: deque[str] = deque(maxlen=KEPT_NOTICES)

    def handle(self, event: Event) -> None:
        """See `EventHandler`."""
        match event:
            case JobClaimed(lease):
                self.lease = lease
            case JobProgressed(_, progress):
                self.phase = progress.phase
            case RunFinished(summary):
                self.summary = summary
            case JobDropped():
                self.notices.append("the job was given back or lost")
            case Notice(text) | WaitStarted(text):
                self.notices.append(text)


class JobSession:
    """Takes jobs for a session. `folder` gets a subfolder for each job, with its files to edit.

    The session's agent reads the docstrings of the methods that mcp_server.py offers it as tools.
    """

    def __init__(self, worker: OpenWorker, agent: SessionAgent, events: JobEvents, folder: Path) -> None:
        self._worker, self._agent, self._events, self._folder = worker, agent, events, folder
        self._thread: Thread | None = None
        self._failure = ""
        self._job_folder: Path | None = None

    def next_job(self, client: str) -> Json:
        """Get a job: a project, a parent commit in a folder, and what is asked. With a job under way, says what it
        waits for. `waits: true` means: call it again."""
        self._agent.touch()
        if not self._is_working:
            if client:
                self._agent.set_client(client)
            self._events.begin()
            self._failure, self._job_folder = "", None
            self._thread = Thread(target=self._work, name="job", daemon=True)
            self._thread.start()
        self._wait(lambda: self._agent.request is not None)
        return self.describe()

    def read_context(self) -> Json:
        """The findings that bear on this job: its lineage, siblings, running experiments, results for and against."""
        request = self._get_request(*Wanted)
        return {"context": fence("other volunteers", request.task.context)}

    def ask_whether_tried(self, text: str) -> Json:
        """Has this been tried? `text` is a sentence or a unified diff. Answers in a sentence, with the attempts that
        are most alike."""
        request = self._get_request(*Wanted)
        project = request.task.contract.project.name
        answer = self._worker.parts.client.ask_whether_tried(Question(project=project, text=text))
        return {"answer": fence("other volunteers", answer.model_dump_json(exclude_none=True))}

    def propose(
        self,
        title: str,
        hypothesis: str,
        axis: str,
        direction: AxisDirection,
        value: str = "",
        predicted_effect: float | None = None,
        refuted_by: str = "",
        insists: str = "",
        files: dict[str, str] | None = None,
    ) -> Json:
        """Propose the change that now stands in the job's folder (or in `files`: path -> whole text). `axis` is the
        thing that changes, `direction` up, down or change, `predicted_effect` child minus parent. If others know it,
        the answer says so: change the idea and propose again, or say in `insists` why it is worth a run. Once accepted,
        the measurement begins. After a crash, mend the folder and propose again with the same words."""
        statement = Statement(
            title=title, hypothesis=hypothesis, axis=axis, direction=direction, value=value,
            predicted_effect=predicted_effect, refuted_by=refuted_by, insists=insists,
        )  # fmt: skip
        request = self._get_request(Wanted.PROPOSAL, Wanted.REPAIR)
        changed = self._collect(request, files)
        if request.draft is not None:
            draft = request.draft.repair(changed) if changed else request.draft
        else:
            draft = Draft(statement.to_proposal(read_settings(changed)), changed, self._agent.name, is_code=True)
        self._check_leak("\n".join([*changed.values(), draft.proposal.model_dump_json()]))
        self._events.phase = None
        self._agent.answer(request, draft)
        self._wait(lambda: self._agent.request is not None or self._events.phase is not None)
        again = self._agent.request
        if again is not None and again.wanted is Wanted.PROPOSAL:
            reply = again.task.replies[-1]
            alike = fence(
                "other volunteers", "\n".join(one.model_dump_json(exclude_none=True) for one in reply.similar)
            )
            return {"accepted": False, "reason": reply.reason or "this is known already", "similar": alike}
        return {"accepted": self._is_working, **self.describe()}

    def wait_for_measurement(self) -> Json:
        """Wait for the measurement, at most a minute a call. `waits: true` means: call it again."""
        if not self._is_working and self._events.summary is None:
            raise AgentError("there is no job: call `next_job`")
        self._agent.touch()
        self._wait(lambda: self._agent.request is not None)
        return self.describe()

    def write_finding(
        self,
        claim: str,
        mechanism: str,
        caveats: str,
        follow_ups: str = "",
        refuted_by: str = "",
        tags: list[str] | None = None,
    ) -> Json:
        """Write the paper of the measured experiment, at most 250 words in all, and deliver the result. Claim no more
        than one run can show; call nothing best; if it failed, say what others learn from that. Type no result as a
        number: `{result}`, `{effect}`, `{metric}` and `{runs}` are shown as what is known when somebody reads it."""
        request = self._get_request(Wanted.FINDING)
        paper = PaperReply(
            claim=claim, mechanism=mechanism, caveats=caveats, follow_ups=follow_ups, refuted_by=refuted_by,
            tags=tags or [],
        )  # fmt: skip
        finding = paper.to_finding(self._agent.name)
        self._check_leak(finding.model_dump_json())
        self._agent.answer(request, finding)
        self._wait(lambda: False)
        return self.describe()

    def describe(self) -> Json:
        """The state of this worker and of its job, and which tool to call next."""
        request, events, parts = self._agent.request, self._events, self._worker.parts
        found: Json = {"worker": parts.worker, "device": parts.runner.hardware.hardware_class}
        if parts.stop.pause is not None:
            found["pause"] = parts.stop.pause
        if request is not None:
            found |= self._describe_request(request)
        elif self._is_working:
            status = read_status(self._worker.settings.worker_folder)
            state = f"{status.state_text} {status.share:.0%}" if status else "starting"
            about = events.lease.kind.value if events.lease is not None else "no job yet"
            found |= {"state": f"{about}: {state}", "waits": True, "next": "call `measure` (or `next_job`) again"}
        else:
            found |= {"state": self._failure or "no job", "next": "call `next_job`"}
        if events.summary is not None and not self._is_working:
            summary = events.summary
            found["result"] = {
                "title": summary.title,
                "metric": summary.metric,
                "effect": summary.effect,
                "at": summary.place,
            }
        if events.notices:
            found["notices"] = list(events.notices)
        return found

    def close(self) -> None:
        """Give back the job that is under way."""
        stop = self._worker.parts.stop
        stop.request()
        stop.request()
        if self._thread is not None:
            self._thread.join(WAIT_SECONDS)

    @property
    def _is_working(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _work(self) -> None:
        self._failure = "the job ended with an error in the worker's code"
        try:
            self._worker.make_loop().run(max_jobs=1, once=True)
            self._failure = ""
        except (ClientError, HeartbeatDied, RunImpossible, CommitError, ContractError, DataError, OSError) as error:
            self._failure = str(error)

    def _wait(self, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while self._is_working and not is_done() and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_SECONDS)

    def _get_request(self, *wanted: Wanted) -> SessionRequest:
        """The request that the worker waits for. Raises AgentError if that is nothing of `wanted`."""
        self._agent.touch()
        request = self._agent.request
        if request is None or request.wanted not in wanted:
            what = "there is no job" if not self._is_working else "the worker waits for something else"
            raise AgentError(f"{what}: {self.describe()['next']}")
        return request

    def _describe_request(self, request: SessionRequest) -> Json:
        task, lease = request.task, self._events.lease
        folder = self._find_folder(request)
        found: Json = {
            "state": f"waits for your {request.wanted}",
            "next": NEXT_TOOL[request.wanted],
            "project": task.contract.project.name,
            "question": task.contract.project.title,
            "kind": task.kind.value,
            "asked": "a structural departure" if task.kind.value == "draft" else "one small, motivated change",
            "folder": str(folder),
            "why": lease.why if lease is not None else "",
        }
        found |= {name: value for name, value in describe_task(task).items() if value and name != "may_insist"}
        if request.report is not None:
            found["measured"] = describe_measurement(task, request.report)
            if request.wanted is Wanted.REPAIR:
                log = f"{request.report.frame}\n{request.report.log_tail[-4000:]}"
                found["log"] = fence("what the program printed", log)
        return found

    def _find_folder(self, request: SessionRequest) -> Path:
        """The job's folder, written once: all files of the parent."""
        if self._job_folder is None:
            name = f"{request.task.contract.project.name}-{request.task.base.sha[:10]}"
            number = next(n for n in range(1, 1_000_000) if not (self._folder / f"{name}-{n}").exists())
            self._job_folder = write_worktree(
                self._folder / f"{name}-{number}", {**request.task.tree, **request.task.base.files}
            )
        return self._job_folder

    def _collect(self, request: SessionRequest, files: Mapping[str, str] | None) -> dict[str, str]:
        """The changed files. Raises EditError; an unchanged draft is empty after a crash."""
        task, folder = request.task, self._find_folder(request)
        try:
            found = files or {
                path: text for path in task.contract.files.editable if (text := read_regular(folder, path)) is not None
            }
        except CollectError as error:
            raise EditError(str(error)) from error
        run = {**task.base.files, **(request.draft.files if request.draft is not None else {})}
        if request.wanted is Wanted.REPAIR and all(run.get(path) == text for path, text in found.items()):
            return {}
        return check_files(found, task.base.files, task.contract.files)

    def _check_leak(self, text: str) -> None:
        """Raise AgentError if a text holds this worker's token, or a key of a coding tool's login."""
        logins = [Path(place).expanduser() for preset in PRESETS.values() for place in preset.logins]
        token = self._worker.settings.read_token().get_secret_value()
        secrets = collect_secrets([login_path(), *logins], {"SWARM_TOKEN": token})
        request = self._agent.request
        known = "\n".join([*request.task.tree.values(), *request.task.base.files.values()]) if request else ""
        if leak := secrets.find_leak(text, known):
            raise AgentError(f"this holds a secret from {leak}, and would be published; take it out")
