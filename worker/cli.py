"""`swarm-worker`: the volunteer's command. Commands import what they need, so that `--help` is quick."""

import importlib.metadata
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.command_options import CommandGroup
from shared.formatting import clean_lines
from shared.mistakes import suggest
from worker.authoring.cli import app as authoring
from worker.commands import options
from worker.commands.cli import app as commands
from worker.commands.tokens import app as tokens

_EXAMPLES = """
Examples:

\b
  swarm-worker --gpu 0                  the first GPU, until Ctrl-C
  swarm-worker --gpu all --schedule 22:00-07:00   every GPU, at night
  swarm-worker --device cpu --cores 2   two CPU cores
  swarm-worker --gpu 0 --once           one job; exit status 75: there is none
  swarm-worker --gpu 0 --agent openai --model NAME \\
               --base-url http://127.0.0.1:8080/v1   with a language model
  swarm-worker --gpu 0 --agent claude   with a coding tool, in a sandbox
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


class _RunByDefault(CommandGroup):
    """`swarm-worker --gpu 0` means `swarm-worker run --gpu 0`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        names_command = args and args[0] in (*self.commands, "--help", "--version")
        if args and not names_command and not args[0].startswith("-"):
            problem = f"there is no command {args[0]!r}{suggest(args[0], self.commands)}"
            raise options.WorkerCommandError(problem, options.ExitStatus.USAGE)
        return super().parse_args(ctx, args if names_command else ["run", *args])


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
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before a command. Raises WorkerCommandError where no command can do anything."""
    if problem := options.explain_platform(sys.platform):
        raise options.WorkerCommandError(problem)
    options.allow_more_open_files()


@app.command(epilog=_SETTINGS, help="Claim a job, run it, report it, and repeat.\n" + _EXAMPLES)
@options.with_settings("gpu", "device", "cores", "coordinator_url", "token_file", "project", "branch", "name", "agent",
                       "model", "base_url", "notes", "agent_command", "agent_paths", "sandbox", "data_dir", "schedule",
                       "when_idle", "nice")  # fmt: skip
def run(
    flags: dict[str, Any],
    script: Annotated[Path | None, typer.Option(help="The script of --agent scripted (TOML or JSON).")] = None,
    once: Annotated[bool, typer.Option("--once", help="Run one job, if there is one, and end.")] = False,
    max_jobs: Annotated[int | None, typer.Option(min=1, help="End after this many reported jobs.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="One line per event, as off a terminal.")] = False,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print every setting and its source, and end.")
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours; NO_COLOR does the same.")] = False,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    flags["agent"] = flags["agent"] or ("scripted" if script else None)
    if show_config:
        from worker.settings import explain_settings

        for setting, value, source in explain_settings(flags):
            typer.echo(f"{setting:22} {' '.join(value.split()) or '-':44} {source}")
        return
    options.ask_for_coordinator(flags)
    if plain or not sys.stderr.isatty():  # the imports take a second or two; the format is that of worker/ui/plain.py
        typer.echo(f"timestamp={datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} level=info event=starting", err=True)
    else:
        typer.echo("swarm-worker is starting …", err=True)
    from worker.settings import RunOptions
    from worker.start import start

    sys.exit(start(flags, RunOptions(script, once, max_jobs, plain, no_color, parent)))


@app.command("sandbox")
def show_sandbox(sandbox: options.Sandbox = None) -> None:
    """Try the sandbox that a run would use and print its name.

    Exit status 1 if it does not work, 2 for a wrong setting.
    """
    from worker.sandbox.base import SandboxUnavailable
    from worker.sandbox.choose import choose_sandbox
    from worker.settings import load_settings

    try:
        typer.echo(choose_sandbox(load_settings({"sandbox": sandbox}).sandbox).name)
    except SandboxUnavailable as error:
        raise options.WorkerCommandError(str(error)) from error


app.add_typer(authoring)
app.add_typer(commands)
app.add_typer(tokens, name="tokens")


def main() -> None:
    """The entry point. An error that a person can mend is one line on stderr."""
    try:
        app()
    except options.WorkerCommandError as error:
        line, status = str(error), error.status
    except ModuleNotFoundError as error:  # a researcher's install lacks the worker's packages
        if (error.name or "worker").partition(".")[0] in ("worker", "shared"):
            raise  # one of our own modules: a fault of this program
        line, status = f"{error.name} is not installed: pip install 'research-swarm[worker]'", options.ExitStatus.ERROR
    typer.echo(clean_lines(f"swarm-worker: {line}"), err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
