"""The environment of a sandboxed process: an allow-list, so that a volunteer's keys never reach strangers' code."""

from worker.sandbox.base import Gpu, SandboxRequest, SandboxUnavailable
from worker.sandbox.gpu import gpu_environment


def sandbox_environment(request: SandboxRequest, folder: str, scratch: str, gpu: Gpu | None) -> dict[str, str]:
    """All variables the process gets. `folder` and `scratch` are paths as the process sees them.

    Raises SandboxUnavailable if it is to use a GPU and the sandbox has none.
    """
    if request.device != "cpu" and gpu is None:
        raise SandboxUnavailable(f"a process was to use {request.device}, and its sandbox was given no GPU")
    environment = {
        "HOME": scratch,
        "LANG": "C.UTF-8",
        "LOGNAME": "sandbox",  # asked by getpass.getuser, which else wants /etc/passwd
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": folder,
        "PYTHONUNBUFFERED": "1",  # the last lines before a crash are the ones that matter
        "TMPDIR": scratch,
    }
    if request.cores:
        environment["OMP_NUM_THREADS"] = str(len(request.cores))
    if request.device == "cpu":
        # Waiting threads sleep. Those that spin, as they do by default, make a step take seconds instead of tenths
        # of one as soon as anything else runs on the same cores.
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    environment |= gpu_environment(gpu if request.device != "cpu" else None)
    return environment | dict(request.environment)
