"""Sandboxes: the worker starts processes that run a project's code here and nowhere else."""

from worker.sandbox.base import (
    Gpu,
    ProcessLimits,
    ProcessOutcome,
    Sandbox,
    SandboxedProcess,
    SandboxRequest,
    SandboxUnavailable,
)
from worker.sandbox.choose import SandboxName, choose_sandbox

__all__ = [
    "Gpu",
    "ProcessLimits",
    "ProcessOutcome",
    "Sandbox",
    "SandboxName",
    "SandboxRequest",
    "SandboxUnavailable",
    "SandboxedProcess",
    "choose_sandbox",
]
