"""Channels from one sandbox to the next, or to another beside it, through the kernel that both share."""

import fcntl
import os
import random
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.sandbox.conftest import Worker, choose_seconds
from tests.worker.sandbox.test_escapes import wait_until
from worker.sandbox.control_group import find_group


def find_library() -> Path:
    """A large file that every sandbox can read and no process maps, so that its pages can be thrown out."""
    import torch  # noqa: PLC0415 - takes seconds

    files = (path for path in Path(torch.__file__).parent.rglob("*") if path.is_file() and ".so" not in path.name)
    return max(files, key=lambda path: path.stat().st_size)


BITS, STEP = 64, 16 * 4096


def as_bits(line: str) -> list[int]:
    return [int(bit) for bit in line.split()]


def test_the_page_cache_carries_nothing_from_one_sandbox_to_the_next(bubblewrap: Worker) -> None:
    """The first run of the file throws pages out of the cache, the next one asks which are there."""
    library = find_library()
    start = random.randrange(library.stat().st_size // STEP - BITS) * STEP
    secret = [random.randrange(2) for _ in range(BITS)]
    prepare = f"""
        import os
        file = os.open({str(library)!r}, os.O_RDONLY)
        places = [{start} + {STEP} * number for number in range({BITS})]
        def tried(attempt, *arguments):
            try:
                return attempt(*arguments)
            except OSError:
                return 0
    """
    write = f"""
        tried(os.posix_fadvise, file, 0, 0, os.POSIX_FADV_DONTNEED)  # folios of many pages, as a new file has, go whole
        tried(os.posix_fadvise, file, 0, 0, os.POSIX_FADV_RANDOM)
        for place in places:
            os.pread(file, 1, place)
        for place, bit in zip(places, {secret}):
            if bit:
                tried(os.posix_fadvise, file, place, 4096, os.POSIX_FADV_DONTNEED)
    """
    read = "print(*(int(not tried(os.preadv, file, [bytearray(1)], place, os.RWF_NOWAIT)) for place in places))"

    def carried(worker: Worker) -> int:
        assert worker.run(textwrap.dedent(prepare) + textwrap.dedent(write)).exit_status == 0
        told = as_bits(worker.run(textwrap.dedent(prepare) + read).log_tail)
        return sum(a == b for a, b in zip(told, secret, strict=True))

    with library.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the same test, beside this one, would throw out other pages
        os.fsync(file)  # nor could a page be thrown out that waits to be written
        if bubblewrap.shows_attacks:
            assert carried(bubblewrap.without("filter")) >= BITS * 3 // 4
        assert carried(bubblewrap) in (sum(secret), BITS - sum(secret)), "it hears the same for every page"


def test_the_counters_of_the_machine_carry_nothing(bubblewrap: Worker) -> None:
    """A number of events, counted for the whole machine, outlives the sandbox that made them."""
    count = """
        lines = dict(line.split() for line in open("/proc/vmstat"))
        print(int(lines.get("unevictable_pgs_mlocked", 0)))
    """
    act = """
        import ctypes, mmap
        libc = ctypes.CDLL(None)
        page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        for _ in range(100_000):
            libc.mlock(address, 4096), libc.munlock(address, 4096)
    """

    def told(worker: Worker) -> int:
        before = int(worker.run(count).log_tail)
        worker.run(act)
        return int(worker.run(count).log_tail) - before

    if bubblewrap.shows_attacks:
        assert told(bubblewrap.without("counters")) >= 1_000, "most are missed when others empty its core's batch"
    assert told(bubblewrap) == 0


LISTEN = """
    import os, random, time
    def took(attempt, *arguments):
        begun = time.perf_counter_ns()
        try:
            attempt(*arguments)
        except OSError:
            pass
        return time.perf_counter_ns() - begun
"""
COUNT = """
    import resource
    def took(attempt, *arguments):  # what the kernel counts for this process: bytes that came from the disk
        def count():
            (line,) = (line for line in open("/proc/self/io") if line.startswith("read_bytes"))
            return int(line.split()[1]) + 512 * resource.getrusage(resource.RUSAGE_SELF).ru_inblock
        before = count()
        attempt(*arguments)
        return 1 + count() - before
"""
NAMES = """
    def look(number):
        os.stat(f"/usr/share/absent-{mark}-{number}")
"""
PAGES = """
    file = os.open({library!r}, os.O_RDONLY)
    def look(number):
        os.pread(file, 1, 16 * 4096 * number)
"""
SPEAK = """
    begun = time.perf_counter()
    for number, bit in enumerate({secret}):
        if bit:
            took(look, number)
    print(time.perf_counter() - begun)
"""
HEAR = """
    order = random.sample(range({bits}), {bits})
    took(look, {bits})
    begun = time.perf_counter()
    times = {number: took(look, number) for number in order}
    ordered = sorted(times.values())
    middle = range({bits} // 4, {bits} * 3 // 4)
    widest = max(middle, key=lambda place: ordered[place + 1] / ordered[place])
    print(time.perf_counter() - begun)
    print(*(int(times[number] <= ordered[widest]) for number in range({bits})))
"""


@pytest.mark.skipif(find_group() is None, reason="nobody lets this user make control groups here")
@pytest.mark.parametrize(
    "looks",
    [NAMES, PAGES, textwrap.dedent(COUNT) + textwrap.dedent(PAGES)],
    ids=["names of absent files", "pages that nobody had read", "pages, by its own counters"],
)
def test_what_one_looked_at_the_next_cannot_tell_by_the_time(looks: str, project: Path) -> None:
    """Both outlive the sandbox that looked, and a second look is quicker. `pytest -s` prints how quick that is.

    Of pages the kernel also counts for each process how much came from the disk.
    """
    library, bits = find_library(), 128
    worker, secret = Worker("bubblewrap", None, project), [random.randrange(2) for _ in range(bits)]

    def carried(worker: Worker) -> int:
        filled = looks.replace("{mark}", choose_seconds()).replace("{library!r}", repr(str(library)))
        code = textwrap.dedent(LISTEN) + textwrap.dedent(filled)
        with library.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a test beside this one would throw out other pages
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            spoke = worker.run(code + textwrap.dedent(SPEAK).replace("{secret}", repr(secret))).log_tail
            heard = worker.run(code + textwrap.dedent(HEAR).replace("{bits}", str(bits))).log_tail
        took, told = heard.splitlines()
        right = sum(a == b for a, b in zip(as_bits(told), secret, strict=True))
        print(f"{right} of {bits} bits arrived; looking took {float(spoke):.4f} s and {float(took):.4f} s")  # noqa: T201 - for `pytest -s`
        return right

    attacks = (carried(worker.without("groups")) for _ in range(8))  # on a busy machine not each is heard
    assert any(right >= bits * 3 // 4 for right in attacks)
    assert carried(worker) < bits * 3 // 4, "half of them are guessed"


HOLD_LOCKS = """
    import fcntl, os, subprocess, sys
    file = os.open(os.__file__, os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_EX)
    fcntl.lockf(file, fcntl.LOCK_SH)
    subprocess.run(["sleep", "{seconds}"])
"""
FEEL_LOCKS = """
    import fcntl, os, struct
    file = os.open(os.__file__, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("free")
    except OSError:
        print("held")
    try:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        (kind,) = struct.unpack_from("h", fcntl.fcntl(file, fcntl.F_GETLK, asked))
        print("held" if kind == fcntl.F_RDLCK else "free")
    except OSError:
        print("free")
"""


def test_locks_of_a_library_carry_nothing(bubblewrap: Worker, count_marked: Callable[[str], int]) -> None:
    seconds = choose_seconds()

    def felt(worker: Worker) -> list[str]:
        with worker.start(HOLD_LOCKS.format(seconds=seconds), timeout=240) as holder:
            assert wait_until(lambda: count_marked(seconds) == 1)
            told = worker.run(FEEL_LOCKS).log_tail.splitlines()
            holder.kill()
        assert wait_until(lambda: count_marked(seconds) == 0)
        return told

    if bubblewrap.shows_attacks:
        assert felt(bubblewrap.without("filter")) == ["held", "held"]
    assert felt(bubblewrap) == ["free", "free"]


def test_nobody_hears_who_opens_a_library(bubblewrap: Worker, count_marked: Callable[[str], int]) -> None:
    marker = choose_seconds()
    listen = f"""
        import ctypes, os, select, subprocess
        libc = ctypes.CDLL(None)
        events = libc.inotify_init1(0)
        libc.inotify_add_watch(events, os.__file__.replace("os.py", "this.py").encode(), 0x20)  # IN_OPEN
        subprocess.Popen(["sleep", "{marker}"])
        select.select([events] if events >= 0 else [], [], [], 200)
    """
    speak = "import os; open(os.__file__.replace('os.py', 'this.py')).close()"

    def ends(worker: Worker, seconds: float = 60) -> bool:
        """Whether the listener ends soon after."""
        with worker.start(listen, timeout=240) as listener:
            assert wait_until(lambda: count_marked(marker) == 1)
            worker.run(speak)
            ended = wait_until(lambda: listener.has_ended(), seconds)
            listener.kill()
        assert wait_until(lambda: count_marked(marker) == 0)
        return ended

    if bubblewrap.shows_attacks:
        assert ends(bubblewrap.without("filter"))
    assert not ends(bubblewrap, seconds=2)


def test_devices_that_all_share_keep_no_time(bubblewrap: Worker) -> None:
    """Whoever may write to a file may say that it was changed just now; the moment is a number for the next one."""
    touch = """
        import os
        for path in {paths}:
            try:
                os.utime(path)
            except OSError:
                pass
    """
    tell = """
        import os
        print(*(os.stat(path).st_mtime_ns for path in {paths}))
    """
    paths = ("/dev/null", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/proc/loadavg")

    def changed(worker: Worker) -> int:
        before = worker.run(tell.format(paths=paths)).log_tail.split()
        worker.run(touch.format(paths=paths))
        after = worker.run(tell.format(paths=paths)).log_tail.split()
        return sum(a != b for a, b in zip(before, after, strict=True))

    if bubblewrap.shows_attacks:
        assert changed(bubblewrap.without("filter")) >= 1
    assert changed(bubblewrap) == 0


def test_numbers_of_the_whole_machine_count_nothing(bubblewrap: Worker) -> None:
    """The kernel numbers sessions and processes one after the other: how many were made is a number for the next."""
    made = 500
    count = """
        import os
        for look in (
            lambda: int(open("/proc/self/autogroup").read().split("-")[1].split()[0]),
            lambda: os.fstat(os.pidfd_open(os.getpid())).st_ino,
        ):
            try:
                print(look())
            except OSError:
                print(0)
    """
    make = f"""
        import os
        for _ in range({made}):
            if os.fork() == 0:
                os.setsid()
                os._exit(0)
            os.wait()
    """

    def told(worker: Worker) -> list[int]:
        before = worker.run(count).log_tail.split()
        worker.run(make)
        return [int(b) - int(a) for a, b in zip(before, worker.run(count).log_tail.split(), strict=True)]

    if bubblewrap.shows_attacks:
        assert max(told(bubblewrap.without("filter"))) >= made, "pidfds have numbers from Linux 6.9 on"
    assert max(told(bubblewrap)) < made // 2, "others make some, too"
