"""The reading commands: `swarm records | findings | tried | show | lineage | diff | experiments`."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from shared.experiments import Verdict
from shared.findings import FailureClass, FindingSummary, Paper, SearchHit, Tried
from shared.formatting import format_effect, format_measure, format_ratio
from shared.records import Comparison, ExperimentDetail, LineageStep, PromotionView, Record, RecordCommit
from swarm.client import DEFAULT_URL, CommandError, CoordinatorError
from swarm.output import (
    NOTHING,
    AnyProject,
    Commit,
    Json,
    Limit,
    Project,
    Url,
    build_experiments_table,
    connected,
    count_runs,
    format_gain,
    format_metric,
    format_verdict,
    make_table,
    print_rows,
    write,
)

SHORT_SHA = 10
MAX_FILE_NAME = 255
"""Maximum characters of a file's name: a longer argument of `swarm tried` is a sentence."""

WORDS_ONLY = "Search by meaning is not available now: these results match by words only."

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Read a research swarm: its findings, experiments and records, with their uncertainty.\n\n"
    "Reading needs no account. Name the coordinator once: export SWARM_COORDINATOR_URL=https://swarm.example.org. "
    "Where reading is closed, put a token into a file and its name into SWARM_TOKEN_FILE.",
)


@app.command()
def records(project: AnyProject = None, json: Json = None, coordinator: Url = DEFAULT_URL) -> None:
    """List the best verified commit of each hardware class, and a better one that is not verified yet.

    \b
    Examples:
      swarm records
      swarm records --json project,record.sha,record.posterior.metric_mean
    """
    with connected(coordinator) as client:
        found = client.list_records(project)
        write(found, json, lambda: print_rows(tabulate_records(found), "There are no measurements yet."))


@app.command()
def findings(
    words: Annotated[str, typer.Argument(help="The search, in a few words.")],
    project: AnyProject = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only this verdict; `worse` finds failed ideas.")] = None,
    failure: Annotated[FailureClass | None, typer.Option(help="Only this failure, for example `slower`.")] = None,
    axis: Annotated[str | None, typer.Option(help="Only along this axis, for example WEIGHT_DECAY.")] = None,
    hardware_class: Annotated[str | None, typer.Option(help="Only this hardware class.")] = None,
    limit: Limit = 10, json: Json = None, coordinator: Url = DEFAULT_URL,
) -> None:  # fmt: skip
    """Search the findings, negative results included.

    \b
    Examples:
      swarm findings "weight decay on embeddings"
      swarm findings "larger batch" --verdict worse
      swarm findings warmup --json finding.id,finding.claim,finding.posterior.effect_mean
    """
    with connected(coordinator) as client:
        page = client.search_page(
            words, project, limit, verdict=verdict, failure=failure, axis=axis, hardware_class=hardware_class
        )  # fmt: skip
        if not page.meaning_used:
            typer.echo(WORDS_ONLY, err=True)
        if page.waiting_for_vectors:
            notice = f"{page.waiting_for_vectors} findings are not indexed by meaning yet: the order may still change."
            typer.echo(notice, err=True)
        hits = page.items
        write(hits, json, lambda: print_rows(tabulate_hits(hits), "No finding matches. Try fewer or other words."))


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
        answer = client.ask_whether_tried(client.choose_project(project), read_question(question))
        write([answer], json, lambda: show_tried(answer, Console()))


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
            typer.echo(client.cite(detail.finding.id), nl=False)
        else:
            paper = client.get_paper(detail.finding.id) if detail.finding and json is None else None
            write([detail], json, lambda: show_experiment(detail, paper, Console()))


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
        steps = islice(client.iterate_lineage(client.find_sha(commit)), limit)
        write(steps, json, lambda: print_rows(tabulate_lineage(steps), "It has no history."))


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
        comparison = client.compare(project, a, b)
        write([comparison], json, lambda: show_comparison(comparison, Console(), Console(stderr=True)))
        if comparison.no_diff:
            raise CommandError(comparison.no_diff)


@app.command("experiments")
def list_experiments(
    project: Annotated[str, typer.Argument(help="The project's name, for example gpt-cpu.")],
    limit: Limit = 20, json: Json = None, coordinator: Url = DEFAULT_URL,
) -> None:  # fmt: skip
    """List a project's newest experiments.

    \b
    Examples:
      swarm experiments gpt-cpu
      swarm experiments gpt-cpu --json id,title | jq .title
    """
    with connected(coordinator) as client:
        experiments = client.list_experiments(project, limit)
        metric = client.get_progress(project).metric
        write(experiments, json, lambda: Console().print(build_experiments_table(experiments, metric)))


def tabulate_records(records: Iterable[Record]) -> Table:
    rows: list[list[object]] = []
    for record in records:
        rows.append([f"{record.project}\n{record.hardware_class}", "verified", *_describe_record(record.record)])
        rows += [_describe_promotion(one) for one in record.record.promotions] if record.record else []
        if record.leader is not None and (record.record is None or record.leader.sha != record.record.sha):
            rows.append(["", record.leader.posterior.standing, *_describe(record.leader)])
    return make_table(["*project, hardware class", "standing", ">#", ">metric", ">gain", ">n"], rows)


def _describe_record(commit: RecordCommit | None) -> list[object]:
    """As `_describe`, in the published number, which runs that took no part in choosing the commit give."""
    said = commit.confirmation if commit is not None else None
    if commit is None or said is None:
        return _describe(commit)
    of = commit.experiment_id or "seed"
    if said.metric_mean is None or said.metric_sd is None:
        return [of, f"confirmation under way: {said.runs} of {said.wanted}", NOTHING, said.runs]
    gain = NOTHING if said.gain_mean is None or said.gain_sd is None else format_effect(said.gain_mean, said.gain_sd)
    return [of, format_measure(said.metric_mean, said.metric_sd), gain, said.runs]


def _describe_promotion(one: PromotionView) -> list[object]:
    """A row: the effect on the rung beside the commit that was promoted before, and the share that was carried over."""
    effect = NOTHING
    if one.effect_mean is not None and one.effect_sd is not None:
        effect = format_effect(one.effect_mean, one.effect_sd)
    standing = "provisional" if one.holds is None else "promoted" if one.holds else "does not hold"
    return [
        "",
        f"{standing} on {one.rung}",
        one.experiment_id or "seed",
        f"transfer ratio {format_ratio(one.transfer_ratio, one.transfer_low, one.transfer_high)}",
        effect,
        one.pairs,
    ]


def _describe(commit: RecordCommit | None) -> list[object]:
    if commit is None:
        return [NOTHING, "none yet", NOTHING, 0]
    gain = NOTHING
    if commit.gain_mean is not None and commit.gain_sd is not None:
        gain = format_effect(commit.gain_mean, commit.gain_sd)
    return [commit.experiment_id or "seed", format_metric(commit.posterior), gain, commit.posterior.runs]


def tabulate_hits(hits: Iterable[SearchHit]) -> Table:
    rows = (
        [found.id, _summarize(found), format_gain(found.posterior), count_runs(found.posterior), _judge(found)]
        for found in (hit.finding for hit in hits)
    )
    return make_table([">finding", "*what was tried, and the claim", ">effect", ">n", "verdict"], rows)


def _summarize(finding: FindingSummary) -> str:
    """The title, followed by the claim unless that repeats it."""
    return finding.title if finding.claim.startswith(finding.title) else f"{finding.title}: {finding.claim}"


def _judge(finding: FindingSummary) -> str:
    """The verdict, or the outcome of a run without measurements."""
    return format_verdict(finding.posterior).split(",")[0] if finding.posterior else finding.outcome


def read_question(text: str) -> str:
    """The question: the content of a file, of stdin for `-`, or the sentence itself."""
    if text == "-":
        return typer.get_text_stream("stdin").read()
    path = Path(text)
    if len(text) <= MAX_FILE_NAME and "\n" not in text and path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CoordinatorError(f"{path} cannot be read: {error}.") from error
    return text


def show_tried(tried: Tried, console: Console) -> None:
    console.print(Text(tried.answer))
    if not tried.meaning_used:
        console.print(Text(WORDS_ONLY))
    if tried.before:
        rows = (
            [found.id, likeness.replace("_", " "), found.title, format_gain(found.posterior), _judge(found)]
            for found, likeness in ((before.hit.finding, before.likeness) for before in tried.before)
        )
        console.print(make_table([">finding", "how alike", "*what was tried", ">effect", "verdict"], rows))
    for running in tried.now:
        console.print(Text(f"Running now: {running.title} ({running.likeness.replace('_', ' ')})"))


def show_experiment(experiment: ExperimentDetail, paper: Paper | None, console: Console) -> None:
    """Prints an experiment: numbers first, then the author's text, then the runs."""
    posterior = experiment.posterior
    console.print(Text(f"#{experiment.id} {experiment.title}", style="bold"))
    parent = f"#{experiment.parent_id}" if experiment.parent_id else "the seed"
    facts: dict[str, str | Text] = {
        "verdict": format_verdict(posterior) if posterior else experiment.outcome,
        "metric": f"{format_metric(posterior)}, n = {posterior.runs}" if posterior else NOTHING,
        "effect": format_gain(posterior),
        "axis": f"{experiment.axis} {experiment.direction} {experiment.value}".strip(),
        "measured on": experiment.hardware_class,
        "commit": experiment.sha,
        "parent": f"{experiment.parent_sha[:SHORT_SHA]}, {parent}",
        "why": experiment.why,
        "expected": experiment.hypothesis,
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value:
            grid.add_row(Text(name, style="dim"), Text(value) if isinstance(value, str) else value)
    console.print(grid)
    if paper is not None:
        _show_text(paper, console)
    runs = (
        [run.id, run.worker, run.outcome, f"{run.metric:.6g}" if run.metric is not None else NOTHING, run.reason]
        for run in experiment.runs
    )
    console.print(make_table([">run", "worker", "outcome", ">metric", "*reason"], runs))


def _show_text(paper: Paper, console: Console) -> None:
    words = paper.words
    console.print(Text(f"\nFinding {words.id}, by {words.agent}: {words.claim}", style="bold"))
    parts = {
        "": words.mechanism, "But": words.caveats, "Refuted by": words.refuted_by, "Next": words.follow_ups,
    }  # fmt: skip
    for name, text in parts.items():
        if text:
            console.print(Padding(Text(f"{name}: {text}" if name else text), (0, 0, 0, 2)))
    for change in paper.changes:
        console.print(Padding(Text(change.words, style="italic"), (0, 0, 0, 2)))
    console.print()


def tabulate_lineage(steps: Iterable[LineageStep]) -> Table:
    rows = (
        [
            step.sha[:SHORT_SHA], step.experiment_id or "seed", step.title,
            format_metric(step.posterior), format_gain(step.posterior), count_runs(step.posterior),
        ]
        for step in steps
    )  # fmt: skip
    return make_table(["commit", ">#", "*what was changed", ">metric", ">effect", ">n"], rows)


def show_comparison(comparison: Comparison, console: Console, errors: Console) -> None:
    """Prints the diff on stdout, coloured at a terminal, and the measurements on stderr."""
    for known in comparison.classes:
        if known.difference_mean is not None and known.difference_sd is not None and known.a and known.b:
            difference = format_effect(known.difference_mean, known.difference_sd)
            one = format_measure(known.a.metric_mean, known.a.metric_sd)
            other = format_measure(known.b.metric_mean, known.b.metric_sd)
            errors.print(Text(f"{difference}  ({one} → {other})  on {known.hardware_class}"), soft_wrap=True)
    if console.is_terminal:
        console.print(Syntax(comparison.diff, "diff", background_color="default", word_wrap=True))
    else:
        typer.echo(comparison.diff, nl=False)
