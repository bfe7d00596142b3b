"""The surroundings of a sandboxed process: environment variables (an allow-list), folders, user."""

import os
import random
import site
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from worker.sandbox.base import Gpu, SandboxRequest, SandboxUnavailable
from worker.sandbox.gpu_files import find_driver_folder


def sandbox_environment(request: SandboxRequest, folder: str, scratch: str, gpu: Gpu | None) -> dict[str, str]:
    """All variables of the process. `folder` and `scratch` are paths inside the sandbox.

    Raises SandboxUnavailable if a GPU is requested and the sandbox has none.
    """
    if request.device != "cpu" and gpu is None:
        raise SandboxUnavailable(f"a process requested {request.device}, and its sandbox has no GPU")
    environment = {
        "HOME": scratch,
        "LANG": "C.UTF-8",
        "LOGNAME": "sandbox",  # for getpass.getuser, which otherwise needs /etc/passwd
        "MKL_DYNAMIC": "FALSE",  # it counts cores by moving to each of them, which the filter refuses, and finds one
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": folder,
        "PYTHONUNBUFFERED": "1",  # keeps the last lines before a crash
        "TMPDIR": scratch,
    }
    if request.cores:
        environment["OMP_NUM_THREADS"] = str(len(request.cores))
    if request.device == "cpu":
        # Waiting threads sleep. Spinning, the default, makes a step ten times slower once the cores are shared.
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    else:
        environment["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"  # less of a small memory is lost in pieces
    environment["CUDA_VISIBLE_DEVICES"] = gpu.uuid if gpu is not None and request.device != "cpu" else ""
    if request.device != "cpu" and (libraries := find_driver_folder()) is not None:
        environment["LD_LIBRARY_PATH"] = libraries
    return environment


SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
LINKER_FILES = ("/etc/ld.so.cache", "/etc/alternatives")
"""Files of the dynamic linker; distributions select libraries such as BLAS through /etc/alternatives."""


def readable_folders(gpu: Gpu | None = None) -> Iterator[str]:
    """Folders of the system, the interpreter and its packages, and of a GPU's driver; none lies below another."""
    seen: list[Path] = []
    interpreter = (sys.base_prefix, sys.prefix, *site.getsitepackages())
    driver = find_driver_folder() if gpu is not None else None
    for name in (*SYSTEM_FOLDERS, *LINKER_FILES, *interpreter, *([driver] if driver else [])):
        for path in (Path(name), Path(name).resolve()):
            shown = any(path.is_relative_to(folder) for folder in seen)
            if path.exists() and not shown and not (path.is_symlink() and name in SYSTEM_FOLDERS):
                seen.append(path)
                yield str(path)


def find_links() -> Iterator[tuple[str, str]]:
    """The system folders that are links here, each with its target, such as `/bin` and `usr/bin`."""
    for folder in SYSTEM_FOLDERS:
        if Path(folder).is_symlink():
            yield folder, str(Path(folder).readlink())


COUNTERS = (
    "buddyinfo", "cgroups", "diskstats", "fs", "interrupts", "irq", "key-users", "keys", "latency_stats", "loadavg",
    "lock_stat", "locks", "pagetypeinfo", "pressure", "sched_debug", "schedstat", "slabinfo", "softirqs", "swaps",
    "sys/fs", "timer_list", "timer_stats", "uptime", "vmallocinfo", "vmstat", "zoneinfo",
)  # fmt: skip
"""Files and folders of /proc with counters of the whole machine. One process can write a number there, by doing
something often, and a later one in another sandbox can read it."""


def find_counters() -> Iterator[str]:
    """Those of them that this kernel has."""
    return (f"/proc/{name}" for name in COUNTERS if Path("/proc", name).exists())


def proc_files(memory_mib: int) -> dict[str, str]:
    """Files of /proc that programs need, without the machine's counters: its cores, its memory, when it started."""
    kib = min(memory_mib, psutil.virtual_memory().total // 2**20) * 1024
    memory = {"MemTotal": psutil.virtual_memory().total // 1024, "MemFree": kib, "MemAvailable": kib}
    others = ("Buffers", "Cached", "Active", "Inactive", "Shmem", "Slab", "SReclaimable", "SwapTotal", "SwapFree")
    idle = " 0" * 10 + "\n"
    cores = "".join(f"cpu{core}{idle}" for core in range(os.cpu_count() or 1))
    return {
        "/proc/meminfo": "".join(f"{key}: {value} kB\n" for key, value in (memory | dict.fromkeys(others, 0)).items()),
        "/proc/stat": f"cpu {idle}{cores}intr 0\nctxt 0\nbtime {int(psutil.boot_time())}\nprocesses 0\n",
    }


DYNAMIC_UIDS = range(61184, 65520)
"""systemd's range for dynamic users, which no package and no person uses."""


_GIVEN: deque[int] = deque(maxlen=256)
"""The last ones, whose processes may not have taken them yet."""


def unused_uid() -> int:
    """A uid that no process of this machine uses."""
    used = set()
    for pid in psutil.pids():
        with suppress(FileNotFoundError):  # it has just ended
            used.add(Path(f"/proc/{pid}").stat().st_uid)
    _GIVEN.append(random.choice([uid for uid in DYNAMIC_UIDS if uid not in used and uid not in _GIVEN]))
    return _GIVEN[-1]


def threads_of_user(uid: int) -> int:
    """Number of threads of all the user's processes, which RLIMIT_NPROC limits."""
    processes = psutil.process_iter(["uids", "num_threads"])
    return sum(p.info["num_threads"] or 0 for p in processes if p.info["uids"] and p.info["uids"].real == uid)
