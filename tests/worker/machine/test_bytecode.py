"""Packages that an installer left without bytecode are compiled once, where that is possible."""

import subprocess
import sys
from pathlib import Path

import pytest

from worker.machine.bytecode import compile_installed


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a subpackage, as `uv pip install` leaves it."""
    folder = tmp_path / "left_plain"
    (folder / "inner").mkdir(parents=True)
    for path in (folder / "__init__.py", folder / "inner" / "__init__.py", folder / "inner" / "part.py"):
        path.write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def count_compiled(folder: Path) -> int:
    return len(list(folder.rglob("*.pyc")))


def test_compiles_what_has_no_bytecode_once(package: Path) -> None:
    told: list[str] = []
    assert compile_installed(told.append, ["left_plain", "not_installed_at_all"]) == ["left_plain"]
    assert count_compiled(package) == 3
    assert told == ["compiling left_plain once, so that runs start sooner"]
    assert compile_installed(told.append, ["left_plain"]) == [] and len(told) == 1
    code = "import left_plain.inner.part as part; print(part.__cached__)"
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=package.parent, capture_output=True, text=True)
    assert Path(done.stdout.strip()).exists(), "and the interpreter finds it"


def test_leaves_what_it_may_not_write(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert compile_installed(pytest.fail, ["left_plain"]) == []
    assert count_compiled(package) == 0
