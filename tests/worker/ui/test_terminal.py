"""worker/ui/terminal.py: the screen of a worker."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from tests.support.messages import make_run
from tests.worker.agents.tasks import sha_of
from tests.worker.ui.test_plain import STARTED, play, summary_of
from worker.ui.events import (
    Notice,
    RunFinished,
    WaitStarted,
    WorkerStopped,
)
from worker.ui.status import Totals
from worker.ui.terminal import TerminalView, sparkline


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


def terminal(screen: io.StringIO, no_color: bool = False) -> TerminalView:
    console = Console(file=screen, force_terminal=True, width=80, height=24, no_color=no_color, highlight=False)
    return TerminalView(console)


def test_the_terminal_shows_what_is_done_within_80_columns(screen: io.StringIO) -> None:
    play(terminal(screen))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    for expected in (
        "box-gpu0 · NVIDIA H100", "https://swarm.test", "improve", "The best of five draws [from posteriors].",
        "the model gives nothing usable: HTTP 500", "DEPTH 4 -> [6] · by openai test",
        "step 500", "50%", "12,346 tokens/s", "▁ 3.600 · −0.650 against the parent",
        "3.3000 ± 0.0052, n = 2 · predicted effect −0.0100", "once more · ready, waits for the device",
        "val_bpb 3.2512", "effect −0.0488 ± 0.0072 (improved, provisional)", "parent 3.3000 ± 0.0052, n = 2",
        "the model answered 2 requests, 900 + 80 tokens", "https://swarm.test/experiments/1",
        "crashed", "heads must divide width", "in the outbox", "There is nothing to do. Asking again in 30 s.",
        "Ctrl-C: finish this run", "Ctrl-C or SIGTERM again stops now",
        "2 runs: 1 improved, 1 failed · 1 min · 1 in the outbox",
    ):  # fmt: skip
        assert expected in text, expected
    assert max(len(line) for line in text.replace("\r", "\n").splitlines()) <= 80


def test_the_terminal_stays_without_colours_where_they_are_not_wanted(screen: io.StringIO) -> None:
    play(terminal(screen, no_color=True))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", screen.getvalue())


def test_nothing_is_drawn_while_nothing_happens(screen: io.StringIO) -> None:
    view = terminal(screen)
    view.handle(STARTED)
    before = screen.getvalue()
    assert "asking for a job" in before
    assert not view._live.auto_refresh  # a clock that ticks would take time from the cores that are measured
    view.handle(WorkerStopped())


def test_a_text_from_outside_cannot_steer_the_terminal(screen: io.StringIO) -> None:
    view = terminal(screen)
    view.handle(STARTED)
    view.handle(WaitStarted("evil\x1b[2J\x07", 1.0))
    view.handle(Notice("evil\x1b[2J\x07"))
    view.handle(RunFinished(summary_of(make_run(sha_of("b"), None, reason="evil\x1b]0;title\x07"))))
    view.handle(WorkerStopped())
    assert "\x1b[2J" not in screen.getvalue()
    assert "\x07" not in screen.getvalue()
    assert "\x1b]0;" not in screen.getvalue()


def test_totals_go_on_from_what_was_done_before(screen: io.StringIO) -> None:
    stopped = make_run(sha_of("a"), None, outcome="stopped_early", hopeless_at=0.4)
    totals = summary_of(stopped).add_to(Totals(runs=11, failed=2, improved=3, device_seconds=3600))
    assert totals.describe() == "12 runs: 3 improved, 2 failed, 1 stopped early · 1.0 h, 0% saved"
    assert totals.saved_seconds == pytest.approx(0.6 * 20)
    seconds = stopped.seconds.model_copy(update={"training": 4.0, "budget": 8.0})
    by_cpu = summary_of(stopped.model_copy(update={"seconds": seconds})).add_to(Totals())
    assert by_cpu.saved_seconds == pytest.approx(0.6 * 20 / 2), "two cores used two seconds of the budget each second"
    view = terminal(screen)
    view.handle(replace(STARTED, totals=totals))
    view.handle(WorkerStopped())
    assert "0 runs · 0 min · 12 runs before · outbox empty" in screen.getvalue()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([2.0, 2.0], "▁▁"),
        ([0.0, 7.0, 14.0], "▁▅█"),
        ([8.0, 8.0, 4.0, 4.0, 0.0, 0.0], "█▅▁"),
    ],
)
def test_a_sparkline_draws_the_means(values: list[float], expected: str) -> None:
    assert sparkline(values, 3) == expected


def test_a_sparkline_is_never_wider_than_asked() -> None:
    assert len(sparkline([float(n) for n in range(1000)], 24)) == 24
