"""The sandbox for root without CAP_SYS_ADMIN; what it shares with others is in test_escapes.py."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.worker.sandbox.conftest import CONFINED, Worker, choose_seconds
from tests.worker.sandbox.test_escapes import wait_until
from worker.sandbox.base import SandboxUnavailable
from worker.sandbox.landlock import LandlockSandbox, _require_exec

pytestmark = pytest.mark.skipif(("landlock", None) not in CONFINED, reason="needs root and a kernel with Landlock")

OF_CONTAINERS = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod"
"""Capabilities that docker leaves to root: https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities"""


@pytest.fixture
def landlock(project: Path) -> Worker:
    return Worker("landlock", None, project)


def test_is_chosen_where_root_has_no_right_to_mount(project: Path) -> None:
    """As on rented GPUs: neither bubblewrap nor an engine works there."""
    kept = ",".join(["-all", *(f"+{name}" for name in OF_CONTAINERS.split(","))])
    code = "from worker.sandbox.choose import choose_sandbox; print(choose_sandbox('auto').name)"
    command = ["setpriv", f"--bounding-set={kept}", f"--inh-caps={kept}", sys.executable, "-c", code]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[3])}  # no engine
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout == "landlock (no namespaces)\n", ended.stderr


def test_reads_nothing_that_it_was_not_given(landlock: Worker, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("canary")
    secret.chmod(0o644)
    outcome = landlock.run(f"""
        import os
        for path in ({str(secret)!r}, "/etc/passwd", "/etc/hosts", "/proc/1/status", "/proc/loadavg", "/proc/net/dev",
                     "/dev/zero", "/var/log", "/run"):
            try:
                print(path, os.listdir(path) if os.path.isdir(path) else open(path).read(100))
            except OSError as error:
                print(error.errno)
    """)
    assert outcome.log_tail.splitlines() == ["13"] * 9


def test_leaves_no_file_and_no_scratch_behind(landlock: Worker) -> None:
    outcome = landlock.run("""
        import os
        os.makedirs(os.environ["TMPDIR"] + "/a/b")
        open(os.environ["TMPDIR"] + "/a/b/c", "w").write("x")
        print(os.environ["TMPDIR"])
    """)
    assert outcome.log_tail.startswith(tempfile.gettempdir()) and not Path(outcome.log_tail).exists()


NAMED = "held = [open(f'{folder}/{number}', 'wb', buffering=0) for number in range(16)]"
NAMELESS = "held = [tempfile.TemporaryFile(dir=folder, buffering=0) for _ in range(16)]"


@pytest.mark.parametrize("files", [NAMED, NAMELESS], ids=["named", "nameless"])
def test_ends_what_fills_the_disk(landlock: Worker, files: str) -> None:
    outcome = landlock.run(
        f"""
        import os, tempfile, time
        folder = os.environ["TMPDIR"]
        {files}
        for file in held:
            file.write(bytes(1 << 20))
        time.sleep(60)
        """,
        disk_mib=8,
    )
    assert outcome.killed_for == "it wrote more than 8 MiB of files"


def test_ends_what_hides_files_deeper_than_a_path_reaches_and_removes_them(landlock: Worker) -> None:
    """A thousand folders in each other end a walk that recurses, and with it the watch over all limits."""
    outcome = landlock.run(
        """
        import os, time
        os.chdir(os.environ["TMPDIR"])
        print(os.getcwd(), flush=True)
        def deeper(name, times):
            for _ in range(times):
                os.mkdir(name)
                os.chdir(name)
        deeper("d", 1200)
        time.sleep(1)
        deeper("d" * 200, 20)
        for number in range(16):
            open(str(number), "wb").write(bytes(1 << 20))
        time.sleep(60)
        """,
        disk_mib=8,
    )
    assert outcome.killed_for == "it wrote more than 8 MiB of files"
    assert not Path(outcome.log_tail).parent.exists()


def test_says_of_no_result_that_one_run_tells_the_next_nothing(landlock: Worker, project: Path) -> None:
    """The kernel notes once a day when a file was read, which whoever comes next may ask."""
    read, other = project / "train.py", project / "other.py"
    other.write_text("")
    for path in (read, other):
        os.utime(path, (1.0, path.stat().st_mtime))
    landlock.run(f"open({str(read)!r}).read()")
    times = landlock.run(f"import os; print(*(int(os.stat(p).st_atime) for p in {(str(read), str(other))}))")
    assert os.statvfs(project).f_flag & os.ST_NOATIME or int(times.log_tail.split()[0]) > 1
    assert times.log_tail.split()[1] == "1"
    assert "caches_emptied" not in LandlockSandbox().limits


def test_a_scratch_within_its_limit_is_left_alone(landlock: Worker) -> None:
    outcome = landlock.run(
        """
        import os, time
        for number in range(200):
            open(f"{os.environ['TMPDIR']}/{number}", "w").write("x")
        time.sleep(1)
        print("done")
        """,
        disk_mib=8,
    )
    assert (outcome.killed_for, outcome.log_tail) == ("", "done")


def test_signals_and_traces_no_process_of_others(landlock: Worker) -> None:
    with landlock.start(f"import time; time.sleep({choose_seconds()})", timeout=240) as other:
        outcome = landlock.run(f"""
            import ctypes, os
            for pid in (1, {os.getpid()}, {other.pid}, os.getppid()):
                try:
                    os.kill(pid, 0)
                    print("reached", pid)
                except OSError:
                    pass
                print(ctypes.CDLL(None).ptrace(16, pid, 0, 0))
        """)
        other.end()
    assert outcome.log_tail.splitlines() == ["-1"] * 4


def test_no_other_sandbox_opens_what_one_writes(landlock: Worker) -> None:
    """Also in /dev/shm, which semaphores need: neither mode nor mask nor list of access opens a file to others."""
    name = f"/dev/shm/swarm-test-{os.getpid()}"
    writes = f"""
        import os, time
        os.umask(0)
        with open("{name}", "w") as file:
            file.write("note")
            os.fchmod(file.fileno(), 0o666)
        os.chmod("{name}", 0o666)
        everybody = bytes.fromhex("02000000" "01000600ffffffff" "04000600ffffffff" "20000600ffffffff")
        try:
            os.setxattr("{name}", "system.posix_acl_access", everybody)
        except OSError as error:
            print(error.strerror, flush=True)
        time.sleep(600)
    """
    reads = f"""
        try:
            print(open("{name}").read())
        except OSError as error:
            print(error.strerror)
    """
    with landlock.start(writes, timeout=240) as other:
        assert wait_until(Path(name).exists)
        outcome = landlock.run(reads)
        written = other.end()
    assert written.log_tail == "Operation not permitted"
    assert outcome.log_tail == "Permission denied"
    assert not Path(name).exists()


def test_says_where_it_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sandbox.landlock.find_version", lambda: 0)
    with pytest.raises(SandboxUnavailable, match=r"Linux 5\.13"):
        LandlockSandbox()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SandboxUnavailable, match="needs a worker that root started"):
        LandlockSandbox()


def test_a_folder_from_which_nothing_can_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _require_exec(Path("/tmp"))
    monkeypatch.setattr(os, "statvfs", lambda _: type("Found", (), {"f_flag": os.ST_NOEXEC}))
    with pytest.raises(SandboxUnavailable, match=r"in /tmp, which is mounted `noexec`: set TMPDIR"):
        _require_exec(Path("/tmp"))


def test_an_interpreter_that_others_cannot_reach_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "root"
    closed.mkdir(mode=0o700)
    (closed / "python3").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(closed / "python3"))
    with pytest.raises(SandboxUnavailable, match=r"no other user may enter .*venv /opt/swarm"):
        LandlockSandbox()
