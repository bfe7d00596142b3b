"""The README's first page, lived from the built wheel in an empty folder: no checkout is in reach."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.seeds import read_seed
from tests.support.coordinator_process import wait_for_port
from tests.support.ports import choose_port
from tests.support.tiny_project import pack_text, serve_text, write_codec_seed, write_tiny_seed

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 240


def read_commands(page: str) -> list[str]:
    """The commands on a page, in their order."""
    blocks = re.findall(r"(?ms)^```\n(.*?)^```", page)
    return [line for block in blocks for line in block.splitlines() if re.match(r"swarm|pip ", line)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment of its own: the wheel, and links to the dependencies of this one."""
    folder = tmp_path_factory.mktemp("installed")
    here, site = (Path(sysconfig.get_path("purelib", vars=base)) for base in ({}, {"base": str(folder / "venv")}))
    check = {"check": True, "capture_output": True}
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, **check)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], **check)
    site.rmdir()
    if subprocess.run(["cp", "-al", here, site], capture_output=True).returncode != 0:  # another file system
        subprocess.run(["cp", "-a", here, site], **check)
    for path in [*site.glob("research_swarm-*"), *site.glob("*research_swarm*.pth")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", folder / "venv" / "bin" / "python", "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--no-index", "--no-compile", wheel], **check)
    return folder / "venv" / "bin"


@pytest.fixture
def environment(installed: Path, tmp_path: Path) -> dict[str, str]:
    """As of somebody who has just logged in: a home, the installed programs, and a free port."""
    port = str(choose_port())
    kept = {name: os.environ[name] for name in ("LANG", "SWARM_TEST_CONTAINER") if name in os.environ}
    return kept | {
        "PATH": f"{installed}:/usr/bin:/bin", "HOME": str(tmp_path / "home"), "NO_COLOR": "1", "COLUMNS": "80",
        "SWARM_PORT": port, "SWARM_COORDINATOR_URL": f"http://127.0.0.1:{port}",
    }  # fmt: skip


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """An empty folder to stand in."""
    (tmp_path / "home").mkdir()
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def run(command: str, environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        shlex.split(command), env=environment, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout


def test_every_seed_of_the_package_becomes_the_project_that_it_becomes_from_a_checkout(
    installed: Path, environment: dict[str, str], empty: Path
) -> None:
    seeds = next(installed.parent.glob("lib/*/site-packages/seed"))
    for name in ("codec", "gpt", "gpt-cpu"):
        assert read_seed(seeds / name) == read_seed(ROOT / "seed" / name)
    assert "Created project gpt-cpu" in run("swarm-coordinator create-project gpt-cpu", environment, empty)


@pytest.fixture
def small_seeds(installed: Path, tmp_path: Path) -> Iterator[None]:
    """The installed seeds, with a small text and little to do."""
    seeds = next(installed.parent.glob("lib/*/site-packages/seed"))
    (tmp_path / "web").mkdir()
    shutil.copytree(seeds, tmp_path / "whole")
    with serve_text(tmp_path / "web") as address:
        shutil.rmtree(seeds)
        shutil.copytree(write_tiny_seed(tmp_path / "gpt", address, pack_text()), seeds / "gpt-cpu")
        shutil.copytree(tmp_path / "gpt" / "harness", seeds / "harness")
        write_codec_seed(seeds / "codec", address, pack_text())
        yield
    shutil.rmtree(seeds)
    shutil.copytree(tmp_path / "whole", seeds)


@pytest.mark.usefixtures("small_seeds")
def test_the_first_page(environment: dict[str, str], empty: Path, tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text()
    commands = read_commands(page[: page.index("## Where to go on")])
    assert commands[:2] == ['pip install "research-swarm[coordinator,worker]"', "swarm demo"]
    demo = run(f"{commands[1]} --experiments 1 --port 0", environment, empty)
    assert "val_bpb" in demo and "±" in demo
    assert [path.name for path in empty.iterdir()] == [".swarm"]

    url = environment["SWARM_COORDINATOR_URL"]
    create, serve, *rest = (command.replace("http://127.0.0.1:8000", url) for command in commands[2:])
    assert "project codec at" in run(create, environment, empty)
    with (
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen(shlex.split(serve), env=environment, cwd=empty, stdout=log, stderr=log) as process,
    ):
        try:
            wait_for_port(lambda: process.poll() is None, tmp_path / "log")
            *_, table = [run(command, environment, empty) for command in rest]
        finally:
            process.terminate()
    assert "seed" in table, table
