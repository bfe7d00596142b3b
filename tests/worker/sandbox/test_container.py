"""The command of a container, and a run inside one.

The engine is tests/support/fake_engine.py; with SWARM_TEST_CONTAINER=1 test_escapes.py tries this machine's own.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.fake_engine import install_engine
from tests.worker.sandbox.conftest import Worker, choose_seconds
from tests.worker.sandbox.test_escapes import wait_until
from worker.sandbox import gpu_files
from worker.sandbox.base import Gpu, ProcessLimits, SandboxRequest, SandboxUnavailable
from worker.sandbox.choose import choose_sandbox
from worker.sandbox.container import ContainerSandbox

GPU = Gpu("GPU-5e0f1c2a-aaaa-bbbb-cccc-0123456789ab", 0)
LIMITS = ProcessLimits(memory_mib=300, processes=24, disk_mib=8, open_files=100)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[str]]]:
    """A machine with podman; what podman was asked."""
    record = install_engine(tmp_path / "engine", "podman")
    monkeypatch.setenv("PATH", str(record.parent), prepend=os.pathsep)
    return lambda: [json.loads(line) for line in record.read_text().splitlines()]


@pytest.fixture
def container(calls: Callable[[], list[list[str]]], project: Path) -> Worker:
    return Worker("container", None, project)


def options_of(call: list[str]) -> dict[str, list[str]]:
    """The options of a `run`, up to the image, each with its values."""
    found: dict[str, list[str]] = {}
    name = ""
    for word in call[1:]:
        if word.startswith("--"):
            name = word
            found[name] = []
        elif name:
            found[name].append(word)
    return found


def test_a_program_inside_gets_its_files_and_its_environment(container: Worker) -> None:
    outcome = container.run("""
        import numpy, os, train
        print(train.DEPTH, os.getcwd(), os.getuid() != 0, os.environ["HOME"], "SWARM_TOKEN" in os.environ)
    """)
    assert (outcome.exit_status, outcome.log_tail) == (0, "4 /tmp True /tmp False")


def test_descriptors_keep_their_numbers(calls: Callable[[], list[list[str]]], project: Path) -> None:
    sandbox = choose_sandbox("container")
    readers = [os.pipe() for _ in range(3)]
    for number, (_, writer) in enumerate(readers):
        os.write(writer, str(number).encode())
    numbers = [reader for reader, _ in reversed(readers)]
    code = (
        "import os, sys; print(*(os.read(int(n), 9).decode() for n in sys.argv[1:]), len(os.listdir('/proc/self/fd')))"
    )
    process = sandbox.start(
        SandboxRequest((sys.executable, "-c", code, *map(str, numbers)), LIMITS, project, tuple(numbers))
    )
    for descriptor in (d for pair in readers for d in pair):
        os.close(descriptor)
    outcome = process.wait(60)
    assert outcome is not None
    assert outcome.log_tail == "2 1 0 7"  # and besides those: input, output, error, and the folder it lists


def test_it_is_asked_for_everything_that_confines(calls: Callable[[], list[list[str]]], project: Path) -> None:
    sandbox = choose_sandbox("container")
    process = sandbox.start(SandboxRequest(("/bin/true",), LIMITS, project, cores=frozenset({0})))
    assert process.wait(60) is not None
    options = options_of(calls()[-1])
    expected = {
        "--network": "none", "--cap-drop": "ALL", "--pids-limit": "25", "--memory": str((375 + 16) << 20),
        "--memory-swap": str((375 + 16) << 20), "--cpuset-cpus": "0", "--log-driver": "none", "--pull": "never",
        "--ipc": "private", "--shm-size": str(8 << 20),
        "--tmpfs": f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={8 << 20}",
    }  # fmt: skip
    assert {name: options[name] for name in expected} == {name: [value] for name, value in expected.items()}
    assert options["--read-only"] == [] and options["--rm"] == []
    assert ["--security-opt", "no-new-privileges"] in [calls()[-1][i : i + 2] for i in range(len(calls()[-1]))]
    mounts = [word for word in calls()[-1] if word.startswith("type=bind")]
    assert mounts and all(word.endswith(",readonly") for word in mounts)
    uid = int(options["--user"][0].partition(":")[0])
    assert uid != 0 and (os.geteuid() != 0 or uid > 60_000)
    assert "--gpus" not in options and "--device" not in options


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_a_gpu_is_given_by_its_devices_to_who_asks_for_it(
    engine: str, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by NVIDIA's hook, whose `ldconfig` fails where the linker's cache is read-only."""
    record = install_engine(tmp_path / "engine", engine)
    for program in ("bwrap", "setpriv"):  # nothing else is on this machine
        (record.parent / program).symlink_to(str(shutil.which(program)))
    monkeypatch.setenv("PATH", str(record.parent))
    (tmp_path / "dev").mkdir()
    devices = [tmp_path / "dev" / name for name in (f"nvidia{GPU.minor}", "nvidiactl", "nvidia-uvm")]
    for device in devices:
        device.touch()
        device.chmod(0o666)
    monkeypatch.setattr(gpu_files, "DEVICES", tmp_path / "dev")
    sandbox = ContainerSandbox(GPU)
    assert sandbox.name == f"container ({engine})"
    for name in ("cuda:0", "cpu"):
        outcome = sandbox.start(SandboxRequest(("/bin/true",), LIMITS, project, device=name)).wait(60)
        assert outcome is not None and outcome.exit_status == 0
    with_gpu, without = (json.loads(line) for line in record.read_text().splitlines()[-2:])
    assert [b for a, b in pairwise(with_gpu) if a == "--device"] == [f"{device}:{device}:rw" for device in devices]
    assert "--gpus" not in with_gpu and not any("nvidia.com" in word for word in with_gpu)
    assert f"CUDA_VISIBLE_DEVICES={GPU.uuid}" in with_gpu
    assert "--device" not in without and "CUDA_VISIBLE_DEVICES=" in without


def test_it_ends_with_the_worker_and_leaves_nothing(container: Worker, count_marked: Callable[[str], int]) -> None:
    marker = choose_seconds()
    code = f"""
        import subprocess
        subprocess.Popen(["setsid", "--fork", "sleep", "{marker}"]).wait()
        subprocess.run(["sleep", "{marker}"])
    """
    with container.start(code, timeout=60) as driver:
        assert wait_until(lambda: count_marked(marker) == 2, seconds=60)
        driver.kill()
        assert wait_until(lambda: count_marked(marker) == 0, seconds=60)


def test_auto_takes_a_container_where_bubblewrap_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("worker.sandbox.landlock.find_version", lambda: 0)
    with pytest.raises(SandboxUnavailable, match=r"bubblewrap is not installed.*podman is not installed; docker"):
        choose_sandbox("auto")
    for name, script in (("podman", "echo 'cannot re-exec process' >&2; exit 125"), ("docker", "exit 1")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    with pytest.raises(SandboxUnavailable) as refusal:
        choose_sandbox("container")
    assert "podman does not work (cannot re-exec process)" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_containers_of_killed_workers_are_removed_and_no_others(
    calls: Callable[[], list[list[str]]], tmp_path: Path
) -> None:
    gone, own, foreign = f"swarm-999999999-{'a' * 32}", f"swarm-{os.getpid()}-{'b' * 32}", "swarm-of-somebody"
    (tmp_path / "engine" / "containers").write_text("\n".join((gone, own, foreign)))
    choose_sandbox("container")
    removed = [call[-1] for call in calls() if call[0] == "rm" and call[-1] in (gone, own, foreign)]
    assert removed == [gone]
