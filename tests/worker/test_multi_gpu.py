"""worker/multi_gpu.py: several workers' processes under one, which passes signals on and speaks for them."""

import io
import os
import re
import sys
from pathlib import Path
from threading import Thread

import pytest
from rich.console import Console
from rich.live import Live

from tests.worker.workers import wait_until
from worker.api.retry import Backoff
from worker.loop.stop import Stop
from worker.multi_gpu import PlainGroupView, TerminalGroupView, WorkerGroup, WorkerProcess, total_status, worker_command
from worker.settings import RunOptions
from worker.ui.events import StopRequested, WorkerStarted
from worker.ui.status_file import StatusFile

PATIENCE_SECONDS = 60.0


class QuickBackoff(Backoff):
    def next_wait(self, at_least_seconds: float | None = None) -> float:
        return 0.0


def make_worker(name: str, code: str) -> WorkerProcess:
    return WorkerProcess(name, [sys.executable, "-c", code], backoff=QuickBackoff())


def run_group(*workers: WorkerProcess, stop: Stop | None = None, restarts: bool = True) -> tuple[int, str, str]:
    messages, results = io.StringIO(), io.StringIO()
    status = WorkerGroup(workers, PlainGroupView(messages, results), restarts=restarts).run(stop or Stop())
    return status, messages.getvalue(), results.getvalue()


def test_lines_are_marked_and_the_exit_status_is_that_of_all() -> None:
    status, messages, results = run_group(
        make_worker("gpu0", "import sys; print('event=run'); print('event=started', file=sys.stderr)"),
        make_worker("gpu1", "raise SystemExit(4)"),
    )
    assert status == 4
    assert results == "worker=gpu0 event=run\n"
    assert messages == "worker=gpu0 event=started\n"


@pytest.mark.parametrize(
    ("statuses", "total"),
    [([0, 0], 0), ([75, 75], 75), ([0, 75], 0), ([0, 1], 1), ([130, 0], 130), ([-9, 0], 137), ([4, 75], 4)],
)
def test_one_status_for_several(statuses: list[int], total: int) -> None:
    assert total_status(statuses) == total


def test_one_that_fails_after_it_had_measured_is_started_again(tmp_path: Path) -> None:
    seen = tmp_path / "starts"
    code = f"""
        import pathlib
        seen = pathlib.Path({str(seen)!r})
        starts = len(seen.read_text()) if seen.exists() else 0
        seen.write_text("x" * (starts + 1))
        print("event=run", flush=True)
        raise SystemExit(1 if starts < 2 else 0)
    """
    status, messages, _ = run_group(make_worker("gpu0", re.sub(r"(?m)^ {8}", "", code)))
    assert (status, seen.read_text()) == (0, "xxx")
    assert messages.count("exit status 1; starting again") == 2


@pytest.mark.parametrize("code", ["raise SystemExit(1)", "print('event=run'); raise SystemExit(2)"])
def test_one_that_could_not_begin_or_would_fail_again_is_not(code: str) -> None:
    status, messages, _ = run_group(make_worker("gpu0", code))
    assert status in (1, 2) and messages == ""


def test_a_signal_is_passed_on_once_for_each_time_that_it_was_given(tmp_path: Path) -> None:
    code = f"""
        import pathlib, signal, sys, time
        got = pathlib.Path({str(tmp_path)!r}, sys.argv[1])
        def note(number, frame):
            got.write_text(got.read_text() + "x")
            if len(got.read_text()) == 2:
                raise SystemExit(130)
        signal.signal(signal.SIGTERM, note)
        got.write_text("")
        while True:
            time.sleep(0.1)
    """
    code = re.sub(r"(?m)^ {8}", "", code)
    workers = [WorkerProcess(name, [sys.executable, "-c", code, name]) for name in ("gpu0", "gpu1")]
    stop, ended = Stop(), list[int]()
    group = WorkerGroup(workers, PlainGroupView(io.StringIO(), io.StringIO()), restarts=True)
    thread = Thread(target=lambda: ended.append(group.run(stop)))
    thread.start()
    files = [tmp_path / "gpu0", tmp_path / "gpu1"]
    wait_until(lambda: all(file.exists() for file in files))
    stop.request()
    wait_until(lambda: [file.read_text() for file in files] == ["x", "x"])
    stop.request()
    thread.join(PATIENCE_SECONDS)
    assert ended == [130]


def test_flags_reach_the_children_as_they_were_given() -> None:
    flags = {"device": "cuda:1", "coordinator_url": "http://h", "agent_paths": ["a", "b:rw"], "name": None, "nice": 5}
    words = worker_command(flags | {"when_idle": True}, RunOptions(script=Path("s.toml"), once=True, plain=False))
    assert words[:4] == [sys.executable, "-m", "worker.cli", "run"]
    text = " ".join(words)
    for expected in (
        "--device cuda:1", "--coordinator http://h", "--agent-path a --agent-path b:rw", "--nice 5", "--when-idle",
        "--script s.toml", "--once", f"--parent {os.getpid()}",
    ):  # fmt: skip
        assert expected in text
    assert "None" not in text and "--name" not in text and text.count("--plain") == 1


def test_a_terminal_has_a_row_for_each_worker_and_their_results_above(tmp_path: Path) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, no_color=True)
    folders = {name: tmp_path / name for name in ("gpu0", "gpu1")}
    for folder in folders.values():
        folder.mkdir()
    status = StatusFile(folders["gpu0"])
    status.handle(WorkerStarted("box-gpu0", "H100", "bubblewrap", "search", "http://h"))
    status.handle(StopRequested(now=False))
    with Live(console=console, auto_refresh=False) as live:
        view = TerminalGroupView(live, folders)
        view.refresh()
        view.show_line("gpu1", "level=info event=phase", is_result=False)
        view.show_line("gpu1", 'level=warning event="the job failed\\x1b[2J"', is_result=False)
        view.show_line("gpu0", "event=run outcome=ok", is_result=True)
    shown = [line.strip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue()).splitlines()]
    assert any(re.match(r"gpu0 +asking for a job, ends after this run +0 runs", line) for line in shown), shown
    assert any(re.match(r"gpu1 +starting", line) for line in shown)
    assert "gpu0  event=run outcome=ok" in shown
    assert any("the job failed" in line for line in shown) and not any("event=phase" in line for line in shown)
    assert max(map(len, shown)) <= 80
