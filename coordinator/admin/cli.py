"""Commands on a whole database: backup, restore, verify, repack. Part of `swarm-coordinator`, as are the duties."""

import json
from contextlib import closing
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.admin import duties
from coordinator.admin import projects as project_commands
from coordinator.admin.console import CommandFailed, clear_errors, open_database, progress_bars, read_values
from shared.export import SnapshotRequest
from shared.formatting import clean, count_noun

if TYPE_CHECKING:
    from coordinator.db.database import Database

app = typer.Typer()
app.add_typer(duties.app)
app.add_typer(project_commands.branch_app, name="branch")
app.add_typer(duties.queue_app, name="queue")
app.add_typer(project_commands.app, name="project")

Json = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


@app.command()
def backup(
    place: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write, or a folder, where it is named by its time.")
    ],
    force: Annotated[bool, typer.Option(help="Replace the file if it exists.")] = False,
    verified: Annotated[
        bool, typer.Option("--verified", help="Restore it into a scratch database and verify that.")
    ] = False,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Verify it, then remove all backups of the folder but the newest N.")
    ] = None,
) -> None:
    """Write the whole database to one file, while the coordinator works.

    \b
    Examples:
      swarm-coordinator backup /srv/backups/swarm.backup
      swarm-coordinator backup --verified --keep 14 /srv/backups
    """
    from coordinator.admin import backup as backups
    from coordinator.db.database import Database
    from coordinator.settings import CoordinatorSettings

    with clear_errors(), closing(Database(CoordinatorSettings().database_url)) as database, progress_bars() as show:
        if keep is not None and not place.is_dir():
            raise CommandFailed(f"--keep needs a folder that exists, and {place} is none.")
        file, pg_bin = backups.choose_file(place), CoordinatorSettings().pg_bin
        if not verified and keep is None:
            backups.backup(database, file, pg_bin, show, force=force)
            typer.echo(f"Wrote {file}: {file.stat().st_size:,} bytes of {database.safe_url}.")
            return
        commits, runs = backups.backup_verified(database, file, pg_bin, show, force=force)
        typer.echo(f"Wrote {file}, restored it and verified {commits:,} commits and {runs:,} runs.")
        for old in backups.remove_old(place, keep) if keep is not None else []:
            typer.echo(f"Removed {old}.")


@app.command()
def restore(file: Annotated[Path, typer.Argument(help="A file that `swarm-coordinator backup` wrote.")]) -> None:
    """Fill an empty database from a backup, then verify it.

    Example:  SWARM_DATABASE_URL=sqlite:///new/coordinator.db swarm-coordinator restore /srv/backups/swarm.backup
    """
    from coordinator.admin import backup as backups
    from coordinator.db.database import Database
    from coordinator.events import history
    from coordinator.settings import CoordinatorSettings

    with clear_errors(), closing(Database(CoordinatorSettings().database_url)) as database:
        with progress_bars() as show:
            backups.restore(database, file, CoordinatorSettings().pg_bin, show)
        with database.write() as session:
            history.enter_restore(session)
        typer.echo(f"Restored {database.safe_url}.")
        _verify(database, as_json=False)


@app.command()
def verify(as_json: Json = False) -> None:
    """Check that nothing is missing or damaged, and compute the numbers again. Exit status 1 if anything is wrong.

    Example:  swarm-coordinator verify
    """
    with open_database() as database:
        _verify(database, as_json)


def _verify(database: "Database", as_json: bool) -> None:
    from coordinator.admin import queries
    from coordinator.admin.integrity import find_problems
    from coordinator.evidence import epochs
    from coordinator.models import Commit, Run

    problems: list[str] = []
    with progress_bars() as show, database.read() as session:
        for problem in find_problems(session, show):
            problems.append(problem)
            if not as_json:
                typer.echo(clean(problem))
        commits, runs = queries.count_rows(session, Commit), queries.count_rows(session, Run)
        left_out = list(epochs.list_left_out(session)) if not problems else []
        to_look_at = [*left_out, *epochs.list_disputed_noise(session)] if not problems else []
    for line in [] if as_json else to_look_at:
        typer.echo(clean(f"To look at: {line}"))
    if as_json:
        typer.echo(json.dumps({"commits": commits, "runs": runs, "problems": problems, "to_look_at": to_look_at}))
    elif problems:
        typer.echo(f"{count_noun(len(problems), 'problem')} in {commits:,} commits and {runs:,} runs.")
    else:
        numbers = "the other numbers agree" if left_out else "all numbers agree"
        typer.echo(f"Verified {commits:,} commits and {runs:,} runs: nothing is missing, {numbers}.")
    if problems:
        raise typer.Exit(1)


@app.command()
def repack(
    dry_run: Annotated[bool, typer.Option(help="Change nothing; say what would be saved, about.")] = False,
    as_json: Json = False,
) -> None:
    """Store files as differences from their parent's, where they are not yet. May be interrupted and run again.

    Example:  swarm-coordinator repack --dry-run
    """
    from coordinator.admin import repack as packing

    with open_database() as database:
        with progress_bars() as show:
            done = packing.repack(database, show, dry_run=dry_run)
        if as_json:
            typer.echo(json.dumps(done._asdict()))
            return
        typer.echo(
            f"{done.objects_rewritten:,} objects {'would be' if dry_run else 'were'} rewritten: "
            f"{done.bytes_before:,} bytes before, {done.bytes_after:,} after."
        )


@app.command()
def recompute(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit status 1 if a number differs.")] = False,
) -> None:
    """Derive all posteriors again from the runs, at this epoch's offsets, and count the progress; write both.

    Example:  swarm-coordinator recompute --check
    """
    from coordinator.evidence import epochs
    from coordinator.records import progress

    with open_database() as database:
        if not check:
            with database.write() as session:
                typer.echo(f"{epochs.recompute(session):,} posteriors were changed.")
                typer.echo(f"Hardware classes whose progress was counted again: {progress.rebuild(session)}.")
            return
        with database.read() as session:
            left_out = list(epochs.list_left_out(session))
            differences = [*epochs.find_differences(session), *progress.find_differences(session)]
        for line in [*left_out, *differences]:
            typer.echo(clean(line))
        if differences:
            typer.echo(f"{count_noun(len(differences), 'number')} did not follow from the runs.")
            raise typer.Exit(1)
        typer.echo(f"{'The other' if left_out else 'All'} numbers follow from the runs.")


@app.command()
def rotate_holdout(project: Annotated[str, typer.Argument(help="The project's name, for example gpt.")]) -> None:
    """Give a project a new secret of its sealed windows, if somebody may have read the old one.

    Example:  swarm-coordinator rotate-holdout gpt
    """
    from coordinator.projects import service as projects
    from coordinator.projects.service import make_secret

    with open_database() as database, database.write() as session:
        make_secret(session, projects.get_project(session, project).id)
        typer.echo(f"Jobs that confirm a record of {project} get keys of a new secret from now on.")


@app.command()
def snapshot(
    name: Annotated[str, typer.Argument(help="Its name: small letters, digits and hyphens, as gpt-2026-11.")],
    project: Annotated[str | None, typer.Option(help="The project.  [default: the only one]")] = None,
    folder: Annotated[Path | None, typer.Option(help="The folder to write.  [default: NAME]")] = None,
) -> None:
    """Freeze what is public of a project in a folder: tables, code, the signed log, citation, checksums.

    \b
    Examples:
      swarm-coordinator snapshot gpt-2026-11 --project gpt
      swarm-coordinator serve --snapshot gpt-2026-11
    """
    from coordinator.export.snapshot import write_snapshot
    from coordinator.projects.lookup import list_projects
    from coordinator.settings import CoordinatorSettings

    with open_database() as database:
        chosen = read_values(SnapshotRequest, {"name": name}).name
        with database.read() as session:
            known = [one.name for one in list_projects(session)]
        if project is None and len(known) != 1:
            raise CommandFailed(f"Name one of the projects with --project: {', '.join(known) or 'there is none'}.")
        place, url = folder or Path(chosen), CoordinatorSettings().public_url
        view = write_snapshot(
            database, project or known[0], chosen, place, url, lambda line: typer.echo(line, err=True)
        )
        typer.echo(f"{place}: {view.experiments:,} experiments, {view.runs:,} runs, {view.findings:,} findings.")
        typer.echo(f"Verify it: swarm verify {place}   Serve it: swarm-coordinator serve --snapshot {place}")


@app.command()
def rotate_history_key() -> None:
    """Let a new key sign the histories of all projects from now on, if somebody may have read the old one.

    Example:  swarm-coordinator rotate-history-key
    """
    from coordinator.events import history
    from coordinator.projects.lookup import list_projects

    with open_database() as database:
        with database.write() as session:
            history.rotate_key(session)
        history.append_pending(database)
        with database.read() as session:
            for project in list_projects(session):
                typer.echo(f"{project.name}: {history.describe_key(session, project)}")


@app.command()
def new_epoch() -> None:
    """Estimate noise and workers' offsets again from all shared commits, and derive everything by them.

    The coordinator does so by itself now and then.  Example:  swarm-coordinator new-epoch
    """
    from coordinator.evidence import renewal

    with open_database() as database:
        count = renewal.end_due_epochs(database, always=True)
        renewal.follow_decisions(database, inf)
        typer.echo(f"A new epoch began in {count} hardware class(es).")
