"""Writes a new project: a commented contract, and a small harness that already runs."""

import re
import shutil
from pathlib import Path

from shared.contract import CONTRACT_FILE
from shared.seeds import CHANNEL_FILE
from worker.commands.options import ExitStatus, WorkerCommandError

TEMPLATE = Path(__file__).with_name("template")
TEMPLATE_NAME = 'name = "my-goal"'


def write_project(folder: Path) -> list[Path]:
    """Write a project named after `folder`, which must be new or empty; return its files. Raises WorkerCommandError."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:63]
    if not name:
        raise WorkerCommandError(f"a project cannot be named after {folder}: use letters or digits", ExitStatus.USAGE)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise WorkerCommandError(f"{folder} is not empty: choose a new folder", ExitStatus.USAGE)
        shutil.copytree(TEMPLATE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(CHANNEL_FILE, folder / "harness")
        contract = folder / CONTRACT_FILE
        contract.write_text(contract.read_text().replace(TEMPLATE_NAME, f'name = "{name}"'))
    except OSError as error:
        raise WorkerCommandError(f"cannot write to {folder}: {error.strerror}") from error
    return sorted(path for path in folder.rglob("*") if path.is_file())
