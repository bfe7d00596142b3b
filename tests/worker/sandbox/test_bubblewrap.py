"""Behaviour of bubblewrap besides the escapes that every sandbox must stop."""

import json
import os
from pathlib import Path

import pytest

from tests.worker.sandbox.conftest import Worker
from worker.sandbox.base import SandboxUnavailable
from worker.sandbox.choose import choose_sandbox


def test_reads_its_project_and_its_libraries(bubblewrap: Worker) -> None:
    outcome = bubblewrap.run("import numpy, train, os; print(train.DEPTH, os.getcwd(), os.getuid())")
    assert (outcome.exit_status, outcome.log_tail) == (0, "4 /tmp 1000")


def test_sees_no_file_of_the_worker(bubblewrap: Worker, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    secret = home / "token"
    secret.write_text("canary-in-the-home")
    secret.chmod(0o644)
    outcome = bubblewrap.run(f"""
        import os
        from pathlib import Path
        for path in ({str(secret)!r}, "/etc/shadow", "/etc/passwd", "/etc/hosts", "/var", "/home", "/sys", "/run"):
            print(path, os.path.exists(path))
        print(sorted(os.listdir("/etc")))
        print([str(p) for p in Path(os.sep).glob("*/.ssh")])
    """)
    *seen, etc, ssh = outcome.log_tail.splitlines()
    assert len(seen) == 8
    assert all(line.endswith(" False") for line in seen), outcome.log_tail
    assert set(json.loads(etc.replace("'", '"'))) <= {"alternatives", "ld.so.cache"}
    assert ssh == "[]"


def test_sees_no_other_process(bubblewrap: Worker) -> None:
    outcome = bubblewrap.run("import os; print(sorted(int(n) for n in os.listdir('/proc') if n.isdigit()))")
    assert outcome.log_tail == "[1, 2]"


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match=r"^bubblewrap is not installed: .*apt-get install bubblewrap.*$"):
        choose_sandbox("bubblewrap")


def test_says_why_bubblewrap_does_not_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    script = tmp_path / "bwrap"
    script.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace'\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(SandboxUnavailable) as refusal:
        choose_sandbox("bubblewrap")
    assert "No permissions to create new namespace" in str(refusal.value)
    assert "--sandbox unconfined" in str(refusal.value)
    assert "\n" not in str(refusal.value)
