"""Images, Compose, units and workflows are what their own tools accept. No engine runs here, so nothing is built."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
PROGRAMS = Path(sys.executable).parent
LARGEST_EXPOSURE = 25
"""Of `systemd-analyze security`, in tenths: below 2.0 it says OK, and an unprotected service has 9.6."""


def check(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_images(tmp_path: Path) -> None:
    check(PROGRAMS / "hadolint", *sorted(DOCKER.glob("*.Dockerfile")))
    for image in DOCKER.glob("*.Dockerfile"):
        text = image.read_text()
        assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE) and "HEALTHCHECK" in text
        assert re.search(r"^ARG PYTHON=python:\d+\.\d+\.\d+-slim-\w+$", text, re.MULTILINE), "the base is pinned"
    bad = tmp_path / "bad.Dockerfile"
    bad.write_text("FROM python\nRUN cd /tmp && sudo apt-get install gcc\n")
    with pytest.raises(AssertionError, match="DL3006"):
        check(PROGRAMS / "hadolint", bad)


def test_compose_file(tmp_path: Path) -> None:
    schema = (PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec")
    file = DOCKER / "compose.yaml"
    check(*schema, file)
    services = yaml.safe_load(file.read_text())["services"]
    assert {"database", "coordinator-1", "coordinator-2", "proxy", "backup", "worker"} == services.keys()
    asked = set(re.findall(r"\$\{(\w+)", file.read_text()))
    assert asked == set(re.findall(r"^(\w+)=", (DOCKER / "compose.env.example").read_text(), re.MULTILINE))
    bad = tmp_path / "compose.yaml"
    bad.write_text(file.read_text().replace("read_only: true", "readonly: true"))
    with pytest.raises(AssertionError, match="readonly"):
        check(*schema, bad)


def check_units(folder: Path, names: Sequence[str]) -> None:
    said = check("systemd-analyze", "verify", *(folder / name for name in names))
    assert not said, said


def test_units(tmp_path: Path) -> None:
    names = sorted(unit.name for unit in (DOCKER / "systemd").iterdir())
    check_units(DOCKER / "systemd", names)
    services = [DOCKER / "systemd" / name for name in names if name.endswith(".service")]
    assert len(services) == 2
    for service in services:
        exposure = f"--threshold={LARGEST_EXPOSURE}"
        check("systemd-analyze", "security", "--offline=yes", exposure, "--no-pager", service)
    for name in names:
        text = (DOCKER / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("ProtectSystem=strict", "ProtectSystem=mostly"))
    with pytest.raises(AssertionError, match="protect system"):
        check_units(tmp_path, names)


def test_fleets(tmp_path: Path) -> None:
    """`make test-fleets` starts workers by those that can run here."""
    manifest = DOCKER / "fleets/kubernetes.yaml"
    check(PROGRAMS / "kubernetes-validate", "--strict", manifest)
    check("bash", "-n", DOCKER / "fleets/slurm.sbatch")
    bad = tmp_path / "kubernetes.yaml"
    bad.write_text(manifest.read_text().replace("hostUsers: false", "hostUsers: maybe"))
    with pytest.raises(AssertionError, match="hostUsers"):
        check(PROGRAMS / "kubernetes-validate", "--strict", bad)


def test_workflows() -> None:
    files = sorted((ROOT / ".github/workflows").glob("*.yml"))
    check(PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    images = release["jobs"]["images"]["strategy"]["matrix"]["image"]
    assert sorted(images) == sorted(path.name.partition(".")[0] for path in DOCKER.glob("*.Dockerfile"))
