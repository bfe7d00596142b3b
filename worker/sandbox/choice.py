"""Which sandbox a worker uses. There is no silent fall-back: `auto` means bubblewrap or a refusal."""

from typing import Literal

from worker.sandbox.base import Sandbox, SandboxUnavailable

SandboxName = Literal["auto", "bubblewrap", "unconfined"]


def choose_sandbox(name: SandboxName) -> Sandbox:
    """The sandbox of that name, probed by running the interpreter inside it.

    Raises SandboxUnavailable, with one clear line, if it does not work here.
    """
    raise SandboxUnavailable(f"the sandbox {name!r} is not written yet")
