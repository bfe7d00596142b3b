"""The volunteer's commands besides `run`. Commands import what they need, so that `--help` is quick."""

import json
import re
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands import options

if TYPE_CHECKING:
    from worker.loop.stop import ControlFiles

app = typer.Typer()

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.command()
def login(
    coordinator: options.Coordinator = None,
    new: Annotated[str | None, typer.Option(metavar="NAME", help="Create an account with this name.")] = None,
    invitation: Annotated[str | None, typer.Option(help="An invitation, where new accounts need one.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also if this machine is logged in to another account.")
    ] = False,
) -> None:
    """Log this machine in: by a code from another machine or your page, by a token, or with a new account.

    Only you can read the token's file.

    \b
    Examples:
      swarm-worker login --new ada --coordinator https://swarm.example.org
      swarm-worker login --coordinator https://swarm.example.org
      swarm-worker login < token.txt
    """
    from worker.api.client import ClientError
    from worker.commands.account import log_in, sign_up, store_address
    from worker.settings import SettingsError, load_settings, login_path

    def print_line(line: str) -> None:
        typer.echo(line, err=True)

    if invitation is not None and new is None:
        raise typer.BadParameter("an invitation opens a new account: give --new NAME, too", param_hint="--invitation")
    try:
        flags: dict[str, Any] = {"coordinator_url": coordinator}
        options.ask_for_coordinator(flags)
        settings = load_settings(flags)
        url = settings.require_coordinator()
        if new is not None:
            sign_up(new, url, invitation, print_line, replace=replace)
        else:
            log_in(_read_login(), url, print_line, replace=replace)
        if flags["coordinator_url"] is not None:
            store_address(url, print_line)
    except SettingsError as error:
        raise options.WorkerCommandError(str(error), options.ExitStatus.AUTHENTICATION) from error
    except ClientError as error:
        raise options.WorkerCommandError(f"this machine could not be logged in: {error}") from error
    except OSError as error:
        raise options.WorkerCommandError(f"cannot store the token: {error.strerror or error}") from error
    typer.echo(f"The token is stored in {login_path()}.")
    if settings.token is not None or settings.token_file is not None:
        which = "token" if settings.token is not None else "token_file"
        print_line(
            f"the setting {which!r} (SWARM_{which.upper()}) comes before it: remove that, or workers use that one"
        )


def _read_login() -> str:
    """The token or code, typed or from a pipe."""
    if not sys.stdin.isatty():
        return sys.stdin.read()
    typer.echo(
        "Enter a code, from `swarm-worker tokens code` or your page, or a token. "
        "To create an account, use `login --new NAME`.",
        err=True,
    )
    return str(typer.prompt("Code or token", hide_input=True, err=True))


@app.command()
@options.with_settings("gpu", "device", "sandbox", "coordinator_url", "agent", "model", "base_url", "agent_command",
                       "agent_paths", "data_dir")  # fmt: skip
def doctor(
    flags: dict[str, Any],
    checks: Annotated[
        list[str] | None, typer.Argument(help="Checks to make, such as `coordinator agent`.  [default: all]")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also try the device in the sandbox, and the seed for 20 s. Takes minutes.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Check whether this machine can run a worker, and advise; exit status 1 if a check fails.

    \b
    Examples:
      swarm-worker doctor --gpu 0 --deep
      swarm-worker doctor agent --agent openai --model NAME --base-url URL
      swarm-worker doctor --device cpu --json | jq '.[] | select(.ok | not)'
    """
    if not as_json:
        typer.echo("checking this machine ...", err=True)  # the imports take a while
    from shared.formatting import clean_lines
    from worker.commands.doctor import examine

    found = []
    for check in examine(flags, checks or (), deep=deep):
        found.append(check)
        if not as_json:
            typer.echo(clean_lines(check.describe()))
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in found], indent=1))
    raise typer.Exit(options.ExitStatus.OK if all(check.ok for check in found) else options.ExitStatus.ERROR)


@app.command()
@options.with_settings("gpu", "device", "cores", "coordinator_url", "project", "branch", "name", "notes", "sandbox",
                       "data_dir")  # fmt: skip
def mcp(
    flags: dict[str, Any],
    folder: Annotated[Path, typer.Option(help="The folder that gets each job's files to edit.")] = Path("swarm-jobs"),
) -> None:
    """Let a coding agent's session take jobs, over the Model Context Protocol on stdin and stdout.

    Needs: pip install "research-swarm[worker,mcp]".

    \b
    Examples, each once on this machine:
      claude mcp add --scope user research-swarm -- swarm-worker mcp --gpu 0
      codex mcp add research-swarm -- swarm-worker mcp --gpu 0
    """
    try:
        from worker.commands.mcp_server import serve
    except ModuleNotFoundError as error:
        if (error.name or "worker").partition(".")[0] in ("worker", "shared"):
            raise  # one of our own modules: a fault of this program
        problem = f"{error.name} is not installed: pip install 'research-swarm[worker,mcp]'"
        raise options.WorkerCommandError(problem) from error
    serve(flags, folder)


@app.command()
def status(data_dir: options.DataDir = None, worker: options.Worker = None, as_json: options.Json = False) -> None:
    """Show the state of each worker on this machine; exit status 1 if none runs."""
    from worker.ui.status import list_reports

    reports = list_reports(_data_dir(data_dir), worker)
    if as_json:
        typer.echo(json.dumps([report.to_json() for report in reports], indent=1))
    else:
        described = [report.describe() for report in reports]
        typer.echo("\n".join(described) or "No worker has run with this data folder.")
    raise typer.Exit(options.ExitStatus.OK if any(report.running for report in reports) else options.ExitStatus.ERROR)


@app.command()
def pause(
    duration: Annotated[str | None, typer.Option("--for", metavar="2h", help="How long: 90s, 30m, 2h, 1d.")] = None,
    data_dir: options.DataDir = None,
    worker: options.Worker = None,
) -> None:
    """Free the GPU within 10 seconds: the current run is stopped and its job given back.

    \b
    Examples:
      swarm-worker pause
      swarm-worker pause --for 2h
    """
    from shared.formatting import format_local
    from shared.protocol import now

    until = now() + _duration(duration) if duration else None
    for control in _list_running(data_dir, worker):
        control.pause(until)
        typer.echo(f"{control.folder.name}: pausing{f' until {format_local(until)}' if until else ''}")


@app.command()
def resume(data_dir: options.DataDir = None, worker: options.Worker = None) -> None:
    """Continue after `pause`."""
    for control in _list_running(data_dir, worker):
        control.resume()
        typer.echo(f"{control.folder.name}: resumed")


@app.command()
def finish(data_dir: options.DataDir = None, worker: options.Worker = None) -> None:
    """Stop after the current run is finished and reported."""
    for control in _list_running(data_dir, worker):
        control.finish()
        typer.echo(f"{control.folder.name}: stops after this run")


@app.command()
def logs(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines of each worker.")] = 40,
    data_dir: options.DataDir = None,
    worker: options.Worker = None,
) -> None:
    """Print the last events of each worker on this machine."""
    from shared.formatting import clean
    from worker.ui.status import tail_logs

    tails = tail_logs(_data_dir(data_dir), worker, lines)
    if not tails:
        raise options.WorkerCommandError("no worker has run with this data folder: name another, --data-dir")
    for name, tail in tails.items():
        typer.echo("\n".join(map(clean, (f"==> {name}", *tail))))


service = typer.Typer(help="Run the worker as a systemd user unit.", no_args_is_help=True)
app.add_typer(service, name="service")


@service.command("install", context_settings={"ignore_unknown_options": True})
def install_service(
    flags: Annotated[list[str] | None, typer.Argument(help="Flags of `swarm-worker run`, such as --gpu 0.")] = None,
) -> None:
    """Let a worker with these flags start with the machine, and now.

    \b
    Examples:
      swarm-worker service install --gpu all --schedule 22:00-07:00
    """
    from worker.commands.service import install

    install(flags or [], typer.echo)


@service.command("remove")
def remove_service() -> None:
    """Finish the run under way, stop, and do not start any more."""
    from worker.commands.service import remove

    remove(typer.echo)


def _data_dir(given: Path | None) -> Path:
    from worker.settings import load_settings

    return load_settings({"data_dir": given}).data_dir


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if found is None:
        raise typer.BadParameter("give a number and a unit: 90s, 30m, 2h or 1d", param_hint="--for")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _list_running(data_dir: Path | None, worker: str | None) -> "list[ControlFiles]":
    """The control files of the running workers. Raises WorkerCommandError if there are none."""
    from worker.loop.stop import list_running

    controls = list_running(_data_dir(data_dir), worker)
    if not controls:
        raise options.WorkerCommandError(
            "no worker runs with this data folder: start one (`swarm-worker --gpu 0`), or name another, --data-dir"
        )
    return controls
