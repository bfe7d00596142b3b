"""Which sandbox a worker uses. There is no silent fall-back: `auto` means a sandbox that works, or a refusal."""

from typing import Literal

from worker.sandbox.base import Gpu, Sandbox, SandboxUnavailable
from worker.sandbox.bubblewrap import BubblewrapSandbox
from worker.sandbox.container import ContainerSandbox
from worker.sandbox.unconfined import UnconfinedSandbox

SandboxName = Literal["auto", "bubblewrap", "container", "unconfined"]


def choose_sandbox(name: SandboxName, gpu: Gpu | None = None) -> Sandbox:
    """The sandbox of that name, tried by running the interpreter inside it; `auto`: bubblewrap, else a container.

    Raises SandboxUnavailable, with one clear line, if it does not work here.
    """
    if name == "unconfined":
        return UnconfinedSandbox(gpu)
    if name == "container":
        return ContainerSandbox(gpu)
    try:
        return BubblewrapSandbox(gpu)
    except SandboxUnavailable as error:
        if name == "bubblewrap":
            raise
        return _contain_instead(gpu, error)


def _contain_instead(gpu: Gpu | None, because: SandboxUnavailable) -> Sandbox:
    try:
        return ContainerSandbox(gpu)
    except SandboxUnavailable as error:
        raise SandboxUnavailable(f"{because}; nor does a container: {error}") from error
