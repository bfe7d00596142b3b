"""`swarm records | findings | tried | show | lineage | diff | experiments`: commands that look things up."""

from itertools import islice
from typing import Annotated

import typer
from rich.console import Console

from shared.experiments import Verdict
from shared.findings import FailureClass
from swarm.client import DEFAULT_URL, CoordinatorError
from swarm.connection import AnyProject, Commit, Json, Limit, Project, Url, connected
from swarm.lookups import (
    choose_project,
    find_experiment_sha,
    is_id,
    read_question,
    show_comparison,
    show_experiment,
    show_tried,
    tabulate_hits,
    tabulate_lineage,
    tabulate_records,
)
from swarm.output import print_rows, write_json
from swarm.tables import build_experiments_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look into a research swarm: what was found, what was tried, and how sure that is.\n\n"
    "Reading needs no account. Name the coordinator once: export SWARM_COORDINATOR_URL=https://swarm.example.org. "
    "Where reading is closed, put a token into a file and its name into SWARM_TOKEN_FILE.",
)


@app.command()
def records(project: AnyProject = None, json: Json = None, coordinator: Url = DEFAULT_URL) -> None:
    """The best verified commit in each hardware class, and the one that leads without being verified yet.

    \b
    Examples:
      swarm records
      swarm records --json project,record.sha,record.posterior.metric_mean
    """
    with connected(coordinator) as client:
        found = client.list_records(project)
        if json is not None:
            write_json(found, json)
        else:
            print_rows(tabulate_records(found), "Nothing was measured yet.")


@app.command()
def findings(
    words: Annotated[str, typer.Argument(help="What to look for, in a few words.")],
    project: AnyProject = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only these: `worse` finds what did not work.")] = None,
    failure: Annotated[FailureClass | None, typer.Option(help="Only what failed so, for example `slower`.")] = None,
    axis: Annotated[str | None, typer.Option(help="Only along this axis, for example WEIGHT_DECAY.")] = None,
    hardware_class: Annotated[str | None, typer.Option(help="Only measured on this.")] = None,
    limit: Limit = 10,
    json: Json = None,
    coordinator: Url = DEFAULT_URL,
) -> None:
    """Search the papers that agents left behind, negative results included.

    \b
    Examples:
      swarm findings "weight decay on embeddings"
      swarm findings "larger batch" --verdict worse
      swarm findings warmup --json finding.id,finding.claim,finding.posterior.effect_mean
    """
    with connected(coordinator) as client:
        hits = client.search_findings(
            words, project, limit, verdict=verdict, failure=failure, axis=axis, hardware_class=hardware_class
        )  # fmt: skip
        if json is not None:
            write_json(hits, json)
        else:
            print_rows(tabulate_hits(hits), "Nothing was found. Try fewer or other words.")


@app.command()
def tried(
    question: Annotated[str, typer.Argument(metavar="FILE_OR_SENTENCE", help="A diff's file, - for stdin, or words.")],
    project: Project = None,
    json: Json = None,
    coordinator: Url = DEFAULT_URL,
) -> None:
    """Has this been tried? Asked with a sentence or a diff, answered with what came of it.

    \b
    Examples:
      swarm tried "halve the learning rate of the embeddings"
      git diff | swarm tried -
      swarm tried idea.patch --json answer
    """
    with connected(coordinator) as client:
        answer = client.ask_whether_tried(choose_project(client, project), read_question(question))
        if json is not None:
            write_json([answer], json)
        else:
            show_tried(answer, Console())


@app.command()
def show(
    experiment: Annotated[int, typer.Argument(metavar="ID", min=1, help="An experiment's number.")],
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Its finding as a BibTeX entry, and nothing else.")] = False,
    json: Json = None,
    coordinator: Url = DEFAULT_URL,
) -> None:
    """One experiment: its numbers with their uncertainty, its author's words, its runs.

    \b
    Examples:
      swarm show 17
      swarm show 17 --json sha,posterior
      swarm show 17 --bibtex >> papers.bib
    """
    with connected(coordinator) as client:
        detail = client.get_experiment(experiment)
        if bibtex:
            if detail.finding is None:
                raise CoordinatorError(f"#{experiment} has no finding.")
            typer.echo(client.cite(detail.finding.id), nl=False)
        elif json is not None:
            write_json([detail], json)
        else:
            show_experiment(detail, client.get_paper(detail.finding.id) if detail.finding else None, Console())


@app.command()
def lineage(
    commit: Commit,
    limit: Annotated[int, typer.Option(min=1, help="Steps at most.")] = 50,
    json: Json = None,
    coordinator: Url = DEFAULT_URL,
) -> None:
    """How a commit came about: it and its ancestors up to the seed, with what each step did.

    \b
    Examples:
      swarm lineage 17
      swarm lineage 3f2a91 --json sha,title,posterior.effect_mean
    """
    with connected(coordinator) as client:
        steps = islice(client.iterate_lineage(find_experiment_sha(client, commit)), limit)
        if json is not None:
            write_json(steps, json)
        else:
            print_rows(tabulate_lineage(steps), "It has no history.")


@app.command()
def diff(
    a: Commit, b: Commit, project: Project = None, json: Json = None, coordinator: Url = DEFAULT_URL
) -> None:  # fmt: skip
    """What differs between two commits: the code on stdout, the measurements on stderr.

    \b
    Examples:
      swarm diff 3 17
      swarm diff 3 17 > step.patch && git apply step.patch
    """
    with connected(coordinator) as client:
        shas = [find_experiment_sha(client, text) for text in (a, b)]
        chosen = client.get_experiment(int(a)).project if project is None and is_id(a) else project
        comparison = client.compare(choose_project(client, chosen), *shas)
        if json is not None:
            write_json([comparison], json)
        else:
            show_comparison(comparison, Console(), Console(stderr=True))


@app.command("experiments")
def list_experiments(
    project: Annotated[str, typer.Argument(help="The project's name, for example gpt-cpu.")],
    limit: Limit = 20,
    json: Json = None,
    coordinator: Url = DEFAULT_URL,
) -> None:
    """List a project's newest experiments.

    \b
    Examples:
      swarm experiments gpt-cpu
      swarm experiments gpt-cpu --json id,title | jq .title
    """
    with connected(coordinator) as client:
        experiments = client.list_experiments(project, limit)
        if json is not None:
            write_json(experiments, json)
        else:
            Console().print(build_experiments_table(experiments, client.get_progress(project).metric))
