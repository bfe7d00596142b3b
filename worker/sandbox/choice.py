"""Which sandbox a worker uses. There is no silent fall-back: `auto` means bubblewrap or a refusal."""

from typing import Literal

from worker.sandbox.base import Sandbox
from worker.sandbox.bubblewrap import BubblewrapSandbox
from worker.sandbox.unconfined import UnconfinedSandbox

SandboxName = Literal["auto", "bubblewrap", "unconfined"]


def choose_sandbox(name: SandboxName) -> Sandbox:
    """The sandbox of that name, probed by running the interpreter inside it.

    Raises SandboxUnavailable, with one clear line, if it does not work here.
    """
    return UnconfinedSandbox() if name == "unconfined" else BubblewrapSandbox()
