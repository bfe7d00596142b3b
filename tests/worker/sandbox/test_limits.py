"""Limits of a run that other means than the usual ones try to exceed: its cores, its memory."""

import os
import resource
import socket
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from textwrap import indent

import pytest

from tests.support.forks import fork
from tests.worker.sandbox.conftest import CONFINED, USERS, Worker, choose_seconds
from tests.worker.sandbox.test_escapes import wait_until
from worker.commands.options import allow_more_open_files
from worker.sandbox import memory_use
from worker.sandbox.base import ProcessLimits
from worker.sandbox.memory_use import read_use, uncounted_bytes

MEMORY_MIB = 96
LANDLOCK = ("landlock", None)

FILES = """
    import os, time
    for number in range(60_000):
        os.close(os.open(f"/tmp/{number}", os.O_CREAT | os.O_WRONLY))
    time.sleep({rest})
    print("took it")
"""
SOCKETS = """
    import os, socket, time
    def fill():
        pairs = [socket.socketpair() for _ in range(110)]
        for end in (end for pair in pairs for end in pair):
            end.setblocking(False)
            try:
                while True:
                    end.send(bytes(65536))
            except BlockingIOError:
                pass
        return pairs
    for _ in range(2):
        if os.fork() == 0:
            held = fill()
            time.sleep(600)
    held = fill()
    time.sleep({rest})
    print("took it")
"""
FULL_PIPES = """
    import os, subprocess, time
    def fill():
        pairs = [os.pipe() for _ in range(500)]
        for _, writer in pairs:
            os.set_blocking(writer, False)
            try:
                while True:
                    os.write(writer, bytes(4096))
            except BlockingIOError:
                pass
        return pairs
    for _ in range(18):  # small processes, each of which holds pipes of its own
        ends = [end for pair in fill() for end in pair]
        subprocess.Popen(["sleep", "600"], pass_fds=ends)
        for end in ends:
            os.close(end)
    time.sleep({rest})
    print("took it")
"""
WATCHES = """
    import os, select, time
    def watch():
        files = [os.eventfd(0) for _ in range(450)]
        held = [select.epoll() for _ in range(450)]
        for watcher in held:
            for file in files:
                watcher.register(file)
        return held
    for _ in range(2):
        if os.fork() == 0:
            held = watch()
            time.sleep(600)
    held = watch()
    time.sleep({rest})
    print("took it")
"""
DESCRIPTIONS = """
    import os, select, time
    watcher, files = select.epoll(), [os.eventfd(0) for _ in range(15)]
    for file in files:  # the file stays open by another number, and the watch as well
        for number in range(40, 1000):
            os.dup2(file, number)
            watcher.register(number)
            os.close(number)
    held = [os.open(f"/proc/self/fdinfo/{watcher.fileno()}", os.O_RDONLY) for _ in range(40)]
    for file in held:  # the kernel keeps the whole text
        os.read(file, 1)
    time.sleep({rest})
    print("took it")
"""
HIDDEN_WATCHES = """
    import ctypes, threading
    libc = ctypes.CDLL(None)
    libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: a plain user's worker may not see what is open
    def work():
{watches}
        os._exit(0)
    threading.Thread(target=work).start()
    libc.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)  # the first thread ends, and shows nothing
""".replace("{watches}", indent(WATCHES, "    ")).replace("import ctypes,", "import ctypes, os,")
UNSEEN_MEMORY = """
    import ctypes, os, threading, time
    def work():
        held = [b"x" * (8 << 20) for _ in range(20)]
        time.sleep(60)
    threading.Thread(target=work).start()
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""
OWN_DESCRIPTORS = """
    import ctypes, os, threading
    libc, close_range, UNSHARE = ctypes.CDLL(None), 436, 2
    def open_some():
        if libc.syscall(close_range, 900, 1000, UNSHARE) == 0:
            held.append(os.open("/dev/null", os.O_RDONLY))
            done.append(str(held[0]) not in os.listdir("/proc/self/fd"))
    held, done = [], []
    thread = threading.Thread(target=open_some)
    thread.start()
    thread.join()
    if done != [True]:
        raise SystemExit("refused")
    print("took it")
"""
ACCESS_LISTS = """
    import os, struct
    entries = [(1, 7, 0), *[(2, 7, os.getuid())] * 8000, (4, 7, 0), (16, 7, 0), (32, 0, 0)]
    several = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    for number in range(2_000):
        os.mkdir(f"/tmp/{number}")
        os.setxattr(f"/tmp/{number}", "system.posix_acl_access", several)
    print("took it")
"""
FILTERS = """
    import ctypes, struct
    libc, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = ctypes.CDLL(None), 38, 22, 2
    code = struct.pack("HBBI", 0x04, 0, 0, 1) * 4000 + struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    held = ctypes.create_string_buffer(code)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for _ in range(7):
        if libc.prctl(PR_SET_SECCOMP, FILTER, struct.pack("HxxxxxxQ", 4001, ctypes.addressof(held)), 0, 0) != 0:
            raise SystemExit("refused")
    print("took it")
"""
MEMFD = """
    import os
    held = [os.memfd_create("held") for _ in range(20)]
    for file in held:
        os.write(file, bytes(8 << 20))
    print("took it")
"""
SEGMENTS = """
    import ctypes
    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_void_p
    for _ in range(20):
        segment = libc.shmget(0, ctypes.c_size_t(8 << 20), 0o600)
        address = libc.shmat(segment, None, 0)
        ctypes.memset(address, 1, 8 << 20)
        libc.shmdt(ctypes.c_void_p(address))
    print("took it")
"""
PIPES = """
    import ctypes, fcntl, mmap, os
    libc = ctypes.CDLL(None)
    for _ in range(100):
        reader, writer = os.pipe()
        for _ in range(15):
            page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            page[0] = 1
            address = ctypes.addressof(ctypes.c_char.from_buffer(page))
            vector = (ctypes.c_size_t * 2)(address, 4096)
            if libc.vmsplice(writer, vector, 1, 0) != 4096:
                raise SystemExit("refused")
    print("took it")
"""

SHARED = """
    import mmap, os
    held = []
    for _ in range(20):
        held.append(mmap.mmap({file}, 8 << 20, flags=mmap.MAP_SHARED{flags}))
        if os.fork() == 0:  # the process that writes the pages ends, and they stay
            held[-1].write(bytes(8 << 20))
            os._exit(0)
        os.wait()
    print("took it")
"""
SHARED_ANONYMOUS = SHARED.format(file=-1, flags=" | mmap.MAP_ANONYMOUS")
SHARED_ZEROS = SHARED.format(file="os.open('/dev/zero', os.O_RDWR)", flags="")
TERMINALS = """
    import os
    print("took it" if os.openpty() else "")
"""


@pytest.mark.parametrize(
    "code",
    [FILES, SOCKETS, FULL_PIPES, WATCHES, DESCRIPTIONS, HIDDEN_WATCHES],
    ids=["empty files", "socket buffers", "full pipes", "watches", "texts of watches", "watches that are hidden"],
)
def test_memory_that_counts_for_no_process_counts_against_the_limit(volunteer: Worker, code: str) -> None:
    at_once, later = code.replace("{rest}", "0"), code.replace("{rest}", "120")
    assert volunteer.without("memory").run(at_once, memory_mib=MEMORY_MIB).log_tail == "took it"
    outcome = volunteer.run(later, timeout=120, memory_mib=MEMORY_MIB)
    assert outcome.killed_for == f"it used more than {MEMORY_MIB} MiB of memory"
    assert "took it" not in outcome.log_tail


@pytest.mark.parametrize(
    "code",
    [MEMFD, SEGMENTS, PIPES, SHARED_ANONYMOUS, OWN_DESCRIPTORS, ACCESS_LISTS, FILTERS],
    ids=[
        "memfd",
        "System V segments",
        "pages in pipes",
        "shared memory",
        "descriptors of a thread",
        "access lists",
        "filters",
    ],
)
def test_memory_that_nothing_can_count_is_refused(volunteer: Worker, code: str) -> None:
    assert volunteer.without("filter").run(code, memory_mib=MEMORY_MIB).log_tail == "took it"
    outcome = volunteer.run(code, memory_mib=MEMORY_MIB)
    assert outcome.exit_status != 0 and "took it" not in outcome.log_tail


@pytest.mark.parametrize("code", [SHARED_ZEROS, TERMINALS], ids=["shared zeros", "terminals"])
def test_devices_that_hold_memory_are_covered(bubblewrap: Worker, code: str) -> None:
    assert bubblewrap.without("devices").run(code, memory_mib=MEMORY_MIB).log_tail == "took it"
    outcome = bubblewrap.run(code, memory_mib=MEMORY_MIB)
    assert outcome.exit_status != 0 and "took it" not in outcome.log_tail
    assert bubblewrap.run("print(open('/dev/zero', 'rb').read(3))").log_tail == repr(bytes(3))


def test_a_process_that_ends_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but root may then look at what it has open, and it has no memory any more."""
    monkeypatch.setattr(memory_use, "PROC", tmp_path)
    monkeypatch.setattr(memory_use.os, "access", lambda *_: False)
    ended, hiding = 2**22 + 1, 2**22 + 2  # no real process has such a number
    for pid, memory in ((ended, ""), (hiding, "VmRSS:\t4096 kB\n")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "status").write_text(f"{memory}Threads:\t1\nFDSize:\t256\n")
    limits = ProcessLimits(memory_mib=MEMORY_MIB, processes=4, disk_mib=8)
    assert uncounted_bytes([ended], limits) == 0 < uncounted_bytes([hiding], limits)


def test_memory_counts_where_the_first_thread_has_ended(volunteer: Worker) -> None:
    """The kernel then shows none of it for the process, and all of it for its other threads."""
    outcome = volunteer.run(UNSEEN_MEMORY, timeout=120, memory_mib=MEMORY_MIB)
    assert outcome.killed_for == f"it used more than {MEMORY_MIB} MiB of memory"
    assert outcome.peak_memory_mib > MEMORY_MIB // 2


@pytest.mark.skipif(LANDLOCK not in CONFINED, reason="only root has it, and not on every kernel")
def test_socket_buffers_count_without_a_network_of_ones_own(project: Path) -> None:
    outcome = Worker(*LANDLOCK, project).run(SOCKETS.replace("{rest}", "120"), timeout=120, memory_mib=MEMORY_MIB)
    assert outcome.killed_for == f"it used more than {MEMORY_MIB} MiB of memory"


def test_memory_that_was_swapped_out_counts(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/status").write_text("VmRSS:\t 100 kB\nVmPTE:\t 10 kB\nVmSwap:\t 1 kB\nThreads:\t2\nFDSize:\t64\n")
    assert read_use(7, tmp_path) == (111 * 1024, 2, 64)


def test_timers_are_few(volunteer: Worker) -> None:
    outcome = volunteer.run("""
        import ctypes, os
        create, libc, timer = {"x86_64": 222, "aarch64": 107}[os.uname().machine], ctypes.CDLL(None), ctypes.c_int()
        print(sum(libc.syscall(create, 1, None, ctypes.byref(timer)) == 0 for _ in range(3000)))
    """)
    assert 0 < int(outcome.log_tail) <= 1024


def test_ordinary_files_and_sockets_fit_the_limit(volunteer: Worker) -> None:
    outcome = volunteer.run(
        """
        import socket, time
        for number in range(5_000):
            open(f"/tmp/{number}", "w").close()
        pairs = [socket.socketpair() for _ in range(32)]
        time.sleep(1)
        print("done")
        """,
        memory_mib=MEMORY_MIB,
    )
    assert (outcome.killed_for, outcome.log_tail) == ("", "done")


def test_keeps_to_its_cores(bubblewrap: Worker) -> None:
    """A run that took more cores than its hardware class has would train longer than others."""
    cores = sorted(os.sched_getaffinity(0))
    assert len(cores) > 1, "on one core there is nothing to take"
    code = """
        import os, threading
        try:
            os.sched_setaffinity(0, range(64))
        except OSError as error:
            print(error.strerror)
        try:
            os.sched_setaffinity(threading.get_native_id(), range(64))
        except OSError:
            pass
        print(len(os.sched_getaffinity(0)))
    """
    assert bubblewrap.without("filter").run(code, cores=cores[:1]).log_tail == str(len(cores))
    assert bubblewrap.run(code, cores=cores[:1]).log_tail.splitlines() == ["Operation not permitted", "1"]


def test_threads_that_the_user_starts_elsewhere_take_none_from_a_run(volunteer: Worker) -> None:
    """The kernel counts all of a user's threads. A desktop that starts some more must not stop a run's own."""
    run = """
        import threading, time
        print("before", flush=True)
        time.sleep(3)
        threads = [threading.Thread(target=time.sleep, args=(1,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        print("all started")
    """
    with volunteer.start(run, timeout=60, processes=24) as driver:
        others = volunteer.run(
            """
            import threading, time
            for _ in range(200):
                threading.Thread(target=time.sleep, args=(6,), daemon=True).start()
            print(threading.active_count())
            time.sleep(5)
            """,
            processes=300,
        )
        assert others.log_tail == "201"
        outcome = driver.read(120)
    assert outcome.log_tail.splitlines() == ["before", "all started"]


def test_a_run_that_starts_too_many_threads_is_ended(volunteer: Worker) -> None:
    outcome = volunteer.run(
        """
        import threading, time
        try:
            for _ in range(60):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            time.sleep(60)
        except RuntimeError:
            print("refused")
        """,
        processes=24,
        timeout=60,
    )
    assert "refused" in outcome.log_tail or outcome.killed_for == "it had more than 24 threads and processes"


def pass_a_descriptor(uid: int | None, line: Connection) -> None:
    """In a fork: as that user, once with the usual limit of open files and once with a worker's."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if uid is not None:
        os.setresuid(uid, uid, uid)
    for prepare in (lambda: None, allow_more_open_files):
        prepare()
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(ours, [b"x"], [theirs.fileno()])
            line.send("passed")
        except OSError as error:
            line.send(os.strerror(error.errno))


def test_descriptors_under_way_in_a_sandbox_keep_no_worker_from_passing_one(
    project: Path, count_marked: Callable[[str], int]
) -> None:
    """A plain user's sandboxes share this limit of the kernel with all of the user's workers."""
    seconds = choose_seconds()
    fill = f"""
        import os, socket, subprocess
        held = []
        try:
            for _ in range(100):
                held.append(socket.socketpair())
                socket.send_fds(held[-1][0], [b"x"], [0] * 250)
        except OSError:
            subprocess.run(["sleep", "{seconds}"])
    """
    with Worker("bubblewrap", USERS[-1], project).start(fill, timeout=240) as filling:
        assert wait_until(lambda: count_marked(seconds) == 1)
        ours, theirs = Pipe()
        passing = fork(pass_a_descriptor, USERS[-1], theirs)
        assert [ours.recv(), ours.recv()] == ["Too many references: cannot splice", "passed"]
        passing.join()
        filling.end()
