"""Benchmarks' tables: as Markdown, with when, how and on what they were measured."""

import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(headings), " | ".join("---" for _ in headings), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def append_table(file: Path, module: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Add a table to a Markdown file, below the date, the command and the machine."""
    command = shlex.join(["python", "-m", module, *sys.argv[1:]])
    with file.open("a") as output:
        output.write(f"\n{datetime.now(UTC):%Y-%m-%d}, `{command}`, {describe_machine()}:\n\n")
        output.write(format_table(headings, rows) + "\n")


def describe_machine() -> str:
    """Cores and CPU as the kernel names it, and how busy it was."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    load, *_ = os.getloadavg()
    return f"{len(models)} cores, {models[0] if models else 'unknown CPU'}, load average {load:.1f} at the end"
