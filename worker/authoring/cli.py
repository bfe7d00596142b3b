"""Commands for people who write seeds. Only what `--help` needs is imported here."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.options import with_settings

if TYPE_CHECKING:
    from worker.authoring.local_run import TreeRunner, WorkTree
    from worker.authoring.view import View

app = typer.Typer()

SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")
"""A project's name; anything else is a folder."""

Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, for programs.")]
Folder = Annotated[
    str, typer.Argument(metavar="SEED", help="A folder with swarm.toml, or a seed of the package: gpt, gpt-cpu, codec.")
]


@app.command("run-local")
@with_settings("device", "cores", "sandbox", "data_dir")
def run_local(
    flags: dict[str, Any],
    folder: Folder,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The harness's seed.")] = 1,
    rung: Annotated[str | None, typer.Option(help="A rung of the contract: its budget and its settings.")] = None,
    as_json: Json = False,
) -> None:
    """Run a work tree once, exactly as a job would: same sandboxes, clock, data and scoring.

    Without a device it runs on the CPU. The summary goes to stdout; progress goes to stderr. Exit status 1 if the run
    has no metric.

    \b
    Examples:
      swarm-worker run-local codec
      swarm-worker run-local gpt --device cuda:0
      swarm-worker run-local . --seed 7 --json | jq .loss
    """
    with _opened(folder, as_json, flags) as (tree, runner, view):
        report = runner.measure(tree, seed, rung=rung)
    from shared.runs import RunOutcome
    from worker.runs.report import summarize

    if as_json:
        view.emit("result", **report.model_dump(mode="json"))
    else:
        sys.stdout.write(summarize(report, tree.contract))
    if report.outcome is not RunOutcome.OK:
        if report.log_tail:
            view.show("The last lines that it printed:")
            sys.stderr.write(report.log_tail + "\n")
        raise typer.Exit(1)


@app.command()
@with_settings("device", "cores", "sandbox", "data_dir")
def noise(
    flags: dict[str, Any],
    folder: Folder,
    runs: Annotated[int, typer.Option(min=2, help="Runs with one seed, and as many with a seed each.")] = 5,
    as_json: Json = False,
) -> None:
    """Measure how much a commit's results differ: mean, sd and range, with one seed and with several.

    Without a device it runs on the CPU. Its last line suggests the contract's evidence.noise_sd.

    \b
    Examples:
      swarm-worker noise gpt-cpu --runs 5 --cores 2
      swarm-worker noise . --json | tail -1 | jq .varied_seeds.sd
    """
    from worker.authoring.check import measure_noise

    with _opened(folder, as_json, flags) as (tree, runner, view):
        found = measure_noise(runner, tree, runs, view)
    view.emit("noise", **found.to_json())
    if not as_json:
        typer.echo(found.describe(tree.contract))


@app.command()
@with_settings("device", "cores", "sandbox", "data_dir")
def check(
    flags: dict[str, Any],
    folder: Folder,
    runs: Annotated[int, typer.Option(min=0, help="Seeds to measure the noise with; 0 or 1: not at all.")] = 3,
    as_json: Json = False,
) -> None:
    """Find missing or unsafe parts of a seed: read it, run it once, measure its noise.

    Without a device it runs on the CPU. Exit status 1 if an error prevents its publication.

    \b
    Examples:
      swarm-worker check codec
      swarm-worker check my-goal --runs 0
    """
    from worker.authoring.check import Level, check_seed

    failed = False
    with _opened(folder, as_json, flags) as (tree, runner, view):
        for remark in check_seed(runner, tree, runs, view):
            failed = failed or remark.level is Level.ERROR
            view.emit("remark", level=remark.level.value, text=remark.text)
            if not as_json:
                typer.echo(f"{remark.level.value:8} {remark.text}")
    if failed:
        raise typer.Exit(1)


@app.command()
@with_settings("coordinator_url", "sandbox", "data_dir")
def prepare(
    flags: dict[str, Any],
    project: Annotated[str, typer.Argument(help="A seed's folder, or the name of a project of the coordinator.")],
) -> None:
    """Download and prepare a project's data ahead of time, and print its folder. A worker does this on first use.

    \b
    Examples:
      swarm-worker prepare seed/gpt
      swarm-worker prepare gpt --coordinator https://swarm.example.org
    """
    from worker.authoring.local_run import fetch_tree, open_runner, read_tree
    from worker.authoring.view import View
    from worker.settings import load_settings

    settings = load_settings(flags | {"device": "cpu"})
    is_name = SLUG.fullmatch(project) is not None and not Path(project).exists()
    tree = fetch_tree(project, settings) if is_name else read_tree(project)
    with open_runner(settings, View(as_json=False)) as runner:
        typer.echo(runner.prepare(tree))


@app.command("new-project")
def new_project(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder; the project is named after it.")],
) -> None:
    """Write a new project to start from: a commented contract, and a small harness that already runs.

    \b
    Example:
      swarm-worker new-project fast-words
      swarm-worker check fast-words
      swarm-coordinator create-project fast-words
    """
    from worker.authoring.new_project import write_project

    for path in write_project(folder):
        typer.echo(path)
    typer.echo(f"Next: swarm-worker check {folder}", err=True)


@contextmanager
def _opened(folder: str, as_json: bool, flags: dict[str, Any]) -> "Iterator[tuple[WorkTree, TreeRunner, View]]":
    """The work tree in a folder, a runner with these settings, and a view of its runs."""
    from worker.authoring.local_run import open_runner, read_tree
    from worker.authoring.view import View
    from worker.settings import load_settings

    view, tree = View(as_json), read_tree(folder)
    with open_runner(load_settings(flags), view) as runner:
        yield tree, runner, view
