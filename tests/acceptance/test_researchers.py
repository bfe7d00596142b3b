"""The walk-through of docs/researchers.md, run as it is written: its shell and its Python, against a real server."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.git import ENVIRONMENT
from tests.support.ports import choose_port
from tests.support.sessions import DATA, replay

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "researchers.md").read_text()
SAID = {
    "swarm-coordinator import-autoresearch": "Created project session: 25 of 25 rows",
    "swarm records": "none yet",
    "swarm projects": "session",
    "swarm experiments": "final_lr_frac",
    "swarm topics": "improved",
    "swarm compare": "±",
    "swarm findings": "matrix_lr",
    "swarm tried": "matrix_lr",
    "swarm show": "verdict",
    "swarm lineage": "seed",
    "swarm diff": "train.py",
    "swarm checkout": "files of",
    "swarm reproduce": "it agrees",
    "swarm export": "session-dump",
    "swarm verify": "Verified",
    "git -C history diff": "train.py",
    "curl -s": "",
}
"""Text that commands with this beginning print."""


def find_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.acceptance
def test_the_walk_through_was_run_as_written(tmp_path: Path) -> None:
    port = str(choose_port())
    replay(tmp_path / "autoresearch", DATA / "session-a.tsv")
    commands = [line.removeprefix("$ ") for block in find_blocks("console") for line in block.splitlines()]
    assert len(commands) > 20
    environment = {
        **os.environ, **ENVIRONMENT,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SWARM_DATABASE_URL": f"sqlite:///{tmp_path}/coordinator.db",
        "SWARM_DATA_DIR": str(tmp_path / "data"),
        "SWARM_CORES": "1",
        "COLUMNS": "80",
        "HOME": str(tmp_path),
    }  # fmt: skip
    (tmp_path / "walk.py").write_text("".join(find_blocks("python")).replace("8000", port))
    wait = "for i in $(seq 600); do curl -sf $SWARM_COORDINATOR_URL/api/v1/versions > answer && break; sleep 0.1; done"
    shown = [part for command in commands for part in (f"echo {mark(command)}", command)]
    at = next(number for number, line in enumerate(shown) if line.startswith("export SWARM_COORDINATOR_URL"))
    script = ["set -e", "trap 'kill %1' EXIT", *shown[: at + 1], wait, *shown[at + 1 :], "python walk.py"]
    with (tmp_path / "output").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-c", "\n".join(script).replace("8000", port)], cwd=tmp_path, env=environment, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(timeout=240)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    output = (tmp_path / "output").read_text()
    assert status == 0, output
    parts = output.split("\n### ")
    for beginning, words in SAID.items():
        said = [part for part in parts if part.startswith(beginning)]
        assert said and any(words in part for part in said), f"{beginning}: {said}"
    assert (tmp_path / "session-dump" / "results.tsv").read_bytes() == (tmp_path / "results.tsv").read_bytes()


def mark(command: str) -> str:
    """A line that begins a command's part of the output."""
    return f"'\n### {command.split(' ' + chr(34))[0].replace(chr(39), '')}'"
