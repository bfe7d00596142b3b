"""An imported project runs as any other: the real sandbox, its own harness, and the number that its script prints."""

import os
import subprocess
import sys
from pathlib import Path

from coordinator.autoresearch.reading import ImportOptions, read_harness, read_material
from shared.seeds import CHANNEL_FILE
from tests.support.sessions import BRANCH, HARDWARE, TRAIN, write_small_session
from worker.git.repository import write_worktree

PROGRAM = str(Path(sys.executable).with_name("swarm-worker"))

MUCH_BEFORE = """
for number in range(100):
    print(f"loss_{number}: {number}")
print("loss: " + "1" * 300_000 + "x")
print("val_bpb: 9.9")
"""
"""A script's output before its result: other numbers, a line that is slow to tell from one, an earlier result."""


def run_local(tree: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SWARM_DATA_DIR": str(tree.parent / "data"), "SWARM_CORES": "1"}
    return subprocess.run(
        [PROGRAM, "run-local", str(tree)], env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_run_has_the_metric_that_its_script_prints(tmp_path: Path) -> None:
    session = write_small_session(tmp_path / "autoresearch")
    options = ImportOptions(session.folder, BRANCH, session.results, HARDWARE)
    tree = write_worktree(tmp_path / "tree", read_material(options, None, "").root_files)
    train = (tree / "train.py").read_text()
    (tree / "train.py").write_text(MUCH_BEFORE + train)
    done = run_local(tree)
    assert done.returncode == 0, done.stderr
    assert "val_bpb:" in done.stdout and "2.1" in done.stdout.splitlines()[0]
    (tree / "train.py").write_text(TRAIN.format(value="1.5").replace("val_bpb", "val_loss"))
    silent = run_local(tree)
    assert silent.returncode == 1 and "printed no line `val_bpb: NUMBER`" in silent.stdout
    (tree / "train.py").write_text("raise RuntimeError('no such kernel')\n")
    failed = run_local(tree)
    assert failed.returncode == 1 and "ended with exit status 1" in failed.stdout and "no such kernel" in failed.stderr


def test_an_imported_project_has_the_channel_of_all_projects() -> None:
    assert read_harness()["swarm_harness/channel.py"] == CHANNEL_FILE.read_text()
