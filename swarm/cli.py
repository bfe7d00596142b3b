"""`swarm`, the researcher's command line. `commands.py` has the reading commands."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shared.export import ExportFormat
from shared.formatting import clean
from swarm.client import DEFAULT_URL
from swarm.commands import app
from swarm.demo import DemoOptions, run_demo
from swarm.dump import write_dump
from swarm.output import AnyProject, Commit, Project, Url, connected, expected_errors
from swarm.publish import prepare
from swarm.reproduce import reproduce, write_files
from swarm.verify import verify_folder


@app.command()
def checkout(
    commit: Commit,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    coordinator: Url = DEFAULT_URL,
) -> None:
    """Write a commit's files, harness included, to a folder.

    \b
    Example:
      swarm checkout 17 try-17 && swarm-worker run-local try-17
    """
    with connected(coordinator) as client:
        step = client.list_lineage(commit)[0]
        files = client.get_files(step.project, step.sha)
        write_files(files, folder)
        typer.echo(f"{len(files.files)} files of {step.sha} are in {folder}.")


@app.command("reproduce")
def reproduce_experiment(
    experiment: Annotated[int, typer.Argument(metavar="ID", min=1, help="An experiment's number.")],
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The harness's seed.")] = 1,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Measure its parent, too, and compare effects.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, or cuda:N.  [default: the worker's setting]")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="CPU cores to use.  [default: all]")] = None,
    sandbox: Annotated[str | None, typer.Option(help="As for a worker.")] = None,
    coordinator: Url = DEFAULT_URL,
) -> None:
    """Run an experiment again on this machine, and compare it with the published result.

    Needs the worker: pip install "research-swarm\\[worker]". Exit status 1 if both differ by more than 3 sd.

    \b
    Examples:
      swarm reproduce 17
      swarm reproduce 17 --with-parent --device cuda:0
    """
    given = {"--device": device, "--cores": cores, "--sandbox": sandbox}
    options = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    with connected(coordinator) as client:
        done = reproduce(client, client.get_experiment(experiment), seed, options, with_parent=with_parent)
        for line in done.lines:
            typer.echo(line)
        verdict = "it agrees" if done.agrees else "it does not agree"
        typer.echo(f"apart by   {abs(done.deviation_sd):.1f} sd: {verdict}")
    raise typer.Exit(0 if done.agrees else 1)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    project: Project = None,
    formats: Annotated[
        list[ExportFormat] | None, typer.Option("--format", help="May be given several times.  [default: all three]")
    ] = None,
    coordinator: Url = DEFAULT_URL,
) -> None:
    """Write everything public of a project to a folder that outlives the server.

    Experiments, runs, findings and citations as JSON lines, CSV and Parquet; results.tsv; all code as a git bundle.

    \b
    Example:
      swarm export gpt-cpu-2026 --project gpt-cpu --format jsonl
    """
    with connected(coordinator) as client:
        chosen = client.get_project(client.choose_project(project))
        write_dump(client, chosen, folder, formats or list(ExportFormat), lambda line: typer.echo(line, err=True))
        typer.echo(folder)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An export, or a snapshot.")],
    since: Annotated[Path | None, typer.Option(help="The file `checkpoint` of an earlier export or snapshot.")] = None,
    key: Annotated[str | None, typer.Option(help="The verifier key that you trust.")] = None,
) -> None:
    """Check offline that an export holds what was entered in the signed log, and that nothing was removed or rewritten.

    Exit status 1 if anything is wrong.

    \b
    Examples:
      swarm verify gpt-2026
      swarm verify gpt-2026 --since gpt-2025/checkpoint
    """
    with expected_errors():
        verdict = verify_folder(folder, since, key)
    for line in verdict.notes:
        typer.echo(clean(line))
    for problem in verdict.problems:
        typer.echo(clean(f"wrong      {problem}."))
    typer.echo("Not verified." if verdict.problems else "Verified: all results and papers are those of the log.")
    raise typer.Exit(1 if verdict.problems else 0)


@app.command()
def publish(
    snapshot: Annotated[Path, typer.Argument(help="A snapshot, as `swarm-coordinator snapshot` wrote it.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
) -> None:
    """Prepare a snapshot for Zenodo and Hugging Face on this disk, and say what to send by which command.

    Example:  swarm publish gpt-2026-11 to-publish
    """
    with expected_errors(OSError):
        for line in prepare(snapshot, folder):
            typer.echo(clean(line))


@app.command()
def mcp(project: AnyProject = None, coordinator: Url = DEFAULT_URL) -> None:
    """Serve the findings to any agent, over the Model Context Protocol on stdin and stdout.

    Needs: pip install "research-swarm\\[mcp]".

    \b
    Example, for an agent's configuration:
      {"command": "swarm", "args": ["mcp", "--coordinator", "https://swarm.example.org"]}
    """
    try:
        from swarm.mcp_server import make_server  # noqa: PLC0415  an extra of the package
    except ModuleNotFoundError as error:
        typer.echo(f"swarm: {error.name} is not installed: pip install 'research-swarm[mcp]'", err=True)
        raise typer.Exit(1) from error
    with connected(coordinator) as client:
        make_server(client, project).run()


@app.command()
def demo(
    experiments: Annotated[
        int | None, typer.Option(min=1, help="Number of experiments to finish.  [default: go on until Ctrl-C]")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the coordinator; 0 picks a free one.")] = 8000,
    folder: Annotated[Path, typer.Option(help="The folder of database, logs and the worker's files.")] = Path(".swarm"),
    seed: Annotated[str, typer.Option(help="The seed to work on: its name, or a folder.")] = "gpt-cpu",
) -> None:
    """Run a whole swarm here: a coordinator and one CPU worker, which searches without an LLM.

    Example:  swarm demo --experiments 6
    """
    with expected_errors():
        status = run_demo(DemoOptions(folder, seed, port, experiments), Console())
    raise typer.Exit(status)


def main() -> None:
    """Entry point of `swarm`."""
    app()
