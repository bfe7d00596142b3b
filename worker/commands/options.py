"""Options, exit statuses and the error that all commands share. Imports little, so that `--help` is quick."""

import re
import sys
from collections.abc import Callable
from enum import IntEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.command_options import Command, with_options

Coordinator = Annotated[str | None, typer.Option("--coordinator", metavar="URL", help="The swarm's coordinator.")]
Sandbox = Annotated[
    str | None,
    typer.Option(
        metavar="auto|bubblewrap|container|landlock|unconfined",
        help="Where strangers' code runs. auto: the best that works here; unconfined: without protection.",
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder for data, repositories, logs and the outbox.  [default: as in the settings]")
]
Worker = Annotated[str | None, typer.Option(metavar="NAME", help="One worker, such as box-gpu0.  [default: all]")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")]

SETTINGS: dict[str, Any] = {
    "gpu": Annotated[
        str | None, typer.Option(metavar="N|N,M|all", help="The GPU, as nvidia-smi numbers it, or several.")
    ],
    "device": Annotated[str | None, typer.Option(help="cpu, or cuda:N for the GPU N.  [default: as in the settings]")],
    "cores": Annotated[int | None, typer.Option(help="Most CPU cores to use.  [default: all]")],
    "coordinator_url": Coordinator,
    "token_file": Annotated[Path | None, typer.Option(help="A file that holds this worker's token.")],
    "project": Annotated[str | None, typer.Option(help="Take jobs of this project only.")],
    "branch": Annotated[str | None, typer.Option(help="Work on this research direction of the project.")],
    "name": Annotated[str | None, typer.Option(help="This machine's name.  [default: its host name]")],
    "agent": Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The agent that proposes experiments: search, openai, claude, codex, gemini, opencode, aider, command "
            "or scripted.  [default: search]",
        ),
    ],
    "model": Annotated[
        str | None, typer.Option(metavar="NAME", help="The model of --agent openai, or of a coding tool.")
    ],
    "base_url": Annotated[str | None, typer.Option(metavar="URL", help="The model's chat-completions endpoint.")],
    "notes": Annotated[Path | None, typer.Option(help="A file of your own, such as a program.md, for each prompt.")],
    "agent_command": Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND", help="A coding tool's command: 'tool -p {prompt}', or without {prompt} by stdin."
        ),
    ],
    "agent_paths": Annotated[
        list[str] | None,
        typer.Option("--agent-path", metavar="PATH[:rw]", help="A path that the tool may read. Repeatable."),
    ],
    "sandbox": Sandbox,
    "data_dir": DataDir,
    "schedule": Annotated[
        str | None, typer.Option(metavar="HOURS", help="Hours to work: '22:00-07:00', 'mon-fri 19:00-8:00, sat-sun'.")
    ],
    "when_idle": Annotated[bool | None, typer.Option("--when-idle", help="Pause while other programs use the GPU.")],
    "nice": Annotated[int | None, typer.Option(help="Lower the CPU priority by 1 to 19, as `nice` does.")],
}
"""The settings that options can give, by their names in worker/settings.py; `gpu` is another way to say `device`."""


def with_settings(*names: str) -> Callable[[Command], Command]:
    """Gives a command an option for each of these settings; it gets them as `flags`, None where not given."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(*, flags: dict[str, Any], **own: Any) -> None:
            if "gpu" in flags:
                flags["device"] = choose_device(flags.pop("gpu"), flags["device"])
            if flags.get("agent_command") and not flags["agent"]:
                flags["agent"] = "command"
            command(flags={name: None if value == [] else value for name, value in flags.items()}, **own)

        return with_options("flags", {name: SETTINGS[name] for name in names})(run)

    return decorate


class ExitStatus(IntEnum):
    """Exit statuses of all commands."""

    OK = 0
    ERROR = 1
    USAGE = 2
    AUTHENTICATION = 4
    NOTHING_TO_DO = 75
    INTERRUPTED = 130


class WorkerCommandError(Exception):
    """A command failed; the message is one line with reason and remedy. `status` is the exit status."""

    def __init__(self, message: str, status: int = ExitStatus.ERROR) -> None:
        super().__init__(message)
        self.status = status


def explain_platform(platform: str) -> str:
    """Why the worker cannot run on a platform (`sys.platform`), and what to do; empty for Linux."""
    if platform == "linux":
        return ""
    if platform == "win32":
        return "swarm-worker needs Linux: on Windows, install it in WSL 2, which shows it NVIDIA's GPUs"
    if platform == "darwin":
        return (
            "swarm-worker needs Linux: on a Mac, use a virtual machine and `--device cpu`; Apple's GPUs cannot be used"
        )
    return f"swarm-worker needs Linux, and this is {platform}"


MOST_OPEN_FILES = 65_536


def allow_more_open_files() -> None:
    """Raise this process's limit of open descriptors.

    The kernel lets nobody pass a descriptor while more than that many of the user's are under way, and those of a
    sandbox, which a plain user starts, are the user's too: up to 1,024 and what several threads send at once.
    """
    import resource  # noqa: PLC0415 - Windows lacks it

    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MOST_OPEN_FILES, hard)
    if most < raised:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))


def ask_for_coordinator(flags: dict[str, Any]) -> None:
    """Let a person at a terminal name the coordinator, if no flag, variable or file does."""
    from worker.settings import load_settings  # noqa: PLC0415 - so that `--help` is quick

    if sys.stdin.isatty() and sys.stderr.isatty() and not load_settings(flags).coordinator_url:
        flags["coordinator_url"] = str(typer.prompt("The coordinator's address", err=True))


def choose_device(gpu: str | None, device: str | None) -> str | None:
    """The setting `device` for the options --gpu and --device. Raises BadParameter."""
    if gpu is None:
        return device
    if device not in (None, f"cuda:{gpu}"):
        raise typer.BadParameter("give either --gpu or --device", param_hint="--gpu")
    if not re.fullmatch(r"all|\d{1,3}(,\d{1,3})*", gpu):
        raise typer.BadParameter("give a number, several (0,1), or all", param_hint="--gpu")
    return f"cuda:{gpu}"
