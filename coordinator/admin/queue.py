"""Commands for the queue: `swarm-coordinator queue ...`. Each action has a reason and is in the audit log."""

from typing import Annotated

import typer

from coordinator.admin.console import clear_errors
from coordinator.admin.duties import Json, Reason, act, print_view, say
from coordinator.db.migrate import open_database
from coordinator.moderation import queue
from shared.queue import QueueAction, QueueKind, QueueRequest

app = typer.Typer(
    no_args_is_help=True,
    help="What waits for moderators: list it, and act upon it.\n\n"
    'Example:  swarm-coordinator queue act dismiss report:7 --reason "it is a fair paper"',
)


@app.command("list")
def list_queue(
    kind: Annotated[QueueKind | None, typer.Option(help="Only things of this kind.")] = None, as_json: Json = False
) -> None:
    """List the things that wait, all but background tasks: that for which most waits comes first."""
    with clear_errors(), open_database() as database, database.read() as session:
        items = queue.view_queue(session, kind).items
    if not items:
        typer.echo("Nothing waits.", err=True)
    for item in items:
        who = f"  ({item.assigned_to})" if item.assigned_to else ""
        print_view(item, f"{item.name}  {item.title}  {item.detail}{who}", as_json=as_json)


@app.command("act")
def act_on_queue(
    action: Annotated[QueueAction, typer.Argument(help="What to do about each of them.")],
    items: Annotated[list[str], typer.Argument(help="Their names, as `list` prints them.")],
    reason: Reason,
    to: Annotated[str | None, typer.Option(help="Whom to assign them to; without it, nobody.")] = None,
) -> None:
    """Do the same about some things at once; all of it is done, or nothing."""
    with act() as (session, actor):
        asked = QueueRequest(items=items, action=action, reason=reason, assignee=to)
        for entry in queue.act(session, actor, asked):
            say(entry)
