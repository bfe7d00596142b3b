"""`swarm-worker tokens`: lists, makes, names and ends the tokens of the account that this machine is logged in to.

Commands import what they need, so that `--help` is quick.
"""

import json
from typing import Annotated

import typer

from worker.commands import options

app = typer.Typer(no_args_is_help=True, help="List, make, name, end and replace your account's tokens.")

Number = Annotated[int, typer.Argument(min=1, help="Its number, as `tokens list` prints it.")]
Label = Annotated[str, typer.Argument(help="What it is for, such as 'the box at work'.")]
Days = Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it ends.  [default: it does not]")]


@app.command("list")
def list_tokens(coordinator: options.Coordinator = None, as_json: options.Json = False) -> None:
    """List the account's tokens; `*` marks the one that this machine uses."""
    from shared.formatting import format_local
    from worker.commands.account import open_login

    with open_login(coordinator) as login:
        tokens = login.list_valid()
        own = login.account.token_id
    if as_json:
        rows = [one.model_dump(mode="json") | {"is_this_machines": one.id == own} for one in tokens]
        typer.echo(json.dumps(rows, indent=1))
        return
    for one in tokens:
        ends = f"ends {format_local(one.expires_at)}" if one.expires_at else "does not end"
        made = f", made with {one.made_with_id}" if one.made_with_id else ""
        duties = ", with duties" if one.scope == "duties" else ""
        mark = "*" if one.id == own else " "
        typer.echo(f"{mark} {one.id:>5}  {one.label}  (made {format_local(one.created_at)}{made}, {ends}{duties})")


@app.command()
def make(label: Label, days: Days = None, coordinator: options.Coordinator = None) -> None:
    """Make a token and print it, this once. For another machine `tokens code` is easier.

    \b
    Examples:
      swarm-worker tokens make "rented box" --days 7 | ssh box swarm-worker login
    """
    from shared.moderation import TokenRequest
    from worker.commands.account import open_login

    with open_login(coordinator) as login:
        made = login.client.create_token(login.account.volunteer, TokenRequest(label=label, days=days))
    typer.echo(f"token {made.id} of {login.account.volunteer}, shown this once:", err=True)
    typer.echo(made.secret)


@app.command()
def code(coordinator: options.Coordinator = None) -> None:
    """Make a code by which another machine of yours logs in: once, within 10 minutes."""
    from worker.commands.account import open_login

    with open_login(coordinator) as login:
        secret = login.client.create_code()
        url = login.settings.coordinator_url
    typer.echo(
        f"On the other machine, within 10 minutes:  swarm-worker login --coordinator {url}\n"
        "and when it asks, this code, which works once:",
        err=True,
    )
    typer.echo(secret)


@app.command("label")
def label_token(number: Number, label: Label, coordinator: options.Coordinator = None) -> None:
    """Say in other words what a token is for."""
    from shared.moderation import TokenLabel
    from worker.commands.account import open_login

    with open_login(coordinator) as login:
        if login.get(number).label != label:
            login.client.label_token(number, TokenLabel(label=label))
    typer.echo(f"Token {number} is for {label}.")


@app.command()
def revoke(
    number: Number,
    alone: Annotated[bool, typer.Option("--alone", help="Keep the tokens that were made with it.")] = False,
    last: Annotated[bool, typer.Option("--last", help="Also if the account keeps no token.")] = False,
    coordinator: options.Coordinator = None,
) -> None:
    """End a token at once, and those that were made with it. Workers that use it finish their run and stop."""
    from shared.moderation import TokenRevocation
    from worker.commands.account import open_login

    with open_login(coordinator) as login:
        login.get(number)
        ending = {number} if alone else login.list_made_with(number)
        valid = login.list_valid()
        if ending.issuperset(one.id for one in valid) and not last:
            problem = (
                "then the account keeps no token, and is reached by a password or a maintainer's link only: --last"
            )
            raise options.WorkerCommandError(problem)
        login.client.revoke_token(number, TokenRevocation(reason="Revoked by its owner.", alone=alone))
    for one in valid:
        if one.id in ending:
            here = ", which this machine used" if one.id == login.account.token_id else ""
            typer.echo(f"Token {one.id} ({one.label}) is revoked{here}.")


@app.command()
def rotate(coordinator: options.Coordinator = None) -> None:
    """Replace the token of this machine by a new one and end the old. Workers here go on without an interruption."""
    from shared.moderation import TokenRequest, TokenRevocation
    from worker.commands.account import check_writable, open_login, store_token

    with open_login(coordinator) as login:
        settings, account = login.settings, login.account
        if settings.token is not None:
            problem = (
                "the token stands in the setting 'token' (SWARM_TOKEN), which this command cannot change: remove it "
                "there, `swarm-worker login` with a code of `swarm-worker tokens code`, and revoke the old one"
            )
            raise options.WorkerCommandError(problem, options.ExitStatus.USAGE)
        check_writable(settings.token_path)
        old = login.get(account.token_id)
        days = max(1, (old.expires_at - old.created_at).days) if old.expires_at else None
        made = login.client.create_token(account.volunteer, TokenRequest(label=old.label, days=days))
        store_token(settings.token_path, made.secret, lambda _: None)
        login.client.revoke_token(old.id, TokenRevocation(reason="Replaced by a new one.", alone=True))
    typer.echo(f"Token {made.id} takes the place of {old.id}; it is stored in {settings.token_path}.")
    typer.echo("Other machines with a copy of the old one have to log in anew.", err=True)
