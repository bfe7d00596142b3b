"""worker/ui/plain.py and worker/ui/terminal.py: what people see."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from shared.experiments import JobKind, Posterior, Verdict
from shared.leases import BaseCommit, Lease, Phase
from shared.runs import ModelUsage, RunReport
from tests.support.messages import make_proposal, make_run
from tests.worker.agents.tasks import CONTRACT, sha_of
from tests.worker.loop.test_heartbeat import make_lease
from worker.runs import Progress
from worker.ui.plain import About, Monitor, PlainMonitor
from worker.ui.receipts import Receipt
from worker.ui.status import Totals
from worker.ui.terminal import TerminalMonitor

ABOUT = About(
    "box-gpu0", "NVIDIA H100 · 80 GiB · 700 W · torch 2 · bfloat16", "bubblewrap", "search", "https://swarm.test"
)


def lease_of(kind: JobKind = JobKind.IMPROVE) -> Lease:
    posterior = Posterior(metric_mean=3.3, metric_sd=0.0052, runs=2)
    base = BaseCommit(sha=sha_of("root"), files={}, posterior=posterior)
    return make_lease(kind).model_copy(update={"base": base, "why": "The best of five draws [from posteriors]."})


AFTER = Posterior(
    metric_mean=3.2512, metric_sd=0.005, effect_mean=-0.0488, effect_sd=0.0072, runs=1, verdict=Verdict.IMPROVED
)


def receipt_of(report: RunReport, place: str = "https://swarm.test/experiments/1") -> Receipt:
    return Receipt(lease_of(), "DEPTH 4 -> [6]", CONTRACT, report, place)


def play(monitor: Monitor) -> None:
    """A worker's morning."""
    first, second = lease_of(), lease_of(JobKind.REPLICATE)
    monitor.start(ABOUT)
    monitor.take(first)
    monitor.propose(first, make_proposal("DEPTH 4 -> [6]"))
    monitor.progress(first, Progress(Phase.STARTING, 0, None, 0.0))
    for share in (0.1, 0.5, 0.9):
        step, loss = round(1000 * share), 4.5 - share
        speed = {"tokens_per_second": 12_345.6, "parent_loss": 4.25}
        monitor.progress(first, Progress(Phase.TRAINING, step, loss, share, **speed))
        if share == 0.1:
            monitor.take(second)
    usage = ModelUsage(requests=2, input_tokens=900, output_tokens=80)
    monitor.receipt(replace(receipt_of(make_run(sha_of("a"), 3.2512, usage=usage)), lease=first, posterior=AFTER))
    crashed = make_run(sha_of("b"), None, reason="heads must divide width")
    monitor.receipt(replace(receipt_of(crashed, "in the outbox"), lease=second))
    monitor.outbox(1)
    monitor.wait("There is nothing to do.", 30.0)
    monitor.warn("the result is kept")
    monitor.stop(now=False)
    monitor.finish()


def test_plain_is_one_line_per_event_with_results_on_stdout() -> None:
    messages, results = io.StringIO(), io.StringIO()
    play(PlainMonitor(messages, results))
    runs = results.getvalue().splitlines()
    assert len(runs) == 2
    assert "val_bpb=3.2512" in runs[0] and 'parent="3.3000 ± 0.0052, n = 2"' in runs[0]
    assert 'effect="−0.0488 ± 0.0072 (improved, provisional)"' in runs[0]
    assert "outcome=crashed" in runs[1] and 'place="in the outbox"' in runs[1] and "heads must divide" in runs[1]
    lines = messages.getvalue().splitlines()
    assert [re.search(r'event="?(\w+)', line).group(1) for line in lines] == [  # type: ignore[union-attr]
        "started", "job", "proposed", "phase", "phase", "job", "outbox", "waiting", "the", "stopping", "stopped",
    ]  # fmt: skip
    assert all(re.match(r"timestamp=\S+Z level=(info|warning) event=", line) for line in runs + lines)
    assert "\x1b" not in messages.getvalue() + results.getvalue()


def test_a_text_from_outside_cannot_fake_a_line_or_steer_the_terminal() -> None:
    messages = io.StringIO()
    monitor = PlainMonitor(messages, io.StringIO())
    monitor.wait("evil\ntimestamp=now event=run\x1b[2J", 1.0)
    assert len(messages.getvalue().splitlines()) == 1
    assert "\x1b" not in messages.getvalue()


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


def terminal(screen: io.StringIO, no_color: bool = False) -> TerminalMonitor:
    console = Console(file=screen, force_terminal=True, width=80, height=24, no_color=no_color, highlight=False)
    return TerminalMonitor(console)


def test_the_terminal_shows_what_is_done_within_80_columns(screen: io.StringIO) -> None:
    play(terminal(screen))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    for expected in (
        "box-gpu0 · NVIDIA H100", "https://swarm.test", "improve", "The best of five draws [from posteriors].",
        "DEPTH 4 -> [6]", "step 500", "50%", "12,346 tokens/s", "▁ 3.600 · −0.650 against the parent",
        "3.3000 ± 0.0052, n = 2 · predicted effect −0.0100", "once more · ready, waits for the device",
        "val_bpb 3.2512", "effect −0.0488 ± 0.0072 (improved, provisional)", "parent 3.3000 ± 0.0052, n = 2",
        "the model answered 2 requests, 900 + 80 tokens", "https://swarm.test/experiments/1",
        "crashed", "heads must divide width", "in the outbox", "There is nothing to do. Asking again in 30 s.",
        "Ctrl-C: finish this run", "once more (Ctrl-C or SIGTERM) stops now",
        "2 runs: 1 improved, 1 failed · 1 min · 1 in the outbox",
    ):  # fmt: skip
        assert expected in text, expected
    assert max(len(line) for line in text.replace("\r", "\n").splitlines()) <= 80


def test_the_terminal_stays_without_colours_where_they_are_not_wanted(screen: io.StringIO) -> None:
    play(terminal(screen, no_color=True))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", screen.getvalue())


def test_nothing_is_drawn_while_nothing_happens(screen: io.StringIO) -> None:
    monitor = terminal(screen)
    monitor.start(ABOUT)
    before = screen.getvalue()
    assert "asking for a job" in before
    assert not monitor._live.auto_refresh  # a clock that ticks would take time from the cores that are measured
    monitor.finish()


def test_a_text_from_outside_cannot_steer_the_terminal(screen: io.StringIO) -> None:
    monitor = terminal(screen)
    monitor.start(ABOUT)
    monitor.wait("evil\x1b[2J\x07", 1.0)
    monitor.note("evil\x1b[2J\x07")
    monitor.receipt(receipt_of(make_run(sha_of("b"), None, reason="evil\x1b]0;title\x07")))
    monitor.finish()
    assert "\x1b[2J" not in screen.getvalue()
    assert "\x07" not in screen.getvalue()
    assert "\x1b]0;" not in screen.getvalue()


def test_totals_go_on_from_what_was_done_before(screen: io.StringIO) -> None:
    stopped = make_run(sha_of("a"), None, outcome="stopped_early", hopeless_at=0.4)
    totals = receipt_of(stopped).add_to(Totals(runs=11, failed=2, improved=3, device_seconds=3600))
    assert totals.describe() == "12 runs: 3 improved, 2 failed, 1 stopped early · 1.0 h, 0% saved"
    assert totals.saved_seconds == pytest.approx(0.6 * 20)
    monitor = terminal(screen)
    monitor.start(replace(ABOUT, totals=totals))
    monitor.finish()
    assert "0 runs · 0 min · 12 runs before · outbox empty" in screen.getvalue()
