"""`swarm-worker`: the volunteer's command. Commands import what they need, so that `--help` is quick."""

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from worker.authoring.cli import app as authoring
from worker.commands.cli import app as commands

_EXAMPLES = """
Examples:

\b
  swarm-worker --gpu 0                  the first GPU, until Ctrl-C
  swarm-worker --gpu all --schedule 22:00-07:00   every GPU, at night
  swarm-worker --device cpu --cores 2   two CPU cores
  swarm-worker --gpu 0 --once           one job; exit status 75: there is none
  swarm-worker --gpu 0 --agent openai --model NAME \\
               --base-url http://127.0.0.1:8080/v1   with a language model
  swarm-worker --gpu 1 --token-file ~/.swarm-token \\
               --coordinator https://swarm.example.org

The first Ctrl-C (or SIGTERM) lets the run finish and reports it; the second stops at once and gives the job back.
A result that cannot be delivered waits on disk and is sent later.
"""

_SETTINGS = """
Settings come from flags, then the environment (SWARM_COORDINATOR_URL, SWARM_TOKEN_FILE or SWARM_TOKEN, SWARM_NAME,
SWARM_DEVICE, SWARM_CORES, SWARM_SCHEDULE, SWARM_WHEN_IDLE, SWARM_NICE, SWARM_SANDBOX, SWARM_AGENT, SWARM_DATA_DIR,
SWARM_PROJECT, SWARM_MODEL, SWARM_BASE_URL,
SWARM_API_KEY_FILE or SWARM_API_KEY or OPENAI_API_KEY, SWARM_TOKENS_PER_DAY), then config.toml in the platform's
configuration folder (~/.config/research-swarm on Linux). Token and key are never flags: other users of this machine
could read them.

Exit status: 0 done, 1 error, 2 usage, 4 the token was not accepted, 75 nothing to do (--once), 130 stopped at once.
"""


class _RunByDefault(TyperGroup):
    """`swarm-worker --gpu 0` means `swarm-worker run --gpu 0`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        own = ("--help", "--version")
        if not args or (args[0] not in self.commands and args[0] not in own):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Give this machine's GPU to a research swarm: claim a job, try an idea, measure it, report it, repeat.\n\n"
    "Without a command it runs; `swarm-worker run --help` lists the options.\n" + _EXAMPLES,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"swarm-worker {importlib.metadata.version('research-swarm')}")
        raise typer.Exit


@app.callback()
def _worker(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before a command."""


@app.command(epilog=_SETTINGS, help="Claim a job, run it, report it, and repeat.\n" + _EXAMPLES)
def run(
    gpu: Annotated[
        str | None, typer.Option(metavar="N|N,M|all", help="The GPU to use, as nvidia-smi numbers it, or several.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, or cuda:N (the same as --gpu N).")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Most CPU cores to use.  [default: all]")] = None,
    coordinator: Annotated[str | None, typer.Option(metavar="URL", help="The swarm's coordinator.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file that holds this worker's token.")] = None,
    project: Annotated[str | None, typer.Option(help="Take jobs of this project only.")] = None,
    branch: Annotated[str | None, typer.Option(help="Work on this research direction of the project.")] = None,
    name: Annotated[
        str | None, typer.Option(help="This machine's name in the swarm.  [default: its host name]")
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(
            metavar="search|openai|command|scripted", help="The agent that proposes experiments.  [default: search]"
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model of --agent openai.")] = None,
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="The model's chat-completions endpoint.")] = None,
    agent_command: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="The coding tool of --agent command: 'tool -p {prompt_file}'.")
    ] = None,
    agent_path: Annotated[
        list[str] | None, typer.Option(metavar="PATH[:rw]", help="A path that the tool may read. Repeatable.")
    ] = None,
    script: Annotated[
        Path | None, typer.Option(help="The script that --agent scripted replays (TOML or JSON).")
    ] = None,
    sandbox: Annotated[
        str | None,
        typer.Option(metavar="auto|bubblewrap|container|unconfined", help="unconfined means no protection."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for data, repositories and the outbox.")] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="HOURS", help="Hours to work: '22:00-07:00', 'mon-fri 19:00-8:00, sat-sun'.")
    ] = None,
    when_idle: Annotated[bool, typer.Option("--when-idle", help="Pause while other programs use the GPU.")] = False,
    nice: Annotated[int | None, typer.Option(min=0, max=19, help="Lower the CPU priority.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Run one job, if there is one, and end.")] = False,
    max_jobs: Annotated[int | None, typer.Option(min=1, help="End after this many reported jobs.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="One line per event, as off a terminal.")] = False,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print every setting and its source, and end.")
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours; NO_COLOR does the same.")] = False,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    if gpu is not None and device not in (None, f"cuda:{gpu}"):
        raise typer.BadParameter("give either --gpu or --device", param_hint="--gpu")
    if gpu is not None and not re.fullmatch(r"all|\d{1,3}(,\d{1,3})*", gpu):
        raise typer.BadParameter("give a number, several (0,1), or all", param_hint="--gpu")
    flags = {
        "device": device if gpu is None else f"cuda:{gpu}",
        "cores": cores,
        "coordinator_url": coordinator,
        "token_file": token_file,
        "project": project,
        "branch": branch,
        "name": name,
        "agent": agent or ("scripted" if script else "command" if agent_command else None),
        "agent_command": agent_command,
        "agent_paths": agent_path or None,
        "model": model,
        "base_url": base_url,
        "sandbox": sandbox,
        "data_dir": data_dir,
        "schedule": schedule,
        "when_idle": when_idle or None,
        "nice": nice,
    }
    if show_config:
        sys.exit(_show_settings(flags))
    typer.echo(_starting_line(plain or not sys.stderr.isatty()), err=True)
    with _packages_are_installed():
        from worker.settings import RunOptions
        from worker.start import start

    options = RunOptions(script=script, once=once, max_jobs=max_jobs, plain=plain, no_color=no_color, parent=parent)
    sys.exit(start(flags, options, _complain))


@app.command("sandbox")
def show_sandbox(
    sandbox: Annotated[
        str | None, typer.Option(metavar="auto|bubblewrap|container|unconfined", help="The one to try.")
    ] = None,
) -> None:
    """Try the sandbox that a run would use and print its name; exit status 1 if it does not work."""
    with _packages_are_installed():
        from worker.sandbox import SandboxUnavailable, choose_sandbox
        from worker.settings import SettingsError, load_settings

    try:
        typer.echo(choose_sandbox(load_settings({"sandbox": sandbox}).sandbox).name)
    except (SettingsError, SandboxUnavailable) as error:
        _complain(str(error))
        raise typer.Exit(1) from error


app.add_typer(authoring)
app.add_typer(commands)


def _show_settings(flags: dict[str, Any]) -> int:
    """Print the settings, secrets masked, and the source of each; return the exit status."""
    with _packages_are_installed():
        from worker.settings import SettingsError, explain_settings

    try:
        for origin in explain_settings(flags):
            typer.echo(f"{origin.name:22} {origin.value or '-':44} {origin.source}")
    except SettingsError as error:
        _complain(str(error))
        return 2
    return 0


@contextmanager
def _packages_are_installed() -> Iterator[None]:
    """Explain a missing package in one line: a researcher's install lacks the worker's packages."""
    try:
        yield
    except ModuleNotFoundError as error:
        _complain(f"{error.name} is not installed: pip install 'research-swarm[worker]'")
        raise typer.Exit(1) from error


def _starting_line(structured: bool) -> str:
    """The line before the imports, which take a second or two; in the format of worker/ui/plain.py if structured."""
    if not structured:
        return "swarm-worker is starting …"
    return f"timestamp={datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} level=info event=starting"


def _complain(line: str) -> None:
    typer.echo(f"swarm-worker: {line}", err=True)


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
