"""System calls in the sandbox: attacks that the filter stops, and what programs need and may call."""

import os
import struct
import textwrap

import pytest

from tests.worker.sandbox.conftest import Worker
from worker.sandbox import seccomp
from worker.sandbox.base import SandboxUnavailable

MACHINE = os.uname().machine
ABI = list(seccomp.ARCHITECTURES).index(MACHINE)
MEMORY_MIB = 1024


NUMBERS = seccomp.KERNEL | seccomp.SHARED_STATE | seccomp.UNCOUNTED_MEMORY | seccomp.MEMFD | seccomp.CHECKED

PRELUDE = """
    import ctypes, errno, fcntl, mmap, os, signal, socket, struct, sys, time
    LIBC = ctypes.CDLL(None, use_errno=True)
    NUMBERS = {numbers}
    def call(name, *arguments):
        ctypes.set_errno(0)
        result = LIBC.syscall(NUMBERS[name], *arguments)
        return result if result >= 0 else -ctypes.get_errno()
    buffer = ctypes.create_string_buffer(4096)
    memory = mmap.mmap(-1, 16384, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    ADDRESS = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    library = os.open(os.__file__, os.O_RDONLY)
    os.pread(library, 1, 0)
    OWNERS = bytes.fromhex("02000000" "01000700ffffffff" "04000000ffffffff" "20000000ffffffff")  # rights as a mode has
    allowed = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 4096))
    FILTER = struct.pack("HxxxxxxQ", 1, ctypes.addressof(allowed))
    vector = (ctypes.c_void_p * 2)(ctypes.cast(buffer, ctypes.c_void_p), 1)
    child = os.fork()
    if child == 0:
        time.sleep(600)
    def reached(name, attempt):
        try:
            if attempt() >= 0:
                print(name)
        except OSError:
            pass
"""

WINS = {
    "fadvise64": "call('fadvise64', library, ctypes.c_long(0), ctypes.c_long(4096), 4)",
    "readahead": "call('readahead', library, ctypes.c_long(0), ctypes.c_long(4096))",
    "preadv2 NOWAIT": "os.pread(library, 1, 0) and os.preadv(library, [bytearray(1)], 0, os.RWF_NOWAIT)",
    "mincore": "call('mincore', ADDRESS, ctypes.c_long(4096), buffer)",
    "sync_file_range": "call('sync_file_range', library, ctypes.c_long(0), ctypes.c_long(4096), 2)",
    "madvise COLD": "call('madvise', ADDRESS, ctypes.c_long(4096), 20)",
    "madvise PAGEOUT": "call('madvise', ADDRESS, ctypes.c_long(4096), 21)",
    "io_setup": "call('io_setup', 8, ctypes.byref(ctypes.c_ulong(0)))",
    "io_uring_setup": "call('io_uring_setup', 8, buffer)",
    "add_key": "call('add_key', b'user', b'note', b'text', ctypes.c_long(4), -2)",
    "keyctl": "call('keyctl', 0, -2, 1)",
    "sched_setaffinity": "call('sched_setaffinity', 0, 8, ctypes.byref(ctypes.c_ulong(2**64 - 1)))",
    "ptrace": "call('ptrace', 16, child, 0, 0)",
    "process_vm_readv": "call('process_vm_readv', child, vector, 1, vector, 1, 0)",
    "kcmp": "call('kcmp', os.getpid(), child, 1, 0, 0)",
    "pidfd_getfd": "call('pidfd_getfd', os.pidfd_open(child), 0, 0)",
    "pidfd_open": "os.pidfd_open(child)",
    "clone PIDFD": "call('clone', 0x1000 | signal.SIGCHLD, 0, buffer, 0, 0) or os._exit(0)",
    "memfd_create": "call('memfd_create', b'name', 0)",
    "vmsplice": "call('vmsplice', os.pipe()[1], vector, 1, 0)",
    "shmget": "call('shmget', 0, ctypes.c_long(4096), 0o600)",
    "msgget": "call('msgget', 0, 0o600)",
    "semget": "call('semget', 0, 1, 0o600)",
    "socket AF_INET": "socket.socket(socket.AF_INET).fileno()",
    "socket AF_INET6": "socket.socket(socket.AF_INET6).fileno()",
    "socket AF_NETLINK": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).fileno()",
    "setsockopt SO_SNDBUF": "socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096) or 0",
    "getsockopt SO_COOKIE": "socket.socketpair()[0].getsockopt(socket.SOL_SOCKET, 57, 8) and 0",
    "fcntl GETLEASE": "fcntl.fcntl(library, fcntl.F_GETLEASE)",
    "fcntl GET_RW_HINT": "fcntl.fcntl(library, 1035, bytes(8)) and 0",
    "ioctl FS_IOC_GETFLAGS": "fcntl.ioctl(library, 0x80086601, bytes(8)) and 0",
    "inotify_init1": "call('inotify_init1', 0)",
    "close_range UNSHARE": "call('close_range', 900, 1000, 2)",
    "seccomp": "call('seccomp', 2, 0, ctypes.byref(ctypes.c_uint(0x7FFF0000)))",
    "personality": "call('personality', 0x0040000)",
    "setxattr": "os.setxattr(os.environ['TMPDIR'], 'system.posix_acl_access', OWNERS) or 0",
    "setsockopt SO_ATTACH_FILTER": "socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, 26, FILTER) or 0",
}  # fmt: skip
"""Calls that succeed without the filter on every kernel of the last years."""

TRIED = {
    "cachestat": "call('cachestat', library, buffer, buffer, 0)",
    "userfaultfd": "call('userfaultfd', 1)",
    "perf_event_open": "call('perf_event_open', buffer, 0, -1, -1, 0)",
    "bpf": "call('bpf', 0, buffer, 64)",
    "memfd_secret": "call('memfd_secret', 0)",
    "process_vm_writev": "call('process_vm_writev', child, vector, 1, vector, 1, 0)",
    "process_madvise": "call('process_madvise', os.pidfd_open(child), vector, ctypes.c_long(1), 20, 0)",
    "request_key": "call('request_key', b'user', b'note', 0, -2)",
    "mq_open": "call('mq_open', b'queue', 0o102, 0o600, 0)",
    "quotactl": "call('quotactl', 0x80000700, 0, 0, buffer)",
    "fanotify_init": "call('fanotify_init', 0x200, 0)",
    "name_to_handle_at": "call('name_to_handle_at', -100, b'/usr', buffer, buffer, 0)",
    "unshare": "call('unshare', 0x10000000)",
    "clone NEWUSER": "call('clone', 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)",
    "madvise MERGEABLE": "call('madvise', ADDRESS, ctypes.c_long(4096), 12)",
    "prctl MEMORY_MERGE": "call('prctl', 67, 1, 0, 0, 0)",
    "prctl SCHED_CORE": "call('prctl', 62, 1, 0, 0, 0)",
    "prctl FUTEX_HASH": "call('prctl', 78, 1, 1024, 0, 0)",
    "landlock_create_ruleset": "call('landlock_create_ruleset', bytes([1]) + bytes(15), ctypes.c_long(16), 0)",
    "mmap HUGETLB": "call('mmap', 0, ctypes.c_long(1 << 21), 3, 0x40022, -1, 0)",
    **{
        f"socket {family}": f"socket.socket({family}, {kind}).fileno()"
        for family, kind in ((40, 1), (38, 5), (17, 3), (44, 3), (31, 3), (29, 3), (30, 1), (21, 5), (15, 3), (45, 1))
    },
}  # fmt: skip
"""Calls that many kernels refuse by themselves."""


def attempt(worker: Worker, calls: dict[str, str]) -> set[str]:
    """Which of the calls succeed."""
    prelude = textwrap.dedent(PRELUDE).replace("{numbers}", repr({name: n[ABI] for name, n in NUMBERS.items()}))
    code = "\n".join(f"reached({name!r}, lambda: {expression})" for name, expression in calls.items())
    outcome = worker.run(f"{prelude}\n{code}\nos.kill(child, 9)\nprint('end')")
    *reached, end = outcome.log_tail.splitlines()
    assert end == "end", outcome.log_tail
    return set(reached)


def test_calls_that_no_run_needs_are_refused(confined: Worker) -> None:
    assert set(WINS) - attempt(confined.without("filter"), WINS) == set()
    assert attempt(confined, WINS | TRIED) == set()


def test_calls_of_the_32_bit_abi_do_not_pass(bubblewrap: Worker) -> None:
    """`int 0x80` calls the kernel by its numbers for 32-bit programs, which a filter by numbers would misread."""
    code = """
        import ctypes, mmap
        access = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=access)
        code.write(bytes.fromhex("b814000000" "cd80" "c3"))  # mov eax, 20 (getpid); int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        print(ctypes.CFUNCTYPE(ctypes.c_int)(address)())
    """
    if MACHINE == "x86_64":
        assert int(bubblewrap.without("filter").run(code).log_tail) > 0
        assert int(bubblewrap.run(code).log_tail) == -38
    assert decide(seccomp.filter_of_run(gpu=False, machine="x86_64"), 0, machine="i386") == "ENOSYS"
    assert decide(seccomp.filter_of_run(gpu=False, machine="x86_64"), (1 << 30) + 0) == "ENOSYS", "x32's read"


# --- The program itself, for both architectures --------------------------------------------------------------------

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i386": 0x40000003, "arm": 0x40000028}


def decide(program: bytes, number: int, *arguments: int, machine: str = "x86_64") -> str:
    """The kernel's answer to a call: `allow`, `granted` without being made, or the name of an error."""
    given = struct.pack("<IIQ6Q", number, AUDIT[machine], 0, *arguments, *[0] * (6 - len(arguments)))
    place, held = 0, 0
    while True:
        operation, if_true, if_false, constant = struct.unpack_from("<HBBI", program, 8 * place)
        place += 1
        match operation:
            case 0x20:
                held = struct.unpack_from("<I", given, constant)[0]
            case 0x54:
                held &= constant
            case 0x15 | 0x25:
                holds = held == constant if operation == 0x15 else held > constant
                place += if_true if holds else if_false
            case 0x06:
                return {0x7FFF0000: "allow", 0x50000: "granted", 0x50001: "EPERM", 0x50026: "ENOSYS"}.get(
                    constant, f"error {constant - 0x50000}"
                )
            case _:
                raise AssertionError(f"unknown operation {operation:#x}")


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_what_is_listed_is_refused_on_both_architectures(machine: str) -> None:
    place = list(seccomp.ARCHITECTURES).index(machine)
    for_run, for_tool = seccomp.filter_of_run(False, machine), seccomp.filter_of_tool(machine)
    refused = seccomp.KERNEL | seccomp.SHARED_STATE | seccomp.UNCOUNTED_MEMORY | seccomp.MEMFD
    numbers = {name: number[place] for name, number in refused.items() if number[place] is not None}
    assert len(set(numbers.values())) == len(numbers)
    for name, number in numbers.items():
        assert decide(for_run, number, machine=machine) in ("EPERM", "ENOSYS"), name  # type: ignore[arg-type]
        expected = ("EPERM", "ENOSYS") if name in seccomp.KERNEL else ("allow",)
        assert decide(for_tool, number, machine=machine) in expected, name  # type: ignore[arg-type]
    for number in (463, 1000, 1 << 30, (1 << 30) + 512):
        assert decide(for_run, number, machine=machine) == "ENOSYS"
    assert decide(for_run, 0, machine={"x86_64": "i386", "aarch64": "arm"}[machine]) == "ENOSYS"


def test_a_program_fits_the_kernel() -> None:
    for program in (seccomp.filter_of_run(False), seccomp.filter_of_run(True), seccomp.filter_of_tool()):
        assert len(program) % 8 == 0 and len(program) // 8 < 4096
        assert len(program.hex()) < 30_000, "it fits the message to a container's first program"


def test_there_is_none_for_another_architecture() -> None:
    with pytest.raises(SandboxUnavailable, match=r"x86_64 and aarch64, and this machine is riscv64: .*unconfined"):
        seccomp.filter_of_run(False, "riscv64")


NEEDED = {
    # name: (x86_64, aarch64); None where an architecture has only the newer call.
    # torch on a CPU, Python and OpenMP (seen with strace -f -c on `import torch` and a training step).
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "mprotect": (10, 226),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "pread64": (17, 67),
    "pwrite64": (18, 68), "writev": (20, 66), "sched_yield": (24, 124), "mremap": (25, 216), "dup": (32, 23),
    "dup2": (33, None), "nanosleep": (35, 101), "getpid": (39, 172), "sendmsg": (46, 211), "recvmsg": (47, 212),
    "shutdown": (48, 210), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202), "connect": (42, 203),
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "exit": (60, 93), "wait4": (61, 260),
    "kill": (62, 129), "uname": (63, 160), "ftruncate": (77, 46), "getdents64": (217, 61), "getcwd": (79, 17),
    "rename": (82, None), "mkdir": (83, None), "unlink": (87, None), "readlink": (89, None), "umask": (95, 166),
    "getrusage": (98, 165), "sysinfo": (99, 179), "getuid": (102, 174), "sigaltstack": (131, 132), "gettid": (186, 178),
    "futex": (202, 98), "sched_getaffinity": (204, 123), "set_tid_address": (218, 96), "exit_group": (231, 94),
    "epoll_ctl": (233, 21), "openat": (257, 56), "newfstatat": (262, 79), "set_robust_list": (273, 99),
    "pselect6": (270, 72), "ppoll": (271, 73), "splice": (275, 76), "eventfd2": (290, 19), "epoll_create1": (291, 20),
    "pipe2": (293, 59), "dup3": (292, 24), "prlimit64": (302, 261), "getrandom": (318, 278), "statx": (332, 291),
    "rseq": (334, 293), "copy_file_range": (326, 285), "sendfile": (40, 71),
    "close_range": (436, 436), "faccessat2": (439, 439), "clock_nanosleep": (230, 115), "membarrier": (324, 283),
    "fallocate": (285, 47), "mlock": (149, 228), "munlock": (150, 229), "arch_prctl": (158, None),
    # Triton's compiler starts ptxas and a C compiler, loads the result, and renames files into its cache.
    "renameat": (264, 38), "unlinkat": (263, 35), "mkdirat": (258, 34), "fchmod": (91, 52),
    # CUDA besides these: github.com/NVIDIA/cuda-checkpoint issue 10 and NVIDIA/k8s-device-plugin issue 222 (strace),
    # NVIDIA/OpenShell issue 1696 (memfd_create).
    "stat": (4, None), "poll": (7, None), "access": (21, None), "symlink": (88, None), "symlinkat": (266, 36),
    "mknod": (133, None), "mknodat": (259, 33), "geteuid": (107, 175), "madvise": (28, 233), "mmap": (9, 222),
    "sched_get_priority_max": (146, 125), "sched_setscheduler": (144, 119), "setpriority": (141, 140),
}  # fmt: skip


def test_what_torch_triton_and_cuda_call_stays_allowed(machine: str) -> None:
    place = list(seccomp.ARCHITECTURES).index(machine)
    program = seccomp.filter_of_run(gpu=True, machine=machine)

    def result(name: str, *arguments: int) -> str:
        numbers: tuple[int | None, int | None] = (NEEDED | seccomp.CHECKED | seccomp.MEMFD)[name]
        number = numbers[place]
        return "allow" if number is None else decide(program, number, *arguments, machine=machine)

    assert {name for name in NEEDED if result(name) != "allow"} == set()
    assert result("memfd_create") == "allow", "CUDA does not start without it"
    for command in (0x46, 0xC020462A, 0xC030462B, 0xC00446C9, 0x30000001, 27, 75, 0x5401, 0x5421, 0x541B):
        assert result("ioctl", 3, command) == "allow", "of nvidiactl, nvidia-uvm and terminals"
    for command in (0, 1, 2, 3, 4, 1030, 1031, 1033, 1034):
        assert result("fcntl", 3, command) == "allow"
    for command in (6, 7, 37, 38):
        assert result("fcntl", 3, command) == "granted", "torch's compiler locks files of its own"
    assert result("flock", 3, 2) == "granted"
    assert result("utimensat", 0, 0, 0, 0) == "granted", "Triton copies files with their times"
    counted = seccomp.filter_of_run(True, machine, counts_cpu_time=True)
    assert [decide(counted, NEEDED["rt_sigaction"][place] or 0, signal, machine=machine) for signal in (17, 15)] == [
        "granted",
        "allow",
    ]
    for advice in (3, 4, 8, 14, 15, 16):
        assert result("madvise", 0, 4096, advice) == "allow"
    assert result("clone", 0x3D0F00) == "allow", "a thread"
    assert result("clone", 0x3D0B00) == "EPERM", "a thread with descriptors of its own"
    assert result("preadv2", 3, 0, 1, 0, 0, 0) == "allow"
    for flags in (0x22, 0x21, 0x1, 0x2, 0x3, 0x12, 0x32, 0x4022, 0x20022, 0x100022):
        assert result("mmap", 0, 4096, 3, flags) == "allow"
    for option in (1, 15, 16, 29, 36, 38, 41, 0x53564D41, 0x59616D61):
        assert result("prctl", option) == "allow"
    assert {result("prctl", option) for option in (22, 62, 67, 78, 79)} == {"error 22"}
    assert result("socketpair", 1, 1, 0) == "allow" and result("socket", 1, 1, 0) == "allow"


def test_a_tool_has_the_network_and_its_locks(machine: str) -> None:
    place = list(seccomp.ARCHITECTURES).index(machine)
    program = seccomp.filter_of_tool(machine)

    def result(name: str, *arguments: int) -> str:
        number = NUMBERS[name][place]
        assert number is not None
        return decide(program, number, *arguments, machine=machine)

    assert [result("socket", family) for family in (1, 2, 10, 16)] == ["allow"] * 4
    assert {result("socket", family) for family in (15, 17, 21, 29, 30, 31, 38, 40, 44, 45)} == {"EPERM"}
    assert result("fcntl", 3, 6) == "allow" and result("flock", 3, 2) == "allow"
    for name in ("inotify_init1", "memfd_create", "fadvise64", "sched_setaffinity"):
        assert result(name) == "allow"
    for name in ("ptrace", "keyctl", "bpf", "perf_event_open", "io_uring_setup", "process_vm_readv"):
        assert result(name) in ("EPERM", "ENOSYS")


# --- Honest programs ----------------------------------------------------------------------------------------------


LESSONS = """
    import torch
    print("threads", torch.get_num_threads())
    data = torch.utils.data.TensorDataset(torch.randn(64, 8), torch.randn(64, 1))
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    for inputs, targets in torch.utils.data.DataLoader(data, 16, num_workers=2):
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), "/tmp/weights")
    torch.load("/tmp/weights", mmap=True)
    print("trained", bool(torch.isfinite(loss)))
"""


def test_torch_trains_on_all_cores_of_a_run_with_workers_that_load_its_data(volunteer: Worker) -> None:
    """MKL, inside of torch, counts cores by moving to each of them. Who starts the sandbox changes no call."""
    outcome = volunteer.run(LESSONS, timeout=240, cores=[0, 1], memory_mib=4096, processes=64, disk_mib=64)
    assert (outcome.exit_status, outcome.log_tail.splitlines()) == (0, ["threads 2", "trained True"])
    outcome = volunteer.run("import torch; print(torch.get_num_threads())", cores=[0], memory_mib=4096, processes=64)
    assert (outcome.exit_status, outcome.log_tail) == (0, "1")


def test_ordinary_programs_work(confined: Worker) -> None:
    outcome = confined.run(
        """
        import asyncio, multiprocessing, os, pathlib, shutil, socket, sqlite3, subprocess, tempfile, threading
        import numpy, psutil

        def square(number):
            return number * number

        listens = os.environ["TMPDIR"] == "/tmp"  # where Landlock confines, no program does
        with multiprocessing.get_context("forkserver" if listens else "spawn").Pool(2) as pool:
            print(sum(pool.map(abs, range(-3, 3))))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(sum(pool.map(square, range(4))))
        base = sqlite3.connect(os.environ["TMPDIR"] + "/base")
        base.execute("create table t (a)")
        base.commit()
        near, far = socket.socketpair()
        near.send(b"x")
        print(far.recv(1))
        shutil.copy(os.environ["PYTHONPATH"] + "/train.py", os.environ["TMPDIR"] + "/copy")
        numpy.memmap(os.environ["TMPDIR"] + "/array", dtype="f4", mode="w+", shape=(64,))[:] = 1
        print(asyncio.run(asyncio.sleep(0, "slept")), subprocess.run(["echo", "ran"], capture_output=True).stdout)
        print(psutil.cpu_count() == os.cpu_count(), psutil.virtual_memory().total > 0, psutil.Process().pid > 0)
        """,
        memory_mib=MEMORY_MIB,
        processes=64,
        disk_mib=64,
        open_files=256,
    )
    expected = ["9", "14", "b'x'", "slept b'ran\\n'", "True True True"]
    assert outcome.log_tail.splitlines() == expected
