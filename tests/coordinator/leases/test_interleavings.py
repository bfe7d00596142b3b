"""Any interleaving of requests, over HTTP to the real application on a real database, leaves what the model expects."""

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import Phase as Part
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from coordinator.db.database import Database
from coordinator.leases import state
from coordinator.leases.heartbeats import HeldHeartbeats
from coordinator.projects.service import create_project
from shared.contract import Budget
from shared.experiments import ProposalSubmission
from shared.leases import LeaseState, Phase, ResultUpload
from tests.coordinator.leases.model import Job, Model
from tests.support.clock import Clock
from tests.support.databases import count_rows
from tests.support.examples import choose_examples
from tests.support.messages import describe_change, make_result, make_run
from tests.support.seeds import TRAIN, write_seed
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker

CREW = [("ada", "w1"), ("ada", "w2"), ("bob", "w1")]
TEXTS = [TRAIN, *(f"DEPTH = {depth}\n" for depth in range(5, 8))]
"""Few, so that workers often have the same idea; the first is the seed's own."""

OTHER_TEXT = "DEPTH = 9\n"
WHO, WHICH = st.integers(0, 2), st.integers(0, 7)
WAITS = st.sampled_from([0, 1, 20])
JUMPS = st.sampled_from([100, 200])
"""Seconds. A lease whose worker is silent holds for 180."""

numbers = count()


class Interleavings(RuleBasedStateMachine):
    """Each example is a project of its own, in a database that the examples share."""

    def __init__(
        self, http: TestClient, database: Database, held_heartbeats: HeldHeartbeats, clock: Clock, folder: Path
    ) -> None:
        super().__init__()
        self.database, self.held_heartbeats, self.clock = database, held_heartbeats, clock
        self.project = f"p{next(numbers)}"
        with database.write() as session:
            project, _ = create_project(session, write_seed(folder / self.project, self.project))
            self.project_id = project.id
            tokens = [create_token(session, f"{volunteer}-{self.project}", "test") for volunteer, _ in CREW]
            self.model = Model(clock, Budget(training_seconds=20), project.root_sha, TRAIN)
        self.crew = [MiniWorker(http, token, name) for token, (_, name) in zip(tokens, CREW, strict=True)]

    @initialize()
    def measure_the_seed(self) -> None:
        """The first job of every worker; then each takes an experiment."""
        for worker in self.crew:
            self.claim_holding(worker, [])
            self.deliver_once(self.model.jobs[-1], "", None)
            self.claim_holding(worker, [])

    # What workers do, after a while.

    @rule(who=WHO, wait=WAITS, text=st.sampled_from([None, *TEXTS]))
    def claim(self, who: int, wait: int, text: str | None) -> None:
        """Take a job and perhaps have an idea at once."""
        self.clock.jump(wait)
        self.claim_holding(self.crew[who], self.model.list_jobs(self.crew[who])[-16:])
        if text is not None:
            self.send_proposal(self.model.list_jobs(self.crew[who])[-1], text)

    @rule(who=WHO, remembered=st.integers(0, 1))
    def start_anew(self, who: int, remembered: int) -> None:
        """A worker that claims and holds less than it did was started anew."""
        self.claim_holding(self.crew[who], self.model.list_jobs(self.crew[who])[-1:][:remembered])

    @rule(which=WHICH, wait=WAITS, phase=st.sampled_from(Phase), step=st.integers(0, 2))
    def beat(self, which: int, wait: int, phase: Phase, step: int) -> None:
        self.clock.jump(wait)
        job = self.choose(which)
        send = partial(job.worker.beat, job.lease, phase, step=step, share=0.5)
        if not self.model.is_live(job):
            self.refused(send, 410, "lease-ended")
            return
        try:
            after = state.renew(job.clock, phase, step, 0.5, self.clock.moment)
        except state.TransitionError:
            self.refused(send, 409, "lease-transition")
            return
        assert send().json()["state"] == after.state
        self.held_heartbeats.write_all(self.database)  # as happens within a second
        self.model.note_beat(job, after)

    @rule(which=WHICH, wait=WAITS, text=st.sampled_from(TEXTS))
    def propose(self, which: int, wait: int, text: str) -> None:
        self.clock.jump(wait)
        self.send_proposal(self.choose(which), text)

    @rule(which=WHICH)
    def release(self, which: int) -> None:
        job = self.choose(which)
        reply = job.worker.release(job.lease)
        if job.is_open:
            self.model.note_release(job)
        assert (reply.status_code, reply.json()["state"]) == (200, job.clock.state)

    @rule(which=WHICH, metric=st.sampled_from([3.1, 3.3, None]))
    def deliver(self, which: int, metric: float | None) -> None:
        """In time or late, now or again; of a proposal, or of what nobody was asked about."""
        self.deliver_once(self.choose(which), OTHER_TEXT, metric)

    # What goes wrong.

    @rule(seconds=JUMPS)
    def let_time_pass(self, seconds: int) -> None:
        self.clock.jump(seconds)

    @rule(seconds=JUMPS)
    def set_the_clock_back(self, seconds: int) -> None:
        self.clock.jump(-seconds)

    @rule(which=WHICH, another=WHICH, what=st.sampled_from(["body", "run", "second run"]))
    def deliver_what_conflicts(self, which: int, another: int, what: str) -> None:
        """Another body for the same run, a run that another lease has brought, a second run for a lease."""
        job, other = self.choose(which), self.choose(another)
        upload = self.make_upload(job, OTHER_TEXT, 3.2)
        if what == "body" and job.upload is not None:
            upload = job.upload.model_copy(update={"run": job.upload.run.model_copy(update={"steps": 9})})
        elif what == "run" and other.upload is not None and other is not job:
            upload = self.make_upload(job, OTHER_TEXT, 3.2, id=other.upload.run.id)
        elif what != "second run" or job.upload is None:
            return
        self.refused(partial(job.worker.deliver, job.lease, upload), 409, "result-conflict")

    @rule(which=WHICH, who=WHO, what=st.sampled_from(["result", "beat", "release"]))
    def speak_for_somebody_else(self, which: int, who: int, what: str) -> None:
        """For another volunteer's lease, with a guessed token, or for a lease that never was."""
        job, speaker = self.choose(which), self.crew[who]
        lease, problem = job.lease, (403, "lease-foreign")
        if (speaker is self.crew[2]) == (job.worker is self.crew[2]):  # the same volunteer
            problem = (404, "lease-unknown") if what == "result" else (403, "lease-token-wrong")
            lease = lease.model_copy(update={"id": uuid4()} if what == "result" else {"token": "guess"})
        upload = job.upload or self.make_upload(job, OTHER_TEXT, 3.2)
        requests = {
            "result": partial(speaker.deliver, lease, upload),
            "beat": partial(speaker.beat, lease, Phase.REPORTING),
            "release": partial(speaker.release, lease),
        }
        self.refused(requests[what], *problem)

    # What must hold.

    @invariant()
    def the_database_is_as_expected(self) -> None:
        with self.database.read() as session:
            self.model.check(session, self.project_id)

    def teardown(self) -> None:
        """Everything that was acknowledged is still answered in the same way, and people see who is at work."""
        for job in self.model.jobs:
            if job.upload is not None:
                self.deliver_once(job, "", None)
        shown = self.crew[0].get_json(f"/leases?project={self.project}")["items"]
        live = [job for job in self.model.jobs if self.model.is_live(job)]
        assert {row["id"] for row in shown} == {str(job.lease.id) for job in live}

    # The requests.

    def choose(self, which: int) -> Job:
        """One of the jobs that may be live, or one of the two that ended last."""
        ended = [job for job in self.model.jobs if not job.is_open]
        found = [job for job in self.model.jobs if job.is_open] + ended[-2:]
        return found[which % len(found)]

    def claim_holding(self, worker: MiniWorker, held: list[Job]) -> None:
        reply = worker.claim(project=self.project, holding=[str(job.lease.id) for job in held])
        if reply.lease is None and "jobs already" not in reply.reason:
            return  # there was nothing to do, as after many failures, and so nothing was written either
        if self.model.note_claim(worker, held):
            assert reply.lease is not None, reply.reason
            self.model.note_grant(worker, reply.lease)
        else:
            assert reply.lease is None

    def send_proposal(self, job: Job, text: str) -> None:
        files = {"train.py": text}
        proposal = describe_change(job.lease.base.files, files)
        submission = ProposalSubmission(token=job.lease.token, proposal=proposal, files=files)
        send = partial(job.worker.post, f"/leases/{job.lease.id}/proposal", submission)
        is_drafting = job.clock.state is LeaseState.DRAFTING
        if not self.model.is_live(job):
            self.refused(send, 410, "lease-ended")
        elif not is_drafting and job.text != text:
            self.refused(send, 409, "lease-transition")
        elif is_drafting and self.model.is_taken(text):
            assert not send().json()["accepted"]
            self.model.note_refusal(job)
        else:
            assert send().json()["accepted"]
            if is_drafting:  # else it was sent again, as if the answer had been lost
                self.model.note_proposal(job, text)

    def deliver_once(self, job: Job, text: str, metric: float | None) -> None:
        """The first time the result is stored; then the same answer comes again."""
        upload = job.upload or self.make_upload(job, text, metric)
        send = partial(job.worker.deliver, job.lease, upload)
        if job.upload is not None:
            response = send()
            assert (response.status_code, response.json()) == (200, job.reply)
        elif upload.commit is not None and upload.commit.sha in self.model.commits:
            self.refused(send, 409, "result-conflict")
        else:
            response = send()
            assert response.status_code == 201, response.text
            self.model.note_result(job, upload, response.json())

    def make_upload(self, job: Job, text: str, metric: float | None, **changes: Any) -> ResultUpload:
        if not job.lease.kind.makes_experiment:
            return ResultUpload(run=make_run(job.lease.base.sha, 3.3, **changes))
        files = {"train.py": job.text or text}
        return make_result(job.lease, job.worker.files_of(job.lease), files, metric, **changes)

    def refused(self, send: Callable[[], httpx.Response], status: int, code: str) -> None:
        """The request is refused, and leaves nothing."""
        before = count_rows(self.database)
        response = send()
        assert (response.status_code, response.json().get("type")) == (status, f"/problems/{code}"), response.text
        assert count_rows(self.database) == before


EXAMPLES = {"sqlite": choose_examples(7, 300), "postgresql": choose_examples(3, 100)}
"""Several short searches: after ten examples hypothesis mostly varies earlier ones."""


@pytest.mark.parametrize("search", range(choose_examples(2, 3)))
def test_any_interleaving_keeps_the_promises(
    app: FastAPI, http: TestClient, database: Database, tmp_path: Path, clock: Clock, search: int
) -> None:
    make = partial(Interleavings, http, database, app.state.held_heartbeats, clock, tmp_path)
    run_state_machine_as_test(
        seed(search)(lambda: make()),
        settings=settings(max_examples=EXAMPLES[database.backend], stateful_step_count=40, phases=[Part.generate]),
    )
