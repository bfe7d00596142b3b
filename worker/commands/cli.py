"""The volunteer's commands beside `run`. Only what `--help` needs is imported here."""

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer()

EXIT_ERROR, EXIT_USAGE, EXIT_AUTHENTICATION = 1, 2, 4

DataDir = Annotated[Path | None, typer.Option(help="The worker's data folder, if it is not the usual one.")]
Worker = Annotated[str | None, typer.Option(metavar="NAME", help="One worker, such as box-gpu0.  [default: all]")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.command()
def login(
    coordinator: Annotated[str | None, typer.Option(metavar="URL", help="The swarm's coordinator.")] = None,
    new: Annotated[str | None, typer.Option(metavar="NAME", help="Make an account of that name.")] = None,
) -> None:
    """Make an account, or take a token (from a pipe or by asking), and keep it where only you can read it.

    \b
    Examples:
      swarm-worker login --new ada --coordinator https://swarm.example.org
      swarm-worker login --coordinator https://swarm.example.org
      swarm-worker login < token.txt
    """
    from worker.api.client import ClientError
    from worker.commands.account import keep_login, sign_up
    from worker.settings import SettingsError

    try:
        text = _ask_for_token() if new is None else sign_up(new, coordinator)
        place = keep_login(text, coordinator, lambda line: typer.echo(line, err=True))
    except SettingsError as error:
        _fail(str(error), EXIT_AUTHENTICATION)
    except ClientError as error:
        _fail(f"no account could be made: {error}", EXIT_ERROR)
    except OSError as error:
        _fail(f"cannot keep the token: {error.strerror or error}", EXIT_ERROR)
    typer.echo(f"The token is kept in {place}.")


@app.command()
def doctor(
    checks: Annotated[list[str] | None, typer.Argument(help="Only these, such as `coordinator agent`.")] = None,
    gpu: Annotated[str | None, typer.Option(metavar="N|N,M|all", help="The GPU, or several, of a run.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, or cuda:N.")] = None,
    sandbox: Annotated[str | None, typer.Option(metavar="NAME", help="The sandbox of a run.")] = None,
    coordinator: Annotated[str | None, typer.Option(metavar="URL", help="The swarm's coordinator.")] = None,
    agent: Annotated[str | None, typer.Option(help="The agent of a run.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Check what a run needs, and say what to do about what is missing; exit status 1 if something is.

    \b
    Examples:
      swarm-worker doctor --gpu 0
      swarm-worker doctor coordinator agent --agent openai
      swarm-worker doctor --device cpu --json | jq '.[] | select(.ok | not)'
    """
    if not as_json:
        typer.echo("looking at this machine ...", err=True)  # before what takes a while to import
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
    """Say what each worker of this machine does; exit status 1 if none runs."""
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
    """Free the GPU within 10 seconds: the run under way is stopped and given back. `resume` goes on.

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
    """Go on after `pause`."""
    from worker.loop.stop import list_running

    controls = list_running(_data_dir(data_dir), worker)
    for control in controls:
        control.resume()
        typer.echo(f"{control.folder.name}: going on")
    _expect_some(len(controls))


@app.command()
def finish(data_dir: DataDir = None, worker: Worker = None) -> None:
    """End after the run that is under way, which is reported first."""
    from worker.loop.stop import list_running

    controls = list_running(_data_dir(data_dir), worker)
    for control in controls:
        control.finish()
        typer.echo(f"{control.folder.name}: ends after this run")
    _expect_some(len(controls))


@app.command()
def logs(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines of each.")] = 40,
    data_dir: DataDir = None,
    worker: Worker = None,
) -> None:
    """Print the last events of each worker of this machine."""
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
    typer.echo("The token that a maintainer gave you; for an account of your own, `login --new NAME`.", err=True)
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
