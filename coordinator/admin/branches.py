"""Commands for branches: `swarm-coordinator branch ...`. Each has a reason and is in the audit log."""

from typing import Annotated

import typer

from coordinator.admin.console import clear_errors
from coordinator.admin.duties import Json, Reason, act, print_view, say
from coordinator.db.migrate import open_database
from coordinator.lineage.branches import view_branches
from coordinator.moderation import branches
from coordinator.projects.service import get_project

app = typer.Typer(
    no_args_is_help=True,
    help="Branches: list, pause, resume, approve, rename, share, move, delete.\n\n"
    'Example:  swarm-coordinator branch pause gpt warmup --reason "it repeats baseline"',
)

ProjectName = Annotated[str, typer.Argument(help="The project.")]
Name = Annotated[str, typer.Argument(help="The branch's name.")]


@app.command("list")
def list_branches(project: ProjectName, as_json: Json = False) -> None:
    """List a project's branches and proposals, oldest first."""
    with clear_errors(), open_database() as database, database.read() as session:
        views = view_branches(session, get_project(session, project))
    for one in views:
        state = f"{one.state} by a maintainer" if one.is_locked else str(one.state)
        share = f"  at least {one.share:.0%} of the jobs" if one.share else ""
        line = f"{one.name}  {state}  {one.experiments} experiments  {one.head_sha[:12]}{share}  {one.theme}"
        print_view(one, line, as_json=as_json)


@app.command()
def pause(project: ProjectName, name: Name, reason: Reason) -> None:
    """Give a branch no more jobs until it is resumed here."""
    with act() as (session, actor):
        say(branches.pause(session, actor, project, name, reason))


@app.command()
def resume(project: ProjectName, name: Name, reason: Reason) -> None:
    """Give a paused branch jobs again."""
    with act() as (session, actor):
        say(branches.resume(session, actor, project, name, reason))


@app.command()
def approve(project: ProjectName, name: Name, reason: Reason) -> None:
    """Make a newcomer's proposal a branch."""
    with act() as (session, actor):
        say(branches.approve(session, actor, project, name, reason))


@app.command()
def rename(
    project: ProjectName, name: Name, new_name: Annotated[str, typer.Argument(help="Its new name.")], reason: Reason
) -> None:
    """Give a branch another name."""
    with act() as (session, actor):
        say(branches.rename(session, actor, project, name, new_name, reason))


@app.command()
def share(
    project: ProjectName,
    name: Name,
    part: Annotated[float, typer.Argument(min=0, max=0.5, help="From 0, which means the contract's, to 0.5.")],
    reason: Reason,
) -> None:
    """Give a branch a minimum share of the project's jobs."""
    with act() as (session, actor):
        say(branches.set_share(session, actor, project, name, part, reason))


@app.command()
def move(
    project: ProjectName, name: Name, sha: Annotated[str, typer.Argument(help="The commit, whole.")], reason: Reason
) -> None:
    """Let a branch go on from another commit."""
    with act() as (session, actor):
        say(branches.move_head(session, actor, project, name, sha, reason))


@app.command()
def delete(project: ProjectName, name: Name, reason: Reason) -> None:
    """Delete a branch that is empty: so a proposal is turned down."""
    with act() as (session, actor):
        say(branches.delete(session, actor, project, name, reason))
