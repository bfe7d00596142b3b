"""The sandbox for machines without bubblewrap: a container of podman or docker, on this machine.

The image is empty and made here, so nothing is downloaded. A container sees the same read-only folders as a bubblewrap
sandbox, and has two file systems in memory to write to. It has no network, a read-only root, no capability, and cannot
gain any; it runs as an unused uid if the worker is root, else as the worker's user. seccomp.py says which system calls
it may make, whatever the engine's own profile allows.

An engine cannot pass on open descriptors, so the first program inside (container_init.py) receives them by a socket.
It keeps that connection, so that the container ends when the worker does.

Not covered, besides the list in worker/sandbox/bubblewrap.py:
 * The engine: docker's daemon runs as root and obeys everyone who may talk to it; podman needs no daemon.
 * SELinux: its labels are off, because the mounted folders carry the system's own.
 * Counters of the whole machine in /proc, where the engine is docker.
 * The engine's own files in the container (/etc/hosts, /etc/resolv.conf, /etc/hostname) can be read.
 * An engine on another machine, or in a virtual machine, cannot be used.
 * A GPU is given by its device nodes, for its driver's libraries are among the folders. That has not run on one yet.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import psutil

from shared.runs import RunLimit
from worker.machine.scratch import make_scratch
from worker.sandbox.base import (
    CONFINED_LIMITS,
    MIB,
    Gpu,
    SandboxedProcess,
    SandboxRequest,
    SandboxUnavailable,
    try_sandbox,
)
from worker.sandbox.confinement import (
    find_counters,
    find_links,
    readable_folders,
    sandbox_environment,
    threads_of_user,
    unused_uid,
)
from worker.sandbox.container_socket import SOCKET_NAME, ContainerSocket
from worker.sandbox.gpu_files import find_devices, find_groups, prepare_gpu
from worker.sandbox.process import ConfinedProcess, resource_limits
from worker.sandbox.seccomp import filter_of_run

ENGINES = ("podman", "docker")
ENTRY = Path(__file__).with_name("container_init.py")
ENGINE_SECONDS = 60.0
_NAME = re.compile(r"swarm-(\d{1,9})-[0-9a-f]{32}")
"""The name of a container, with the number of its worker's process."""

MOUNT_POINTS = ("dev", "etc", "proc", "project", "swarm", "sys", "tmp")

READ_MEMORY_LIMIT = """
import pathlib
files = map(pathlib.Path, ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"))
limits = [file.read_text().strip() for file in files if file.exists()]
print("works" if limits and limits[0].isdecimal() and int(limits[0]) < 2**60 else "no limit")
"""

INSTALL_HINT = (
    "install podman (`apt-get install podman`, `dnf install podman`), or docker; `docker info` must work for this user"
)


class ContainerSandbox:
    """Implements `Sandbox`."""

    limits = CONFINED_LIMITS

    def __init__(self, gpu: Gpu | None = None) -> None:
        """Find an engine, make the empty image, and try both; `gpu` is for requests that name one.

        Raises SandboxUnavailable.
        """
        self._gpu = gpu
        if gpu is not None:
            prepare_gpu(gpu)
        self._folders = tuple(readable_folders(gpu))
        refusals = []
        for name in ENGINES:
            try:
                self._try_engine(name)
                return
            except SandboxUnavailable as error:
                refusals.append(str(error))
        raise SandboxUnavailable(f"{'; '.join(refusals)}: {INSTALL_HINT}")

    def _try_engine(self, name: str) -> None:
        """Use that engine if it runs a container. Raises SandboxUnavailable."""
        program = shutil.which(name)
        if program is None:
            raise SandboxUnavailable(f"{name} is not installed")
        answer = _run(program, "info")
        if answer.returncode != 0:
            raise SandboxUnavailable(f"{name} does not work ({_last_line(answer)})")
        self._engine, self.name = program, f"container ({name})"
        _remove_leftovers(program)
        self._image = _provide_image(program)
        if problem := try_sandbox(self):
            raise SandboxUnavailable(f"{name} cannot run a container here ({problem})")
        if not try_sandbox(self, READ_MEMORY_LIMIT):  # engines only warn where the kernel cannot limit memory
            self.limits = (*CONFINED_LIMITS, RunLimit.MEMORY_LIMITED_BY_KERNEL)

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        name, uid = f"swarm-{os.getpid()}-{uuid4().hex}", os.geteuid() or unused_uid()
        environment = sandbox_environment(request, folder="/project", scratch="/tmp", gpu=self._gpu)  # noqa: S108 - inside
        rlimits = resource_limits(request, other_processes=threads_of_user(uid))
        task = {
            "argv": request.argv,
            "descriptors": request.descriptors,
            "rlimits": rlimits,
            "system_calls": filter_of_run(request.device != "cpu", counts_cpu_time=request.counts_cpu_time).hex(),
        }
        folder = make_scratch("container")
        remove = (self._engine, "rm", "--force", name)
        connection = ContainerSocket(
            Path(folder.name), task, request.descriptors, uid, remove, request.limits.memory_mib
        )
        command = (
            self._engine, "run", "--name", name,
            *_confine(request, rlimits["RLIMIT_NPROC"]),
            *_hide_counters(Path(self._engine).name),
            *_user(Path(self._engine).name, uid),
            *_gpu_options(Path(self._engine).name, self._gpu if request.device != "cpu" else None),
            *_mount_options(self._folders, request.folder, Path(folder.name)),
            *(word for key, value in environment.items() for word in ("--env", f"{key}={value}")),
            "--entrypoint", sys.executable, self._image,
            "-I", "-S", "/swarm/container_init.py", f"/swarm/socket/{SOCKET_NAME}",
        )  # fmt: skip
        return ConfinedProcess(command, request, None, folder=Path("/"), on_end=folder.cleanup, container=connection)


def _remove_leftovers(engine: str) -> None:
    """Remove containers whose worker has ended without them, as after `kill -9`. Raises SandboxUnavailable."""
    listed = _run(engine, "ps", "--all", "--filter", "name=swarm-", "--format", "{{.Names}}").stdout.decode()
    for name in listed.split():
        found = _NAME.fullmatch(name)
        if found is not None and not psutil.pid_exists(int(found[1])):
            _run(engine, "rm", "--force", name)


def _provide_image(engine: str) -> str:
    """The image: the system's links and empty mount points, nothing else. Raises SandboxUnavailable."""
    root = _pack_root()
    image = f"research-swarm-root:{hashlib.sha256(root).hexdigest()[:16]}"
    if _run(engine, "image", "inspect", image).returncode != 0:
        made = _run(engine, "import", "-", image, given=root)
        if made.returncode != 0:
            raise SandboxUnavailable(f"{Path(engine).name} cannot make an image: {_last_line(made)}")
    return image


def _pack_root() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in MOUNT_POINTS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(folder)
        for path, target in find_links():
            link = tarfile.TarInfo(path.lstrip("/"))
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return packed.getvalue()


def _confine(request: SandboxRequest, processes: int) -> Iterator[str]:
    """Options for the limits and rights of a container."""
    limits = request.limits
    scratch = limits.disk_mib * MIB
    # A second line behind the watchdog. Files in /tmp and /dev/shm count here, too.
    memory = (limits.memory_mib * 5 // 4 + 2 * limits.disk_mib) * MIB
    files = limits.open_files + 2 * len(request.descriptors)
    yield from ("--rm", "--pull", "never", "--log-driver", "none", "--hostname", "sandbox", "--workdir", "/tmp")  # noqa: S108 - inside
    yield from ("--network", "none", "--ipc", "private", "--read-only", "--cap-drop", "ALL")
    yield from ("--security-opt", "no-new-privileges", "--security-opt", "label=disable")
    yield from ("--pids-limit", str(limits.processes + 1), "--memory", str(memory), "--memory-swap", str(memory))
    yield from ("--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={processes}:{processes}")
    yield from ("--shm-size", str(scratch))
    yield from ("--tmpfs", f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={scratch}")  # noqa: S108 - inside
    if request.cores:
        yield from ("--cpuset-cpus", ",".join(map(str, sorted(request.cores))))


def _hide_counters(engine: str) -> Iterator[str]:
    """Options that hide the machine's counters below /proc; docker has none."""
    if engine == "podman":
        yield from ("--security-opt", f"mask={':'.join(find_counters())}")


def _user(engine: str, uid: int) -> Iterator[str]:
    yield from ("--user", f"{uid}:{uid}")
    if engine == "podman" and uid == os.geteuid():
        yield from ("--userns", "keep-id")  # without it, podman maps the user to another one outside


def _gpu_options(engine: str, gpu: Gpu | None) -> Iterator[str]:
    """Options for the device nodes of one GPU.

    The engines' own options for GPUs let NVIDIA's hook run `ldconfig`, which fails on a read-only linker cache.
    """
    if gpu is None:
        return
    devices = find_devices(gpu)
    for device in devices:
        yield from ("--device", f"{device}:{device}:rw")
    if engine == "podman" and os.geteuid() != 0:
        yield from ("--group-add", "keep-groups")
    else:
        for group in find_groups(devices, os.geteuid()):
            yield from ("--group-add", str(group))


def _mount_options(folders: Sequence[str], project: Path, socket_folder: Path) -> Iterator[str]:
    shown = [*((folder, folder) for folder in folders), (str(project), "/project")]
    for source, target in (*shown, (str(socket_folder), "/swarm/socket"), (str(ENTRY), "/swarm/container_init.py")):
        yield from ("--mount", f"type=bind,source={source},target={target},readonly")


def _run(*command: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run one command of the engine. Raises SandboxUnavailable if it does not answer."""
    try:
        return subprocess.run(command, input=given, capture_output=True, timeout=ENGINE_SECONDS, check=False)  # noqa: S603 - ours
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxUnavailable(f"{Path(command[0]).name} does not answer: {error}") from error


def _last_line(answer: "subprocess.CompletedProcess[bytes]") -> str:
    lines = (answer.stderr or answer.stdout).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {answer.returncode}"
