"""The reach of code in the sandbox, tried from inside the real one."""

import ctypes
import os
import socket
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.sandbox.conftest import Worker, choose_seconds
from worker.sandbox.launcher import KEYCTL, KEYCTL_JOIN_SESSION_KEYRING

MIB = 1024 * 1024
MANY = 12
"""Processes of a bomb of forks that show that it has gone off; each sandbox has its own beside them."""


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether it held at some moment until then, also one that was short."""
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


def test_sees_no_environment_of_the_worker(confined: Worker) -> None:
    outcome = confined.run("""
        import os, pathlib
        print(dict(os.environ))
        for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
            print(path.read_bytes())
    """)
    assert "PYTHONPATH" in outcome.log_tail
    assert "canary" not in outcome.log_tail


def test_stays_the_first_to_be_ended_where_memory_runs_out(bubblewrap: Worker) -> None:
    """A plain user's process may take back what makes the kernel choose it before the volunteer's own."""
    outcome = bubblewrap.run("""
        try:
            open("/proc/self/oom_score_adj", "w").write("0")
        except OSError as error:
            print(error.strerror)
        print(open("/proc/self/oom_score_adj").read())
    """)
    assert outcome.log_tail.splitlines() == ["Read-only file system", "1000"]


def test_reaches_no_listener(confined: Worker) -> None:
    name = f"\0swarm-test-listener-{choose_seconds()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(name)
        unix.listen()
        for listener in (tcp, unix):
            listener.settimeout(0.5)
        outcome = confined.run(f"""
            import socket
            listeners = ((socket.AF_INET, {tcp.getsockname()!r}), (socket.AF_UNIX, {name!r}))
            for family, address in listeners:
                try:
                    socket.socket(family).connect(address)
                except OSError as error:
                    print("refused:", error)
        """)
        assert outcome.log_tail.count("refused:") == 2, outcome.log_tail
        with pytest.raises(TimeoutError):
            tcp.accept()


def test_has_no_network_of_any_kind(confined: Worker) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(0.2)
        outcome = confined.run(f"""
            import os, socket
            def tried(name, attempt):
                try:
                    attempt()
                    print(name, "got out")
                except OSError:
                    print(name, "refused")
            tried("dns", lambda: socket.getaddrinfo("example.org", 80))
            tried("tcp", lambda: socket.create_connection(("1.1.1.1", 53), 2))
            tried("tcp6", lambda: socket.create_connection(("::1", 53), 2))
            tried("udp", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("1.1.1.1", 53)))
            tried("raw", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            try:
                socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", {udp.getsockname()!r})
            except OSError:
                pass
            def listed(read):
                try:
                    return sorted(read())
                except OSError:
                    return []
            print(listed(lambda: os.listdir("/sys/class/net")))
            print(listed(lambda: [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]]))
        """)
        assert outcome.log_tail.splitlines()[:5] == [f"{n} refused" for n in ("dns", "tcp", "tcp6", "udp", "raw")]
        assert outcome.log_tail.splitlines()[5:] in (["[]", "['lo']"], ["[]", "[]"])
        with pytest.raises(TimeoutError):
            udp.recv(1)


def test_makes_no_device_and_mounts_nothing(confined: Worker) -> None:
    outcome = confined.run("""
        import ctypes, os, stat
        libc = ctypes.CDLL(None, use_errno=True)
        for kind in (stat.S_IFBLK, stat.S_IFCHR):
            try:
                os.mknod(os.environ["TMPDIR"] + "/device", kind | 0o666, os.makedev(8, 0))
                print("made a device")
            except OSError:
                pass
        print(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None), libc.umount2(b"/tmp", 2), libc.chroot(b"/tmp"))
        names = os.listdir("/dev") if os.environ["TMPDIR"] == "/tmp" else []  # a Landlock sandbox may list no devices
        print(sorted(name for name in names if stat.S_ISBLK(os.lstat("/dev/" + name).st_mode)))
    """)
    assert outcome.log_tail.splitlines() == ["-1 -1 -1", "[]"]


def test_kills_nobody_outside(confined: Worker) -> None:
    outcome = confined.run("""
        import os, signal
        print("still here", flush=True)
        for pid in (os.getppid(), -1):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError as error:
                print(error.strerror)
    """)
    # The driver, which is the sandbox's parent, lives: it is who tells us this.
    assert outcome.log_tail.splitlines()[0] == "still here"


def test_writes_only_to_its_scratch(confined: Worker, project: Path) -> None:
    outcome = confined.run("""
        import os, sys
        scratch, project = os.environ["TMPDIR"], os.environ["PYTHONPATH"]
        closed = {"/", project, "/usr", "/etc", "/dev", "/proc", "/tmp", "/var/tmp", sys.prefix, sys.base_prefix}
        for folder in (*sorted(closed - {scratch}), scratch, "/dev/shm"):
            try:
                open(os.path.join(folder, "new"), "w").close()
                print("wrote to", "scratch" if folder == scratch else folder)
            except OSError:
                pass
        try:
            os.chmod(f"{project}/train.py", 0o777)
            open(f"{project}/train.py", "a").write("DEPTH = 5")
            print("wrote to train.py")
        except OSError:
            pass
    """)
    assert outcome.log_tail.splitlines() == ["wrote to scratch", "wrote to /dev/shm"]
    assert (project / "train.py").read_text() == "DEPTH = 4\n"
    assert not Path("/dev/shm/new").exists(), "what was written there is gone with the sandbox"


def test_leaves_nothing_that_leads_anywhere(confined: Worker, project: Path) -> None:
    before = set(Path(tempfile.gettempdir()).iterdir())
    outcome = confined.run("""
        import os
        def tried(attempt, *arguments):
            try:
                attempt(*arguments)
            except OSError:
                pass
        scratch, project = os.environ["TMPDIR"], os.environ["PYTHONPATH"]
        for folder in {scratch, "/tmp", "/dev/shm", project, "/"}:
            tried(os.symlink, "/etc/shadow", f"{folder}/escape-link")
            tried(os.link, f"{project}/train.py", f"{folder}/escape-hard-link")
            tried(os.mkfifo, f"{folder}/escape-pipe")
        tried(os.rename, f"{scratch}/escape-link", f"{project}/train.py")
        print(sorted(name for name in os.listdir(scratch) if name.startswith("escape")))
    """)
    assert outcome.log_tail == "['escape-link', 'escape-pipe']"
    assert [path.name for path in project.iterdir()] == ["train.py"]
    left = [path for path in set(Path(tempfile.gettempdir()).iterdir()) - before if path.name.startswith("escape")]
    assert left == [] and not Path("/escape-link").is_symlink()


def test_has_no_rights_left(confined: Worker) -> None:
    outcome = confined.run("""
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        CLONE_NEWUSER = 0x10000000
        print(libc.unshare(CLONE_NEWUSER), os.strerror(ctypes.get_errno()))
        shown = ("CapEff", "CapBnd", "NoNewPrivs")
        print(*(line for line in open("/proc/self/status") if line.startswith(shown)), sep="")
    """)
    assert outcome.log_tail.splitlines()[0].startswith("-1 ")
    assert "CapEff:\t0000000000000000" in outcome.log_tail
    assert "CapBnd:\t0000000000000000" in outcome.log_tail
    assert "NoNewPrivs:\t1" in outcome.log_tail


def test_leaves_no_key_in_the_session(confined: Worker) -> None:
    """Keys of a login session are inherited as open files are, and would outlive the program."""
    if (keyctl := KEYCTL.get(os.uname().machine)) is not None:
        ctypes.CDLL(None).syscall(keyctl, KEYCTL_JOIN_SESSION_KEYRING, None)  # as a login does
    code = """
        import ctypes, os
        add_key, keyctl = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
        syscall, SESSION_KEYRING, SEARCH = ctypes.CDLL(None).syscall, -3, 10
        print("found" if syscall(keyctl, SEARCH, SESSION_KEYRING, b"user", b"note", 0) > 0 else "nothing")
        syscall(add_key, b"user", b"note", b"peeked", 6, SESSION_KEYRING)
    """
    assert [confined.run(code).log_tail for _ in range(2)] == ["nothing"] * 2


def test_contains_a_fork_bomb(confined: Worker, count_marked: Callable[[str], int]) -> None:
    marker = choose_seconds()
    outcome = confined.run(
        f"""
        import subprocess
        started = 0
        try:
            while True:
                subprocess.Popen(["sleep", "{marker}"])
                started += 1
        except BlockingIOError:
            print(started)
        """,
        processes=24,
    )
    # The kernel counts a plain user's other threads, too, so there the worker counts the sandbox's own.
    assert outcome.killed_for == "it had more than 24 threads and processes" or 5 < int(outcome.log_tail) <= 24
    assert count_marked(marker) == 0


def test_outlives_a_bomb_of_forks(confined: Worker, count_marked: Callable[[str], int]) -> None:
    code = textwrap.dedent(f"""
        import os, time
        while True:
            try:
                os.fork()
            except OSError:
                time.sleep(0.1)  # {choose_seconds()}
    """)
    with confined.start(code, timeout=240, processes=24) as driver:
        assert wait_until(lambda: count_marked(code) >= MANY or driver.has_told())
        outcome = driver.end()
    assert outcome.signal == 9
    assert count_marked(code) == 0


def test_kills_a_memory_hog_and_says_so(confined: Worker) -> None:
    outcome = confined.run(
        """
        import faulthandler, os, signal, time
        faulthandler.register(signal.SIGQUIT, chain=True)
        hoard = []
        os.fork()  # two processes share the limit
        while True:
            hoard.append(b'x' * (4 << 20))
            time.sleep(0.02)
        """,
        memory_mib=200,
    )
    assert outcome.killed_for == "it used more than 200 MiB of memory"
    assert outcome.signal in (3, 9)
    assert "in <module>" in outcome.log_tail, "it was asked where it is, by SIGQUIT"
    assert 200 <= outcome.peak_memory_mib < 1200


def test_refuses_a_giant_allocation(confined: Worker) -> None:
    outcome = confined.run("bytearray(64 << 30)")
    assert outcome.exit_status == 1
    assert outcome.log_tail.endswith("MemoryError")


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_contains_a_disk_filler(namespaced: Worker, folder: str) -> None:
    outcome = namespaced.run(
        f"""
        import os
        written = 0
        try:
            for number in range(100):
                with open(f"{folder}/{{number}}", "wb", buffering=0) as file:
                    written += file.write(bytes(1 << 20))
        except OSError as error:
            print(written, error.errno)
        """,
        disk_mib=8,
    )
    written, error = outcome.log_tail.split()
    assert int(written) <= 8 * MIB
    assert int(error) == 28  # ENOSPC


def test_ends_what_ignores_signals(confined: Worker, count_marked: Callable[[str], int]) -> None:
    marker = choose_seconds()
    code = f"""
        import signal, subprocess, time
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        print("ignoring", flush=True)
        subprocess.run(["sleep", "{marker}"])
    """
    with confined.start(code, timeout=240) as driver:
        assert wait_until(lambda: count_marked(marker) == 1)
        outcome = driver.end()
    assert outcome.log_tail == "ignoring"
    assert outcome.signal == 9
    assert count_marked(marker) == 0


def test_leaves_no_orphan(confined: Worker, count_marked: Callable[[str], int]) -> None:
    marker = choose_seconds()
    outcome = confined.run(f"""
        import subprocess
        subprocess.Popen(["setsid", "--fork", "sleep", "{marker}"]).wait()
        print("left one behind")
    """)
    assert (outcome.exit_status, outcome.log_tail) == (0, "left one behind")
    assert count_marked(marker) == 0


def test_ends_with_the_worker(confined: Worker, count_marked: Callable[[str], int]) -> None:
    marker = choose_seconds()
    code = f"""
        import subprocess
        subprocess.run(["sleep", "{marker}"])
    """
    with confined.start(code, timeout=60) as driver:
        assert wait_until(lambda: count_marked(marker) == 1)
        driver.kill()
        assert wait_until(lambda: count_marked(marker) == 0)


def test_a_sandbox_whose_worker_is_killed_while_it_is_made_ends_too(
    bubblewrap: Worker, count_marked: Callable[[str], int]
) -> None:
    code = f"import time; time.sleep({choose_seconds()})"
    with bubblewrap.start(code, timeout=60, orphans=12) as driver:
        assert driver.wait(180) == 0
    assert wait_until(lambda: count_marked(code) == 0)


def test_uses_only_its_cores(confined: Worker) -> None:
    core = min(os.sched_getaffinity(0))
    outcome = confined.run("import os; print(os.sched_getaffinity(0), os.environ['OMP_NUM_THREADS'])", cores=[core])
    assert outcome.log_tail == f"{{{core}}} 1"
