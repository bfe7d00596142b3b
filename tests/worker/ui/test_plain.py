"""worker/ui/plain.py: log lines of a worker."""

import io
import os
import re
from dataclasses import replace

from shared.experiments import JobKind, Posterior, Verdict
from shared.leases import BaseCommit, GrantedLease, Phase
from shared.runs import ModelUsage, RunReport
from tests.support.messages import make_proposal, make_run
from tests.worker.agents.tasks import CONTRACT, sha_of
from tests.worker.loop.test_heartbeat import make_lease
from worker.runs.spec import RunProgress
from worker.ui.events import (
    AgentTrouble,
    EventHandler,
    ExperimentProposed,
    JobClaimed,
    JobProgressed,
    Notice,
    OutboxChanged,
    RunFinished,
    RunSummary,
    StopRequested,
    WaitStarted,
    WorkerStarted,
    WorkerStopped,
)
from worker.ui.plain import PlainView

STARTED = WorkerStarted(
    "box-gpu0", "NVIDIA H100 · 80 GiB · 700 W · torch 2 · bfloat16", "bubblewrap", "search", "https://swarm.test"
)


def lease_of(kind: JobKind = JobKind.IMPROVE) -> GrantedLease:
    posterior = Posterior(metric_mean=3.3, metric_sd=0.0052, runs=2)
    base = BaseCommit(sha=sha_of("root"), files={}, posterior=posterior)
    return make_lease(kind).model_copy(update={"base": base, "why": "The best of five draws [from posteriors]."})


AFTER = Posterior(
    metric_mean=3.2512, metric_sd=0.005, effect_mean=-0.0488, effect_sd=0.0072, runs=1, verdict=Verdict.IMPROVED
)


def summary_of(report: RunReport, place: str = "https://swarm.test/experiments/1") -> RunSummary:
    return RunSummary(lease_of(), "DEPTH 4 -> [6]", CONTRACT, report, place)


def play(view: EventHandler) -> None:
    """A worker's morning."""
    first, second = lease_of(), lease_of(JobKind.REPLICATE)
    view.handle(STARTED)
    view.handle(JobClaimed(first))
    view.handle(ExperimentProposed(first, make_proposal("DEPTH 4 -> [6]"), "openai test"))
    view.handle(AgentTrouble("the model gives nothing usable: HTTP 500"))
    view.handle(JobProgressed(first, RunProgress(Phase.STARTING, 0, None, 0.0)))
    for share in (0.1, 0.5, 0.9):
        step, loss = round(1000 * share), 4.5 - share
        speed = {"tokens_per_second": 12_345.6, "parent_loss": 4.25}
        view.handle(JobProgressed(first, RunProgress(Phase.TRAINING, step, loss, share, **speed)))
        if share == 0.1:
            view.handle(JobClaimed(second))
    usage = ModelUsage(requests=2, input_tokens=900, output_tokens=80)
    view.handle(
        RunFinished(replace(summary_of(make_run(sha_of("a"), 3.2512, usage=usage)), lease=first, posterior=AFTER))
    )
    crashed = make_run(sha_of("b"), None, reason="heads must divide width")
    view.handle(RunFinished(replace(summary_of(crashed, "in the outbox"), lease=second)))
    view.handle(OutboxChanged(1))
    view.handle(WaitStarted("There is nothing to do.", 30.0))
    view.handle(Notice("the result is kept", is_warning=True))
    view.handle(StopRequested(now=False))
    view.handle(WorkerStopped())


def test_plain_is_one_line_per_event_with_results_on_stdout() -> None:
    messages, results = io.StringIO(), io.StringIO()
    play(PlainView(messages, results))
    runs = results.getvalue().splitlines()
    assert len(runs) == 2
    assert "val_bpb=3.2512" in runs[0] and 'parent="3.3000 ± 0.0052, n = 2"' in runs[0]
    assert 'effect="−0.0488 ± 0.0072 (improved, provisional)"' in runs[0]
    assert "outcome=crashed" in runs[1] and 'place="in the outbox"' in runs[1] and "heads must divide" in runs[1]
    lines = messages.getvalue().splitlines()
    assert 'agent="openai test"' in lines[2] and 'trouble="the model gives nothing usable: HTTP 500"' in lines[3]
    assert [re.search(r'event="?(\w+)', line).group(1) for line in lines] == [  # type: ignore[union-attr]
        "started", "job", "proposed", "agent", "phase", "phase", "job", "outbox", "waiting", "the", "stopping",
        "stopped",
    ]  # fmt: skip
    assert all(re.match(r"timestamp=\S+Z level=(info|warning) event=", line) for line in runs + lines)
    assert "\x1b" not in messages.getvalue() + results.getvalue()


def test_a_view_that_nobody_can_read_stops_no_worker() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    messages = io.StringIO()
    view = PlainView(messages, io.TextIOWrapper(io.FileIO(writer, "w", closefd=False), write_through=True))
    view.handle(RunFinished(summary_of(make_run(sha_of("a"), 3.2512))))
    view.handle(Notice("still here"))
    os.close(writer)
    assert "still here" in messages.getvalue()


def test_a_text_from_outside_cannot_fake_a_line_or_steer_the_terminal() -> None:
    messages = io.StringIO()
    view = PlainView(messages, io.StringIO())
    view.handle(WaitStarted("evil\ntimestamp=now event=run\x1b[2J", 1.0))
    assert len(messages.getvalue().splitlines()) == 1
    assert "\x1b" not in messages.getvalue()
