"""The volunteer's commands besides `run`. Commands import what they need, so that `--help` is quick."""

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer()

EXIT_ERROR, EXIT_USAGE, EXIT_AUTHENTICATION = 1, 2, 4

DataDir = Annotated[Path | None, typer.Option(help="The worker's data folder.  [default: as in the settings]")]
Worker = Annotated[str | None, typer.Option(metavar="NAME", help="One worker, such as box-gpu0.  [default: all]")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.command()
def login(
    coordinator: Annotated[str | None, typer.Option(metavar="URL", help="The swarm's coordinator.")] = None,
    new: Annotated[str | None, typer.Option(metavar="NAME", help="Create an account with this name.")] = None,
) -> None:
    """Store a token: that of a new account, from a pipe, or typed in. Only you can read its file.

    \b
    Examples:
      swarm-worker login --new ada --coordinator https://swarm.example.org
      swarm-worker login --coordinator https://swarm.example.org
      swarm-worker login < token.txt
    """
    from worker.api.client import ClientError
    from worker.commands.account import sign_up, store_login
    from worker.settings import SettingsError

    try:
        text = _ask_for_token() if new is None else sign_up(new, coordinator)
        path = store_login(text, coordinator, lambda line: typer.echo(line, err=True))
    except SettingsError as error:
        _fail(str(error), EXIT_AUTHENTICATION)
    except ClientError as error:
        _fail(f"the account could not be created: {error}", EXIT_ERROR)
    except OSError as error:
        _fail(f"cannot store the token: {error.strerror or error}", EXIT_ERROR)
    typer.echo(f"The token is stored in {path}.")


@app.command()
def doctor(
    checks: Annotated[
        list[str] | None, typer.Argument(help="Checks to make, such as `coordinator agent`.  [default: all]")
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="N|N,M|all", help="The GPU of a run, or several.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, or cuda:N.")] = None,
    sandbox: Annotated[str | None, typer.Option(metavar="NAME", help="The sandbox of a run.")] = None,
    coordinator: Annotated[str | None, typer.Option(metavar="URL", help="The swarm's coordinator.")] = None,
    agent: Annotated[str | None, typer.Option(help="The agent of a run.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Check whether this machine can run a worker, and advise; exit status 1 if a check fails.

    \b
    Examples:
      swarm-worker doctor --gpu 0
      swarm-worker doctor coordinator agent --agent openai
      swarm-worker doctor --device cpu --json | jq '.[] | select(.ok | not)'
    """
    if not as_json:
        typer.echo("checking this machine ...", err=True)  # the imports take a while
    from worker.commands.doctor import examine, render_json, render_text
    from worker.settings import SettingsError

    found = []
    flags = {
        "device": device if gpu is None else f"cuda:{gpu}",
        "sandbox": sandbox,
        "coordinator_url": coordinator,
        "agent": agent,
        "data_dir": data_dir,
    }
    try:
        for check in examine(flags, checks or ()):
            found.append(check)
            if not as_json:
                typer.echo(render_text(check))
    except SettingsError as error:
        _fail(str(error), EXIT_USAGE)
    if as_json:
        typer.echo(render_json(found))
    raise typer.Exit(0 if all(check.ok for check in found) else EXIT_ERROR)


@app.command()
def status(data_dir: DataDir = None, worker: Worker = None, as_json: Json = False) -> None:
    """Show the state of each worker on this machine; exit status 1 if none runs."""
    from worker.commands.inspect import list_reports, render_json, render_text

    reports = list_reports(_data_dir(data_dir), worker)
    typer.echo(render_json(reports) if as_json else render_text(reports))
    raise typer.Exit(0 if any(report.running for report in reports) else EXIT_ERROR)


@app.command()
def pause(
    duration: Annotated[str | None, typer.Option("--for", metavar="2h", help="How long: 90s, 30m, 2h, 1d.")] = None,
    data_dir: DataDir = None,
    worker: Worker = None,
) -> None:
    """Free the GPU within 10 seconds: the current run is stopped and its job given back.

    \b
    Examples:
      swarm-worker pause
      swarm-worker pause --for 2h
    """
    from shared.protocol import now
    from worker.loop.stop import list_running

    until = now() + _duration(duration) if duration else None
    controls = list_running(_data_dir(data_dir), worker)
    for control in controls:
        control.pause(until)
        typer.echo(f"{control.folder.name}: pausing{f' until {until:%Y-%m-%d %H:%M} UTC' if until else ''}")
    _expect_some(len(controls))


@app.command()
def resume(data_dir: DataDir = None, worker: Worker = None) -> None:
    """Continue after `pause`."""
    from worker.loop.stop import list_running

    controls = list_running(_data_dir(data_dir), worker)
    for control in controls:
        control.resume()
        typer.echo(f"{control.folder.name}: resumed")
    _expect_some(len(controls))


@app.command()
def finish(data_dir: DataDir = None, worker: Worker = None) -> None:
    """Stop after the current run is finished and reported."""
    from worker.loop.stop import list_running

    controls = list_running(_data_dir(data_dir), worker)
    for control in controls:
        control.finish()
        typer.echo(f"{control.folder.name}: stops after this run")
    _expect_some(len(controls))


@app.command()
def logs(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines of each worker.")] = 40,
    data_dir: DataDir = None,
    worker: Worker = None,
) -> None:
    """Print the last events of each worker on this machine."""
    from worker.commands.inspect import tail_logs

    found = False
    for name, tail in tail_logs(_data_dir(data_dir), worker, lines):
        found = True
        typer.echo(f"==> {name}")
        typer.echo("\n".join(tail))
    if not found:
        _fail("no worker has run with this data folder", EXIT_ERROR)


def _ask_for_token() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.read()
    typer.echo("Enter the token that a maintainer gave you. To create an account, use `login --new NAME`.", err=True)
    return str(typer.prompt("Token", hide_input=True, err=True))


def _data_dir(given: Path | None) -> Path:
    from worker.settings import SettingsError, load_settings

    try:
        return load_settings({"data_dir": given}).data_dir
    except SettingsError as error:
        _fail(str(error), EXIT_USAGE)


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if found is None:
        raise typer.BadParameter("give a number and a unit: 90s, 30m, 2h or 1d", param_hint="--for")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _expect_some(count: int) -> None:
    if not count:
        _fail("no worker runs with this data folder", EXIT_ERROR)


def _fail(line: str, exit_status: int) -> NoReturn:
    typer.echo(f"swarm-worker: {line}", err=True)
    raise typer.Exit(exit_status)
