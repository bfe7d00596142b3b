"""Commands for projects and their branches: `swarm-coordinator project ...` and `swarm-coordinator branch ...`. Each
change has a reason and is in the audit log."""

from typing import Annotated

import typer

from coordinator.admin.console import CommandFailed, Number, clear_errors, open_reading, read_values
from coordinator.admin.duties import Action, Json, Reason, act, add_actions, print_view, say
from shared.formatting import clean
from shared.moderation import SettingsChange
from shared.projects import DataLicence, ProjectJoining, ProjectMode

app = typer.Typer(
    no_args_is_help=True,
    help="Settings of projects: show, set, restore.\n\n"
    'Example:  swarm-coordinator project set gpt --mode paused --reason "the data set is being mended"',
)

ProjectName = Annotated[str, typer.Argument(help="The project.")]


@app.command("settings")
def show_settings(project: ProjectName, as_json: Json = False) -> None:
    """List the versions of a project's settings, the newest first, which holds now."""
    from coordinator.projects import settings as project_settings
    from coordinator.projects.service import get_project

    with open_reading() as session:
        versions = project_settings.view_versions(session, get_project(session, project), None, 200).items
    for one in versions:
        values = "  ".join(f"{name}={value}" for name, value in project_settings.flatten(one).items() if value != "")
        print_view(one, f"{one.version}  {one.at:%Y-%m-%d %H:%M}  {one.by}: {one.reason}  {values}", as_json=as_json)


@app.command("set")
def set_settings(
    project: ProjectName,
    reason: Annotated[str, typer.Option(help="Why; it stands in the audit log.")] = "",
    title: Annotated[str | None, typer.Option(help="Its title.")] = None,
    notice: Annotated[str | None, typer.Option(help="Shown on its pages, and to workers that get no job.")] = None,
    mode: Annotated[ProjectMode | None, typer.Option(help="What jobs it gives.")] = None,
    weight: Annotated[float | None, typer.Option(min=0, max=1000, help="Its share of the fleet, relative.")] = None,
    joining: Annotated[ProjectJoining | None, typer.Option(help="Whose workers get its jobs.")] = None,
    member: Annotated[list[str] | None, typer.Option(help="A member; may be repeated, and replaces the list.")] = None,
    data_licence: Annotated[DataLicence | None, typer.Option(help="The licence of snapshots of its data.")] = None,
    jobs: Annotated[
        list[str] | None, typer.Option("--share", metavar="KIND=SHARE", help="A share of the job mix; may be repeated.")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Say what would change, and change nothing.")] = False,
) -> None:
    """Change settings; those that are not named stay. `project restore` and `undo` take it back.

    \b
    Examples:
      swarm-coordinator project set gpt --share tune=2 --share draft=0 --preview
      swarm-coordinator project set gpt --weight 3 --reason "the deadline of this one is near"
    """
    from coordinator.moderation import projects

    shares = {kind: _read_number(share) for kind, _, share in (text.partition("=") for text in jobs or [])}
    given = {
        "title": title, "notice": notice, "mode": mode, "weight": weight, "joining": joining, "members": member,
        "data_licence": data_licence, "jobs": shares,
    }  # fmt: skip
    with clear_errors():
        if not preview and not reason.strip():
            raise CommandFailed("Say why: --reason TEXT. Or look first: --preview.")
        asked = read_values(SettingsChange, given)
    if preview:
        with open_reading() as session:
            found = projects.preview(session, project, asked)
        for one in found.changes:
            typer.echo(clean(f"{one.name}: {one.before or 'none'} -> {one.after or 'none'}"))
        for sentence in found.consequences or ["Nothing follows from it."]:
            typer.echo(sentence)
        return
    with act() as (session, actor):
        say(projects.change_settings(session, actor, project, asked, reason))


def _read_number(text: str) -> float | str:
    """The number that was typed, or what was typed instead, which is refused by its name."""
    try:
        return float(text)
    except ValueError:
        return text


branch_app = typer.Typer(
    no_args_is_help=True,
    help="Branches: list, pause, resume, approve, rename, share, move, delete.\n\n"
    'Example:  swarm-coordinator branch pause gpt warmup --reason "it repeats baseline"',
)


@branch_app.command("list")
def list_branches(project: ProjectName, as_json: Json = False) -> None:
    """List a project's branches and proposals, oldest first."""
    from coordinator.lineage.branches import view_branches
    from coordinator.projects.service import get_project

    with open_reading() as session:
        views = view_branches(session, get_project(session, project))
    for one in views:
        state = f"{one.state} by a maintainer" if one.is_locked else str(one.state)
        share = f"  at least {one.share:.0%} of the jobs" if one.share else ""
        line = f"{one.name}  {state}  {one.experiments} experiments  {one.head_sha[:12]}{share}  {one.theme}"
        print_view(one, line, as_json=as_json)


add_actions(app, "coordinator.moderation.projects", {"name": ProjectName, "version": Number, "reason": Reason}, {
    "restore": Action("restore_version", "name version reason", "Save an earlier version's settings as a new one."),
})  # fmt: skip
BRANCH_PARAMETERS = {
    "project": ProjectName,
    "name": Annotated[str, typer.Argument(help="The branch's name.")],
    "new_name": Annotated[str, typer.Argument(help="Its new name.")],
    "share": Annotated[float, typer.Argument(min=0, max=0.5, help="From 0, which means the contract's, to 0.5.")],
    "sha": Annotated[str, typer.Argument(help="The commit, whole.")],
    "reason": Reason,
}
add_actions(branch_app, "coordinator.moderation.branches", BRANCH_PARAMETERS, {
    "pause": Action("pause", "project name reason", "Give a branch no more jobs until it is resumed here."),
    "resume": Action("resume", "project name reason", "Give a paused branch jobs again."),
    "approve": Action("approve", "project name reason", "Make a newcomer's proposal a branch."),
    "rename": Action("rename", "project name new_name reason", "Give a branch another name."),
    "share": Action("set_share", "project name share reason", "Give a branch a minimum share of the project's jobs."),
    "move": Action("move_head", "project name sha reason", "Let a branch go on from another commit."),
    "delete": Action("delete", "project name reason", "Delete a branch that is empty: so a proposal is turned down."),
})  # fmt: skip
