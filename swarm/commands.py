"""The reading commands: `swarm records | findings | tried | show | lineage | diff | compare | ...`."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shared.command_options import CommandGroup
from shared.findings import FindingSummary, SearchHit, Tried
from shared.formatting import clean_lines
from shared.projects import ProjectMode, ProjectView
from shared.records import Comparison, ExperimentDetail, ExperimentSort, ExperimentSummary, LineageStep, Record
from shared.runs import RunOutcome, RunView
from shared.topics import TopicSort, TopicSummary
from swarm.client import DEFAULT_URL, Client, CoordinatorError
from swarm.listing import CommandError
from swarm.output import (
    AnyProject,
    Ascending,
    Commit,
    Json,
    Limit,
    Project,
    Url,
    build_experiments_table,
    connected,
    print_rows,
    with_filters,
    with_project,
    write,
)
from swarm.tables import (
    WORDS_ONLY,
    show_comparison,
    show_experiment,
    show_tried,
    tabulate_comparison,
    tabulate_findings,
    tabulate_hits,
    tabulate_lineage,
    tabulate_projects,
    tabulate_records,
    tabulate_runs,
    tabulate_topics,
)

MAX_FILE_NAME = 255
"""Maximum characters of a file's name: a longer argument of `swarm tried` is a sentence."""

_FILE = re.compile(r"(?:~|\.{0,2})/\S*|\S*[^\s.]\.(?:patch|diff|txt|md|py)", re.IGNORECASE)
"""The form of an argument that is meant as a file: a path, or a name with the ending of a change or a text."""

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Read a research swarm: its findings, experiments and records, with their uncertainty.\n\n"
    "Reading needs no account. Name the coordinator once: export SWARM_COORDINATOR_URL=https://swarm.example.org. "
    "Where reading is closed, put a token into a file and its name into SWARM_TOKEN_FILE.",
)


@app.command()
@with_filters
@with_project
def records(filters: dict[str, Any], project: str | None, json: Json = None, coordinator: Url = DEFAULT_URL) -> None:
    """List the best verified commit of each hardware class, and a better one that is not verified yet.

    \b
    Examples:
      swarm records
      swarm records --volunteer ada
      swarm records --json project,record.sha,record.posterior.metric_mean
    """
    with connected(coordinator) as client:
        found = client.list_records(project, **filters)
        write(Record, found, json, lambda: print_rows(tabulate_records(found), "There are no measurements yet."))


@app.command()
@with_filters
def projects(
    filters: dict[str, Any],
    mode: Annotated[ProjectMode | None, typer.Option(help="Only projects that give jobs so.")] = None,
    json: Json = None, coordinator: Url = DEFAULT_URL,
) -> None:  # fmt: skip
    """List the research questions.

    \b
    Examples:
      swarm projects
      swarm projects --mode running --json name,question
    """
    with connected(coordinator) as client:
        found = client.list_projects(mode=mode, **filters)
        write(ProjectView, found, json, lambda: print_rows(tabulate_projects(found), "There are no projects yet."))


@app.command()
@with_filters
@with_project
def topics(
    filters: dict[str, Any],
    project: str | None,
    sort: Annotated[TopicSort, typer.Option(help="The order, highest or newest first.")] = TopicSort.NEWEST,
    ascending: Ascending = False,
    limit: Limit = 20, json: Json = None, coordinator: Url = DEFAULT_URL,
) -> None:  # fmt: skip
    """List the axes along which a project was explored, and what came of it.

    An axis is listed if one of its experiments fits. But `--text` is a part of the axis, and `--since` and `--until`
    are of its newest experiment.

    \b
    Examples:
      swarm topics
      swarm topics --sort improved --verdict worse --json axis,experiments,improved
    """
    with connected(coordinator) as client:
        found = client.list_topics(client.choose_project(project), limit, sort=sort, ascending=ascending, **filters)
        write(TopicSummary, found, json, lambda: print_rows(tabulate_topics(found), "Nothing was tried yet."))


@app.command()
@with_filters
def findings(
    filters: dict[str, Any],
    words: Annotated[str | None, typer.Argument(help="The search, in a few words.  [default: list all]")] = None,
    project: AnyProject = None,
    sort: Annotated[ExperimentSort | None, typer.Option(help="The order of a list without words.")] = None,
    ascending: Ascending = False,
    limit: Limit = 10, json: Json = None, coordinator: Url = DEFAULT_URL,
) -> None:  # fmt: skip
    """Search the findings, or list them; negative results included.

    \b
    Examples:
      swarm findings "weight decay on embeddings"
      swarm findings "larger batch" --verdict worse
      swarm findings --sort best --axis WEIGHT_DECAY
      swarm findings warmup --json finding.id,finding.claim,finding.posterior.effect_mean
    """
    with connected(coordinator) as client:
        if words is None:
            order = {"sort": sort, "ascending": ascending or None}
            found = client.list_findings(_choose_for(client, project, sort), limit, **order, **filters)
            write(FindingSummary, found, json, lambda: print_rows(tabulate_findings(found), "No finding fits."))
            return
        if sort is not None or ascending:
            raise CommandError("a search has the best match first; leave out --sort or the words.")
        page = client.search_page(words, project, limit, **filters)
        if not page.meaning_used:
            typer.echo(WORDS_ONLY, err=True)
        if page.waiting_for_vectors:
            notice = f"{page.waiting_for_vectors} findings are not indexed by meaning yet: the order may still change."
            typer.echo(notice, err=True)
        hits, nothing = page.items, "No finding matches. Try fewer or other words."
        write(SearchHit, hits, json, lambda: print_rows(tabulate_hits(hits), nothing))


def _choose_for(client: Client, project: str | None, sort: ExperimentSort | None) -> str | None:
    """The project of a list: orders by numbers need one."""
    by_number = sort in (ExperimentSort.BEST, ExperimentSort.EFFECT, ExperimentSort.METRIC)
    return client.choose_project(project) if by_number else project


@app.command()
def tried(
    question: Annotated[str, typer.Argument(metavar="FILE_OR_SENTENCE", help="A diff's file, -, or a sentence.")],
    project: Project = None, json: Json = None, coordinator: Url = DEFAULT_URL,
) -> None:  # fmt: skip
    """Ask whether an idea was tried: a sentence or a diff, answered with the results of similar experiments.

    \b
    Examples:
      swarm tried "halve the learning rate of the embeddings"
      git diff | swarm tried -
      swarm tried idea.patch --json answer
    """
    with connected(coordinator) as client:
        text = read_question(question)
        answer = client.ask_whether_tried(client.choose_project(project), text)
        write(Tried, [answer], json, lambda: show_tried(answer, Console()))


def read_question(text: str) -> str:
    """The question: the content of a file, of stdin for `-`, or the sentence itself. Raises CommandError for what looks
    like a file and is none."""
    if text == "-":
        return typer.get_text_stream("stdin").read()
    path = Path(text)
    if not text or len(text) > MAX_FILE_NAME or "\n" in text:
        return text
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path} cannot be read: {error}.") from error
    if _FILE.fullmatch(text) or path.is_dir():
        what = "is a folder" if path.is_dir() else "is not there"
        raise CommandError(f"the file {text} {what}. If it is a sentence, write it in more words than one.")
    return text


@app.command()
def show(
    experiment: Annotated[int, typer.Argument(metavar="ID", min=1, help="An experiment's number.")],
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Only its finding, as a BibTeX entry.")] = False,
    json: Json = None, coordinator: Url = DEFAULT_URL,
) -> None:  # fmt: skip
    """Show one experiment: its numbers with their uncertainty, its author's text, its runs.

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
            typer.echo(clean_lines(client.cite(detail.finding.id)), nl=False)
        else:
            paper = client.get_paper(detail.finding.id) if detail.finding and json is None else None
            write(ExperimentDetail, [detail], json, lambda: show_experiment(detail, paper, Console()))


@app.command()
def lineage(
    commit: Commit,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of commits.")] = 50,
    json: Json = None, coordinator: Url = DEFAULT_URL,
) -> None:  # fmt: skip
    """List a commit and its ancestors up to the seed, with the effect of each.

    \b
    Examples:
      swarm lineage 17
      swarm lineage 3f2a91 --json sha,title,posterior.effect_mean
    """
    with connected(coordinator) as client:
        steps = client.list_lineage(commit, limit)
        write(LineageStep, steps, json, lambda: print_rows(tabulate_lineage(steps), "It has no history."))


@app.command()
def diff(
    a: Commit, b: Commit, project: Project = None, json: Json = None, coordinator: Url = DEFAULT_URL
) -> None:  # fmt: skip
    """Compare two commits: the diff on stdout, the measurements on stderr.

    \b
    Examples:
      swarm diff 3 17
      swarm diff 3 17 > step.patch && git apply step.patch
    """
    with connected(coordinator) as client:
        comparison = client.compare(a, b, project)
        write(Comparison, [comparison], json, lambda: show_comparison(comparison, Console(), Console(stderr=True)))
        if comparison.no_diff:
            raise CommandError(comparison.no_diff)


@app.command()
def compare(
    a: Commit,
    others: Annotated[list[str], typer.Argument(metavar="B...", help="The commits to compare it with, likewise.")],
    project: Project = None, json: Json = None, coordinator: Url = DEFAULT_URL,
) -> None:  # fmt: skip
    """Compare a commit's measurements with those of others, in each hardware class that measured both.

    \b
    Examples:
      swarm compare 3 17
      swarm compare 3 17 18 19 --json b_experiment_id,classes
    """
    with connected(coordinator) as client:
        found = [client.compare(a, other, project) for other in others]
        write(Comparison, found, json, lambda: Console().print(*map(tabulate_comparison, found)))


@app.command("experiments")
@with_filters
@with_project
def list_experiments(
    filters: dict[str, Any],
    project: str | None,
    sort: Annotated[ExperimentSort, typer.Option(help="The order; `best` by metric.")] = ExperimentSort.NEWEST,
    ascending: Ascending = False,
    limit: Limit = 20, json: Json = None, coordinator: Url = DEFAULT_URL,
) -> None:  # fmt: skip
    """List a project's experiments, the newest first by default.

    \b
    Examples:
      swarm experiments gpt-cpu
      swarm experiments gpt-cpu --sort best --limit 10
      swarm experiments gpt-cpu --verdict worse --axis WEIGHT_DECAY --json id,title,posterior.effect_mean
    """
    with connected(coordinator) as client:
        project = client.choose_project(project)
        experiments = client.list_experiments(project, limit, sort=sort, ascending=ascending, **filters)
        metric = client.get_progress(project).metric

        def show() -> None:
            print_rows(build_experiments_table(experiments, metric), "No experiment fits.")

        write(ExperimentSummary, experiments, json, show)


@app.command()
@with_filters
@with_project
def runs(
    filters: dict[str, Any],
    project: str | None,
    outcome: Annotated[RunOutcome | None, typer.Option(help="Only runs that ended so.")] = None,
    experiment: Annotated[list[int] | None, typer.Option(min=1, help="Only this one's; may be repeated.")] = None,
    sort: Annotated[str, typer.Option(help="`newest`, `done`, `metric`, `tokens`, or any other metric.")] = "newest",
    ascending: Ascending = False,
    limit: Limit = 20, json: Json = None, coordinator: Url = DEFAULT_URL,
) -> None:  # fmt: skip
    """List a project's runs: one measurement each.

    \b
    Examples:
      swarm runs --outcome crashed
      swarm runs --experiment 17 --json id,worker,metric,seconds.training
    """
    with connected(coordinator) as client:
        found = client.list_runs(
            client.choose_project(project), limit, outcome=outcome, experiment=experiment, sort=sort,
            ascending=ascending, **filters,
        )  # fmt: skip
        write(RunView, found, json, lambda: print_rows(tabulate_runs(found), "No run fits."))
