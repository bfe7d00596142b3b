"""The house itself: what each install brings, and what `make` says where it cannot go on."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def closure(name: str, extras: frozenset[str], seen: dict[str, frozenset[str]]) -> set[str]:
    """The distributions that an install of `name` with `extras` brings, as far as they are installed here."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if seen.get(key, frozenset()) >= extras and key in seen:
        return set(seen)
    seen[key] = seen.get(key, frozenset()) | extras
    try:
        declared = requires(name) or []
    except PackageNotFoundError:
        return set(seen)
    for requirement in map(Requirement, declared):
        wanted = extras or {""}
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in wanted):
            closure(requirement.name, frozenset(requirement.extras), seen)
    return set(seen)


def brought_by(extra: str) -> set[str]:
    return closure("research-swarm", frozenset({extra}), {})


def test_a_volunteers_install_brings_no_web_framework() -> None:
    brought = brought_by("worker")
    assert {"torch", "optuna", "httpx"} <= brought
    assert not brought & {"fastapi", "starlette", "uvicorn", "flask", "psycopg"}


def test_the_coordinators_install_brings_no_torch() -> None:
    brought = brought_by("coordinator")
    assert {"fastapi", "sqlalchemy", "alembic", "dulwich"} <= brought
    assert not brought & {"torch", "optuna", "transformers"}


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_names_the_python_that_is_too_old(tmp_path: Path, target: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\ncase $1 in --version) echo Python 3.9.2;; *) exit 1;; esac\n")
    old.chmod(0o755)
    done = subprocess.run(["make", target, f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr and "Python 3.9.2" in done.stderr
    assert "Traceback" not in done.stderr


def test_make_without_a_target_helps() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "check"):
        assert f"make {target}" in done.stdout


def write_python(place: Path, configured: str, prefix: str, version: tuple[int, int]) -> Path:
    """An interpreter that answers questions as this one does, but says that it was configured so."""
    told = f"import sys, sysconfig; sys.base_prefix, sys.version_info = '{prefix}', {version}; "
    told += f"sysconfig.get_config_var = lambda name: '{configured}'"
    place.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{told}$2"\n')
    place.chmod(0o755)
    return place


@pytest.mark.parametrize(
    ("configured", "system", "is_systems"),
    [
        ("--prefix=/built", (3, 11), True),
        ("--prefix=/built", (3, 9), False),
        ("--prefix=/built --enable-optimizations", (3, 13), False),
        ("", (3, 13), False),
    ],
)
def test_make_leaves_a_python_that_was_built_without_optimizations(
    tmp_path: Path, configured: str, system: tuple[int, int], is_systems: bool
) -> None:
    first = write_python(tmp_path / "python3", configured, "/built", (3, 12))
    other = write_python(tmp_path / "system-python3", "", "/usr", system)
    command = [ROOT / ".ci" / "choose-python", first, other]
    chosen = subprocess.run(command, capture_output=True, text=True, check=True)
    assert chosen.stdout == f"{other if is_systems else first}\n"
    assert ("without optimizations" in chosen.stderr) is is_systems


def check_house(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / ".ci" / "house.py", root]
    return subprocess.run(command, capture_output=True, text=True)


def write_house(root: Path, files: dict[str, str]) -> Path:
    """A small repository that keeps all rules, but for these files."""
    pages = {
        "docs/architecture.md": "[`run`](../worker/loop.py)\n", "docs/security.md": "# Security\n",
        "worker/loop.py": "def run(): ...\n" + "#\n" * 24,
    }  # fmt: skip
    for name, text in (pages | files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_house_rules_let_good_code_pass(tmp_path: Path) -> None:
    good = 'class Plan:\n    """So few."""\n\ntry: ...\nexcept ValueError: ...\n' + "#\n" * 24
    patient = (
        "while busy():\n    time.sleep(0.1)\n    httpx.get(url, timeout=60)\nassert one.wait(30) or ready.wait(0.1)\n"
    )
    patient += "with create_server(('', 0)) as one:\n    port = one.getsockname()[1]\n    ask(port)\n"
    files = {"coordinator/db/a.py": good + "session.commit()\n", "tests/a.py": patient}
    done = check_house(write_house(tmp_path, files))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("file", "text", "finding"),
    [
        ("coordinator/a.py", "session.commit()\n", "coordinator/a.py:1 commits"),
        ("shared/a.py", "import os\nos.environ['A']\n", "shared/a.py:2 reads the environment"),
        ("swarm/a.py", "try: ...\nexcept (ValueError, Exception): ...\n", "swarm/a.py:2 catches every exception"),
        ("README.md", "[here](docs/nowhere.md)", "README.md: the link [here] leads to"),
        ("README.md", "[`walk`](worker/loop.py)", "does not define walk"),
        ("shared/a.py", '"""As in worker/loops.py."""\n', "shared/a.py names worker/loops.py"),
        ("tests/a.py", "httpx.get(url)\n", "tests/a.py:1 waits 5 s"),
        ("tests/a.py", "assert process.wait(10) == 0\n", "tests/a.py:1 waits less than 30 s"),
        ("tests/a.py", "run(command, timeout=20)\n", "tests/a.py:1 waits less than 30 s"),
        ("tests/a.py", "start()\ntime.sleep(2)\n", "tests/a.py:2 sleeps"),
        ("tests/a.py", "with create_server(('', 0)) as one:\n    port = one.getsockname()[1]\n", "gives up its port"),
    ],
)
def test_the_house_rules_are_kept(tmp_path: Path, file: str, text: str, finding: str) -> None:
    done = check_house(write_house(tmp_path, {file: text}))
    assert done.returncode == 1 and finding in done.stderr
