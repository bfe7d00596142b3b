"""Sandboxes: the only door through which the worker starts processes that run a project's code."""

from worker.sandbox.base import Gpu, Limits, Outcome, Sandbox, SandboxedProcess, SandboxRequest, SandboxUnavailable
from worker.sandbox.choose import SandboxName, choose_sandbox

__all__ = [
    "Gpu",
    "Limits",
    "Outcome",
    "Sandbox",
    "SandboxName",
    "SandboxRequest",
    "SandboxUnavailable",
    "SandboxedProcess",
    "choose_sandbox",
]
