"""Compiles installed packages to bytecode, where an installer left that out, as `uv pip install` does.

Processes in a sandbox cannot write bytecode, so without it each of them would compile torch again: its import takes
more than twice as long, several times in each run.
"""

import compileall
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

IMPORTED = ("torch", "numpy", "sympy", "safetensors")
"""Large packages that the processes of a run import. Torch imports sympy when it makes an optimizer."""


def compile_installed(notify: Callable[[str], None], packages: Sequence[str] = IMPORTED) -> list[str]:
    """Compile those packages that have no bytecode, once; returns their names. Folders that cannot be written stay."""
    missing = {name: folder for name in packages if (folder := find_uncompiled(name)) is not None}
    if missing:
        notify(f"compiling {', '.join(missing)} once, so that runs start sooner")
    for folder in missing.values():
        compileall.compile_dir(folder, quiet=2, workers=os.cpu_count() or 1)
    return list(missing)


def find_uncompiled(package: str) -> Path | None:
    """The package's folder, if it has no bytecode for this interpreter and this user may write there."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None or Path(importlib.util.cache_from_source(spec.origin)).exists():
        return None
    folder = Path(spec.origin).parent
    return folder if os.access(folder, os.W_OK) else None
