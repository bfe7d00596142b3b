"""worker/commands/service.py: the unit as systemd reads it, and what is said where there is none."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.test_cli import Done
from worker.commands.service import describe_unit, unit_path


def test_systemd_accepts_the_unit_and_changes_no_word_of_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--gpu", "all", "--schedule", "mon-fri 19:00-08:00, sat-sun", "--name", 'a "box" at 100 % of $HOME']
    unit = tmp_path / "swarm-worker.service"
    program = Path("/bin/echo")
    (folder := tmp_path / "100 % mine").mkdir()
    monkeypatch.chdir(folder)
    unit.write_text(describe_unit(flags, program))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", unit], capture_output=True, text=True, check=False,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert r'"a \"box\" at 100 %% of $$HOME"' in unit.read_text()
    assert f"WorkingDirectory=-{tmp_path}/100 %% mine\n" in unit.read_text()  # so that `--token-file token` is found


def test_installing_writes_starts_and_removing_undoes_both(tell: Callable[..., Done], tmp_path: Path) -> None:
    tools, called = tmp_path / "bin", tmp_path / "called"
    tools.mkdir()
    (tools / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {called}\n')
    (tools / "systemctl").chmod(0o755)
    config = tmp_path / "config"
    (config / "research-swarm").mkdir(parents=True)
    (config / "research-swarm" / "config.toml").write_text('agent_command = """\ntool\n-p {prompt}\n"""\n')
    given = {"PATH": f"{tools}:/usr/bin:/bin", "XDG_CONFIG_HOME": str(config)}
    flags = ("--device", "cpu", "--cores", "1", "--coordinator", "swarm.test")
    for wrong, words in (
        (flags[:4], "would not know 'coordinator_url'"),  # the variable is not a service's
        ((*flags, "--cores", "many"), "'many' must be a whole number"),
    ):
        refused = tell("service", "install", *wrong, **given)
        assert refused.returncode == 1 and words in refused.stderr, refused.stderr
    done = tell("service", "install", *flags, **given)
    assert done.returncode == 0, done.stderr
    unit = config / "systemd" / "user" / unit_path().name
    assert "swarm-worker --plain --device cpu --cores 1 --coordinator swarm.test\n" in unit.read_text()
    assert "the service does not see SWARM_" in done.stdout
    assert tell("service", "remove", **given).returncode == 0
    assert not unit.exists()
    assert called.read_text().split("\n")[:-1] == [
        "--user daemon-reload", "--user enable --now swarm-worker.service",
        "--user disable --now swarm-worker.service", "--user daemon-reload",
    ]  # fmt: skip
    again = tell("service", "remove", **given)
    assert again.returncode == 1 and "there is no" in again.stderr


def test_where_systemd_is_not_the_error_says_so(tell: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "env").symlink_to("/usr/bin/env")
    flags = ("--device", "cpu", "--coordinator", "swarm.test")
    done = tell("service", "install", *flags, PATH=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path / "config"))
    assert done.returncode == 1 and "there is no systemd here" in done.stderr
