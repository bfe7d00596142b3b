"""Memory control groups, on a folder that stands for the kernel's: here its memory is not in version 2."""

import os
import sys
from pathlib import Path

import pytest

from worker.sandbox import bubblewrap
from worker.sandbox.base import MIB, ProcessLimits, SandboxRequest
from worker.sandbox.bubblewrap import BubblewrapSandbox
from worker.sandbox.control_group import MemoryGroup, find_group, limits_in

LIMITS = ProcessLimits(memory_mib=512, processes=16, disk_mib=16)


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """`user.slice` with limits of memory, in it `app.slice` with such limits, and in that the worker's own group."""
    for name, switched_on in (("user.slice", "memory pids"), (APP, "memory"), (OWN, "")):
        group = tmp_path / "cgroup" / name
        group.mkdir(parents=True)
        (group / "cgroup.procs").touch()
        (group / "cgroup.subtree_control").write_text(switched_on)
        (group / "cgroup.controllers").write_text("memory pids")
        (group / "cgroup.procs").chmod(0o444)
    (tmp_path / "membership").write_text(f"12:memory:/elsewhere\n0::/{OWN}\n")
    return tmp_path / "cgroup"


APP, OWN = "user.slice/app.slice", "user.slice/app.slice/terminal.scope"


def delegate(group: Path) -> None:
    """Do what systemd does: give the group to its user, and mark it."""
    (group / "cgroup.procs").chmod(0o644)
    os.setxattr(group, "user.delegate", b"1")


def test_the_nearest_delegated_group_that_limits_memory_is_used(mount: Path) -> None:
    delegate(mount / APP)
    assert find_group(mount, mount.parent / "membership") == mount / APP


def test_a_delegated_group_turns_limits_on_for_those_in_it(mount: Path) -> None:
    delegate(mount / OWN)
    assert find_group(mount, mount.parent / "membership") == mount / OWN
    assert (mount / OWN / "cgroup.subtree_control").read_text() == "+memory"


@pytest.mark.parametrize("membership", ["12:memory:/elsewhere\n", "0::/\n", "0::/gone\n", ""])
def test_there_is_none_where_nothing_is_delegated(mount: Path, membership: str) -> None:
    (mount.parent / "membership").write_text(membership)
    assert find_group(mount, mount.parent / "membership") is None
    assert find_group(mount, mount.parent / "no such file") is None


def test_what_belongs_to_others_is_left_alone(mount: Path) -> None:
    assert find_group(mount, mount.parent / "membership") is None


def test_a_sandbox_enters_its_group_and_removes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "find_group", lambda: tmp_path)
    made: list[dict[str, str]] = []

    def remove(group: MemoryGroup) -> None:
        made.append({path.name: path.read_text() for path in group.folder.iterdir()})
        for path in group.folder.iterdir():
            path.unlink()
        group.folder.rmdir()

    monkeypatch.setattr(MemoryGroup, "remove", remove)
    sandbox = BubblewrapSandbox()
    assert "memory_limited_by_kernel" in sandbox.limits
    outcome = sandbox.start(SandboxRequest((sys.executable, "-c", "print(1)"), LIMITS, tmp_path)).wait(60)
    assert outcome is not None and (outcome.log_tail, outcome.killed_for) == ("1", "")
    expected = {
        "memory.max": str((640 + 32) * MIB), "memory.swap.max": "0", "memory.oom.group": "1", "cgroup.procs": "0",
    }  # fmt: skip
    assert made == [expected] * 2, "of the trial, and of the run"
    assert list(tmp_path.iterdir()) == []


def test_root_alone_uses_its_group_of_version_1_which_sets_no_limit(mount: Path) -> None:
    old = mount / "memory" / "elsewhere"
    old.mkdir(parents=True)
    assert find_group(mount, mount.parent / "membership") is None, "it is not the kernel's"
    (old / "memory.force_empty").touch()
    assert find_group(mount, mount.parent / "membership") == (old if os.geteuid() == 0 else None)
    assert limits_in(old) == ("caches_emptied",) and limits_in(mount) == ("memory_limited_by_kernel", "caches_emptied")
    group = MemoryGroup(old, LIMITS)
    assert list(group.folder.iterdir()) == []
    group.remove()
    assert not group.folder.exists()


@pytest.mark.parametrize("name", ["memory.high", "memory.force_empty"])
def test_a_group_is_emptied_before_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    group = MemoryGroup(tmp_path, LIMITS)
    (group.folder / name).touch()
    written: list[str] = []
    monkeypatch.setattr(Path, "rmdir", lambda folder: written.append((folder / name).read_text()))
    group.remove()
    assert written == ["0"]


def test_the_kernels_end_has_its_reason(tmp_path: Path) -> None:
    group = MemoryGroup(tmp_path, LIMITS)
    assert group.explain_end() == ""
    (group.folder / "memory.events").write_text("low 0\noom 1\noom_kill 3\n")
    assert group.explain_end() == "it used more than 512 MiB of memory"


def test_a_group_that_cannot_be_entered_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker then counts, as on a machine without groups."""
    missing = tmp_path / "missing"
    monkeypatch.setattr(bubblewrap, "find_group", lambda: missing)
    sandbox = BubblewrapSandbox()
    assert "memory_limited_by_kernel" not in sandbox.limits and "memory_watched_by_worker" in sandbox.limits
    tmp_path.chmod(0o755)
    outcome = sandbox.start(SandboxRequest((sys.executable, "-c", "print(1)"), LIMITS, tmp_path)).wait(60)
    assert outcome is not None and outcome.log_tail == "1"
