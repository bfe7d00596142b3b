"""worker/machine/scratch.py: what a killed process leaves behind is removed, and nothing else."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from worker.machine.scratch import clear_leftovers, make_scratch
from worker.sandbox.confinement import DYNAMIC_UIDS


def test_only_folders_of_ended_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f"swarm-run-{ended.pid}-abc"
    subprocess.run(["mkdir", "-p", left / "/".join(["d"] * 1200)], check=True)  # deeper than Python recurses
    strange = [tmp_path / f"swarm-other-{ended.pid}-abc", tmp_path / "swarm-run-notes", tmp_path / "run-1-a"]
    for folder in strange:
        folder.mkdir()
    (tmp_path / f"swarm-run-{ended.pid}-link").symlink_to(strange[0])
    with make_scratch("run") as own:
        assert clear_leftovers() == 1
        assert Path(own).is_dir() and not left.exists()
    assert all(folder.is_dir() for folder in strange)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_folders_that_were_given_to_a_runs_user_are_removed_and_other_peoples_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    given, others = (tmp_path / f"swarm-container-{ended.pid}-{name}" for name in ("given", "others"))
    for folder, uid in ((given, DYNAMIC_UIDS[-1]), (others, 1000)):
        folder.mkdir()
        os.chown(folder, uid, uid)
    assert clear_leftovers() == 1 and others.is_dir() and not given.exists()
