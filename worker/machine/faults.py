"""Reads what a failed program printed: the line that names its error, and what this machine's owner can do about it."""

import re

from shared.faults import find_fault

MAX_LINE = 300  # characters
_OF_THE_DEVICE = re.compile(
    r"cuda( |_| runtime | driver )error|(cublas|cudnn|nccl)_?status|\bsignal (7|11) ", re.IGNORECASE
)
_ERROR = re.compile(r"^(\w+\.)*\w*(Error|Exception|Failed|Interrupt|OutOfResources)(: |$)|^Fatal Python error: ")
_TRACEBACK = "Traceback (most recent call last):"


def find_error_line(log: str) -> str:
    """The line that names the error, of a log whose last lines may be advice, as CUDA's are; empty for an empty log."""
    lines = [line for line in log.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    after = (
        (number for number in range(starts[-1] + 1, len(lines)) if lines[number][:1] not in " \t|") if starts else ()
    )
    named = next(iter(after), None)
    if named is None:
        named = next((number for number in reversed(range(len(lines))) if _ERROR.match(lines[number])), len(lines) - 1)
    found = " ".join(line.strip() for line in lines[named : named + 1]) if lines else ""
    if found.endswith(":") and named + 1 < len(lines):  # as in `BackendCompilerFailed: backend='inductor' raised:`
        found += f" {lines[named + 1].strip()}"
    return found[:MAX_LINE]


def may_be_the_machines(reason: str, log: str) -> bool:
    """Whether a crash may be a machine's fault: by words of a known one, or by any error of a device.

    A GPU that is lost in the middle of a run ends it with words that a wrong kernel gives, too, such as `unspecified
    launch failure`: https://github.com/pytorch/pytorch/issues/74235
    """
    return find_fault(reason, log) is not None or _OF_THE_DEVICE.search(f"{reason}\n{log}") is not None


def explain(reason: str, log: str = "") -> str:
    """The reason, with what to do about it where its words or the log's are those of a known fault."""
    fault = find_fault(reason, log)
    return reason if fault is None else f"{reason.rstrip('.')}. {fault.advice[0].upper()}{fault.advice[1:]}"
