"""`swarm-coordinator`: serve, migrate, create projects; `admin` has duties and the commands on a whole database.

Commands import what they need, so that `--help` is quick.
"""

import errno
import gc
import os
import resource
import shutil
import socket
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from coordinator.admin.cli import app as maintenance
from coordinator.admin.console import CommandFailed, clear_errors, open_database
from shared.command_options import CommandGroup
from shared.contract import Direction
from shared.export import SNAPSHOT_DATABASE, SNAPSHOT_FILE, SnapshotView
from shared.formatting import clean
from shared.seeds import SEEDS_FOLDER, resolve_seed

if TYPE_CHECKING:
    from coordinator.db.database import Database
    from coordinator.settings import CoordinatorSettings

SHUTDOWN_SECONDS = 2
HEALTH_CHECK_SECONDS = 60
"""Seconds without an answer after which one of several server processes is replaced; starting takes some of them."""

BACKLOG = 2048
MOST_FILES = 65_536
"""Number of files, connections among them, that a server process may open where the system lets it."""

UNREAD_SECONDS = 120
"""Seconds after which the kernel ends a connection whose client takes nothing of what was sent."""

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus-client finds the files in which server processes count together."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells give it: 128 and the signal's number."""

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The coordinator of a research swarm: one web application over one SQL database.\n\n"
    "Settings come from the environment: SWARM_DATABASE_URL (default: sqlite:///.swarm/coordinator.db), "
    "SWARM_HOST, SWARM_PORT, SWARM_PUBLIC_URL.",
)
app.add_typer(maintenance)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.  [default: 8000]")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Server processes; several need PostgreSQL.")] = 1,
    snapshot: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Serve this snapshot, read only, and no database.")
    ] = None,
) -> None:
    """Serve pages and API. Migrates the database first.

    \b
    Examples:
      swarm-coordinator serve --port 8080
      swarm-coordinator serve --snapshot gpt-2026-11
      SWARM_DATABASE_URL=postgresql://swarm@localhost/swarm swarm-coordinator serve --processes 4
    """
    from coordinator.db.database import Database
    from coordinator.db.migrate import upgrade
    from coordinator.settings import CoordinatorSettings

    with clear_errors():
        given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        settings = CoordinatorSettings().model_copy(update=given)
        listener = listen(settings.host, settings.port)
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        if snapshot is not None:
            _serve_snapshot(settings, listener, snapshot)
            return
        database = Database(settings.database_url)
        if processes > 1 and database.backend == "sqlite":
            raise CommandFailed(
                "--processes needs PostgreSQL: SQLite has one writer at a time, which one process serves best. "
                "Leave the option out, or name a postgresql:// address in SWARM_DATABASE_URL."
            )
        _tell_database(database, is_new=upgrade(database))
        database.close()
        if processes > 1:
            _serve_processes(settings, listener, processes)
        else:
            _serve(settings, listener)


def _serve_snapshot(settings: "CoordinatorSettings", listener: socket.socket, folder: Path) -> None:
    """Serve a copy of a snapshot's database, so that the snapshot stays as it is. Raises CommandFailed."""
    with TemporaryDirectory(prefix="swarm-snapshot-") as place:
        try:
            view = SnapshotView.model_validate_json((folder / SNAPSHOT_FILE).read_bytes(), extra="ignore")
            shutil.copyfile(folder / SNAPSHOT_DATABASE, Path(place) / SNAPSHOT_DATABASE)
        except (OSError, ValidationError) as error:
            raise CommandFailed(f"{folder} is no snapshot, or it cannot be copied to {place}: {error}.") from error
        own = {"database_url": f"sqlite:///{place}/{SNAPSHOT_DATABASE}", "webhooks": "", "smtp_url": ""}
        _serve(settings.model_copy(update=own), listener, f"Snapshot {view.name} of {view.as_of:%Y-%m-%d}")


def _serve(settings: "CoordinatorSettings", listener: socket.socket, snapshot: str = "") -> None:
    """Answer requests until a signal comes."""
    gc.disable()  # as in __main__
    from coordinator.http.logs import configure_logs

    configure_logs(settings.log_format)
    import uvicorn

    from coordinator.app import CoordinatorServer, create_app, search_garbage_seldom
    from coordinator.http.heads import BoundedHeads

    config = uvicorn.Config(
        create_app(settings, snapshot),
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        forwarded_allow_ips=settings.trusted_proxies,
        access_log=False,
        http=BoundedHeads,
        limit_concurrency=_limit_connections(),
    )
    search_garbage_seldom()
    _announce(settings.base_url, f"{snapshot}, read only, " if snapshot else "")
    server = CoordinatorServer(config)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if server.was_interrupted:
        raise typer.Exit(INTERRUPTED)


def _serve_processes(settings: "CoordinatorSettings", listener: socket.socket, processes: int) -> None:
    """Answer requests in several processes until a signal comes. Each is a replica; uvicorn restarts one that ends."""
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from coordinator.http.heads import BoundedHeads
    from coordinator.http.logs import configure_logs

    class Supervisor(Multiprocess):
        was_interrupted = False

        def handle_int(self) -> None:
            self.was_interrupted = True
            super().handle_int()

    os.environ |= {"SWARM_HOST": settings.host, "SWARM_PORT": str(settings.port)}  # the processes read their settings
    config = uvicorn.Config(
        "coordinator.app:create_replica", factory=True, workers=processes, log_config=None,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        forwarded_allow_ips=settings.trusted_proxies, timeout_worker_healthcheck=HEALTH_CHECK_SECONDS, access_log=False,
        http=BoundedHeads, limit_concurrency=_limit_connections(),
    )  # fmt: skip
    configure_logs(settings.log_format)
    with TemporaryDirectory(prefix="swarm-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        supervisor = Supervisor(config, sockets=[listener])  # which handles signals from here on
        _announce(settings.base_url, f"{processes} processes, ")
        supervisor.run()
    if supervisor.was_interrupted:
        raise typer.Exit(INTERRUPTED)


def _limit_connections() -> int:
    """Let this process and its children open as many files as they may. Returns how many of them connections may be in
    each: half, since a git clone may take a second one, and a database some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        with suppress(OSError, ValueError):  # macOS has a further limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def _tell_database(database: "Database", *, is_new: bool) -> None:
    """Name the database, so that nobody takes another one for their swarm."""
    name = str(Path(database.url.database or "").absolute()) if database.backend == "sqlite" else database.safe_url
    typer.echo(f"Database {name}{', new and empty' if is_new else ''}", err=True)


def _announce(url: str, details: str = "") -> None:
    typer.echo(f"Coordinator at {url}  ({details}API: {url}/docs)  Ctrl-C stops it.")
    sys.stdout.flush()


def listen(host: str, port: int, unread_seconds: float = UNREAD_SECONDS) -> socket.socket:
    """Open the port first, so that a port in use is reported at once. Raises CommandFailed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    is_dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=is_dual)
    except (OSError, UnicodeError) as error:
        if isinstance(error, UnicodeError) or (error.errno or 0) < 0:  # socket.gaierror's, whose type is lost
            raise CommandFailed(f"there is no host {host!r} to listen on: name an address of this machine.") from error
        if error.errno == errno.EADDRINUSE:
            raise CommandFailed(
                f"port {port} on {host} is in use. Stop what uses it, or choose another: --port."
            ) from error
        raise CommandFailed(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}.") from error
    # Accepted connections inherit this. Without it an answer's second packet waits 40 ms for the client's delayed ACK;
    # asyncio sets it only on sockets that name their protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(unread_seconds * 1000))
    return listener


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date."""
    with open_database() as database:
        typer.echo(f"{database.safe_url} is up to date.")


@app.command()
def create_project(
    seed: Annotated[str, typer.Argument(help="A seed that comes with the package (gpt, gpt-cpu, codec), or a folder.")],
) -> None:
    """Make a project from a seed. The same files again change nothing, nor does a seed's newer version.

    \b
    Examples:
      swarm-coordinator create-project gpt-cpu
      swarm-coordinator create-project ~/my-goal
    """
    from coordinator.projects import service as projects

    folder = resolve_seed(seed)
    with open_database() as database, database.write() as session:
        try:
            project, is_new = projects.create_project(session, folder)
        except projects.ProjectExistsError:
            if folder.parent != SEEDS_FOLDER:
                raise
            project, is_new = projects.get_project(session, folder.name), False
            typer.echo("The seed came with other files since; the project keeps those that it was made of.", err=True)
        typer.echo(f"{'Created' if is_new else 'Already there:'} project {project.name} at {project.root_sha[:10]}.")


@app.command()
def import_autoresearch(
    repository: Annotated[Path, typer.Argument(metavar="REPO", help="The session's git repository, on this machine.")],
    branch: Annotated[str, typer.Option(help="The session's branch, for example autoresearch/mar5.")],
    hardware: Annotated[str, typer.Option(help='What it ran on, for example "NVIDIA H100 80GB HBM3".')],
    results: Annotated[
        Path | None, typer.Option(help="Its log: TSV, CSV or JSON lines.  [default: results.tsv in REPO]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The project's name.  [default: from REPO and branch]")] = None,
    direction: Annotated[
        Direction | None, typer.Option(help="Whether less or more is better.  [default: as the metric's name says]")
    ] = None,
    script: Annotated[str | None, typer.Option(help="The file to run.  [default: train.py]")] = None,
    budget_seconds: Annotated[float, typer.Option(min=1, max=86_400, help="What a whole run may take.")] = 600.0,
    memory_gib: Annotated[
        int | None, typer.Option(min=1, help="The device's memory.  [default: as it is named]")
    ] = None,
    power_cap_watts: Annotated[int | None, typer.Option(min=0, help="The device's power cap; 0 without one.")] = None,
    torch_version: Annotated[str, typer.Option(help="torch's version, for example 2.9.")] = "",
    precision: Annotated[str, typer.Option(help="The matrices' arithmetic, for example bfloat16.")] = "unknown",
    column: Annotated[
        list[str], typer.Option(help="A column that its name does not tell: status=NAME, metric=NAME and so on.")
    ] = [],  # noqa: B006  typer reads it
    kept: Annotated[list[str], typer.Option(help="A status of rows that were kept.")] = [],  # noqa: B006
    discarded: Annotated[list[str], typer.Option(help="A status of rows that were not kept.")] = [],  # noqa: B006
    failed: Annotated[list[str], typer.Option(help="A status of rows that failed.")] = [],  # noqa: B006
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how the session would be read; store nothing.")
    ] = False,
) -> None:
    """Make a project of an autoresearch session: its branch and its log of results, in whatever form.

    One transaction; again, it adds what is new. The project scores itself, and is marked so. It says how the log was
    read, and which lines were not. --memory-gib, --power-cap-watts, --torch-version and --precision complete the name
    of the hardware class, within which alone results are compared.

    \b
    Examples:
      swarm-coordinator import-autoresearch ~/autoresearch --branch autoresearch/mar5 \\
          --results ~/results.tsv --hardware "NVIDIA H100 80GB HBM3" --dry-run
      swarm-coordinator import-autoresearch ~/search --branch main --hardware "RTX 4090" \\
          --column metric=val_rmse --kept promoted --failed size_blocked
    """
    from coordinator.autoresearch import service as autoresearch
    from coordinator.autoresearch.reading import ImportOptions
    from coordinator.autoresearch.results_file import ReadingOptions
    from coordinator.autoresearch.statuses import Fate

    options = ImportOptions(
        repository, branch, results, hardware, name, direction, script, budget_seconds, memory_gib, power_cap_watts,
        torch_version, precision, ReadingOptions(column, {
            Fate.KEPT: kept, Fate.DISCARDED: discarded, Fate.CRASHED: failed,
        }),
    )  # fmt: skip
    with open_database() as database, database.read() as read:
        if dry_run:
            lines = [*autoresearch.preview_session(read, options), "Nothing was stored."]
        else:
            with database.write() as write:
                lines = autoresearch.describe(autoresearch.import_session(read, write, options))
    for line in lines:
        typer.echo(clean(line))


@app.command()
def notify(
    test: Annotated[bool, typer.Option("--test", help="Send a test message to each webhook and by mail.")] = False,
) -> None:
    """Say whom this coordinator tells of records, held results and contradictions; --test tells them something."""
    from coordinator.events import notices
    from coordinator.settings import CoordinatorSettings

    with clear_errors():
        settings = CoordinatorSettings()
        targets, failed = notices.list_targets(settings), []
        if not targets:
            raise CommandFailed(
                "Nobody is told: set SWARM_WEBHOOKS, or SWARM_SMTP_URL with SWARM_MAIL_FROM and SWARM_MAIL_TO."
            )
        for target in targets:
            try:
                if test:
                    target.send(notices.make_test_notice(settings.base_url))
                typer.echo(f"{target.name}{': sent' if test else ''}")
            except notices.DeliveryFailedError as error:
                failed.append(target.name)
                typer.echo(f"{target.name}: {error}", err=True)
        if failed:
            raise CommandFailed(f"{len(failed)} could not be told.")


@app.command("version")
def show_version() -> None:
    """Print the version."""
    typer.echo(version("research-swarm"))


def main() -> None:
    """Run the command line; `coordinator.__main__` calls this."""
    from coordinator.http.logs import configure_logs

    configure_logs("text")
    app()
