"""`swarm`: the researcher's command line."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from swarm.client import DEFAULT_URL, Client, CoordinatorError
from swarm.demo import DemoOptions, run_demo
from swarm.demo_processes import DemoError
from swarm.tables import build_experiments_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look into a research swarm, or start a small one on this machine.",
)

Url = Annotated[str, typer.Option(envvar="SWARM_COORDINATOR_URL", help="The coordinator's address.")]


@app.command()
def demo(
    experiments: Annotated[
        int | None, typer.Option(min=1, help="End after so many finished experiments.  [default: go on until Ctrl-C]")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the coordinator; 0 picks a free one.")] = 8000,
    folder: Annotated[Path, typer.Option(help="Where database, logs and the worker's files are kept.")] = Path(
        ".swarm"
    ),
    seed: Annotated[Path, typer.Option(help="The seed to work on.")] = Path("seed/gpt-cpu"),
) -> None:
    """Run a whole swarm here: a coordinator, and one CPU worker that searches without an LLM.

    Example:  swarm demo --experiments 6
    """
    try:
        status = run_demo(DemoOptions(folder, seed, port, experiments), Console())
    except (DemoError, CoordinatorError) as error:
        typer.echo(f"swarm demo: {error}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(status)


@app.command("experiments")
def list_experiments(
    project: Annotated[str, typer.Argument(help="The project's name, for example gpt-cpu.")],
    coordinator: Url = DEFAULT_URL,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="One JSON document a line, for pipes.")] = False,
) -> None:
    """List a project's newest experiments.

    Example:  swarm experiments gpt-cpu --json | jq .title
    """
    try:
        with Client(coordinator) as client:
            experiments = client.list_experiments(project, limit)
            metric = client.get_progress(project).metric
    except CoordinatorError as error:
        typer.echo(f"swarm: {error}", err=True)
        raise typer.Exit(1) from error
    if json:
        for experiment in experiments:
            sys.stdout.write(experiment.model_dump_json() + "\n")
    else:
        Console().print(build_experiments_table(experiments, metric))


def main() -> None:
    """Entry point of `swarm`."""
    app()
