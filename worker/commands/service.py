"""`service`: the worker as a systemd user unit, so that it starts with the machine and after a crash."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import platformdirs

from worker.commands.options import WorkerCommandError
from worker.settings import list_variables

UNIT = "swarm-worker.service"
STOP_SECONDS = 1800
"""Seconds that a stop waits for the run under way, which is finished and reported."""

_TEXT = """\
[Unit]
Description=Research swarm worker
StartLimitIntervalSec=0

[Service]
WorkingDirectory=-{folder}
ExecStart={command}
Restart=on-failure
RestartSec=60
RestartPreventExitStatus=2 4
SuccessExitStatus=130
KillMode=mixed
TimeoutStopSec={stop_seconds}
Nice=5

[Install]
WantedBy=default.target
"""


def unit_path() -> Path:
    """The path of the unit's file."""
    return platformdirs.user_config_path() / "systemd" / "user" / UNIT


def describe_unit(flags: Sequence[str], program: Path | None = None) -> str:
    """The unit's file for a worker with these flags, whose relative paths mean what they mean here."""
    program = program or Path(sys.argv[0]).resolve()
    command = " ".join(map(_quote, (str(program), "--plain", *flags)))
    return _TEXT.format(folder=str(Path.cwd()).replace("%", "%%"), command=command, stop_seconds=STOP_SECONDS)


def install(flags: Sequence[str], print_line: Callable[[str], None]) -> None:
    """Write the unit and start it. Raises WorkerCommandError."""
    unseen = list_variables()
    _check_flags(flags, unseen)
    path = unit_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(describe_unit(flags), encoding="utf-8")
    except OSError as error:
        raise WorkerCommandError(f"cannot write {path}: {error.strerror}") from error
    print_line(f"{path} is written")
    if unseen:
        print_line(f"the service does not see {', '.join(unseen)}: write such settings into config.toml")
    for command in (("daemon-reload",), ("enable", "--now", UNIT)):
        _systemctl(*command)
    print_line("It is started. `swarm-worker status` and `journalctl --user -u swarm-worker` show what it does.")
    print_line("To let it run while you are not logged in: loginctl enable-linger")


def _check_flags(flags: Sequence[str], unseen: Sequence[str]) -> None:
    """Raise WorkerCommandError where a worker with these flags, and without the variables `unseen`, could not start."""
    command = [sys.executable, "-P", "-m", "worker.cli", "run", "--show-config", *flags]
    without = [word for name in unseen for word in ("-u", name)]
    done = subprocess.run(["env", *without, *command], capture_output=True, text=True, check=False)  # noqa: S603, S607 - our own command
    if done.returncode:
        raise WorkerCommandError(f"a service could not start: {done.stderr.strip().rpartition(chr(10))[2]}")
    values = dict(line.split()[:2] for line in done.stdout.splitlines())
    for name, remedy in (("coordinator_url", "--coordinator URL"), ("device", "--gpu 0, or --device cpu")):
        if values.get(name, "-") == "-":
            raise WorkerCommandError(f"a service would not know {name!r}: add {remedy}, or write it into config.toml")


def remove(print_line: Callable[[str], None]) -> None:
    """Stop the unit after its run and remove it. Raises WorkerCommandError."""
    path = unit_path()
    if not path.exists():
        raise WorkerCommandError(f"no service is installed: there is no {path}")
    _systemctl("disable", "--now", UNIT)
    path.unlink()
    _systemctl("daemon-reload")
    print_line(f"{path} is removed")


def _systemctl(*arguments: str) -> None:
    command = ("systemctl", "--user", *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    except FileNotFoundError as error:
        raise WorkerCommandError("there is no systemd here: start the worker by other means, as by cron") from error
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise WorkerCommandError(f"`{shlex.join(command)}` failed: {reason or f'exit status {done.returncode}'}")


def _quote(word: str) -> str:
    """A word of a unit's command line, in which systemd replaces nothing."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return word if re.fullmatch(r"[\w./:=@,+%$-]+", word) else f'"{word}"'
