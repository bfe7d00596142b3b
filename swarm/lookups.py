"""`swarm records | findings | tried | show | lineage | diff`: looking things up."""

from collections.abc import Iterable
from pathlib import Path

import typer
from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from shared.findings import FindingSummary, Paper, SearchHit, Tried
from shared.formatting import format_effect, format_measure
from shared.records import Comparison, ExperimentDetail, LineageStep, Record, RecordCommit
from swarm.client import Client, CoordinatorError
from swarm.output import add_row, make_table
from swarm.tables import NOTHING, format_gain, format_metric, say_verdict

SHORT_SHA = 10
MAX_ARGUMENT = 255
"""So many characters a file's name has at most: a longer argument is a sentence."""


def choose_project(client: Client, name: str | None) -> str:
    """The project that is named, or the only one. Raises CoordinatorError."""
    if name is not None:
        return name
    known = [project.name for project in client.list_projects()]
    if len(known) != 1:
        raise CoordinatorError(f"{client.url} has {len(known)} projects: name one with --project. {', '.join(known)}")
    return known[0]


def find_experiment_sha(client: Client, text: str) -> str:
    """A commit by its sha, or by the number of the experiment that made it."""
    return client.get_experiment(int(text)).sha if is_id(text) else text


def is_id(text: str) -> bool:
    """Whether it is an experiment's number; seven digits and more are a sha."""
    return text.isdecimal() and len(text) < 7


def tabulate_records(records: Iterable[Record]) -> Table:
    table = make_table("*project, hardware class", "standing", ">#", ">metric", ">gain", ">n")
    for record in records:
        where = f"{record.project}\n{record.hardware_class}"
        add_row(table, [where, "verified", *_describe(record.record)])
        if record.leader is not None and (record.record is None or record.leader.sha != record.record.sha):
            add_row(table, ["", str(record.leader.posterior.standing), *_describe(record.leader)])
    return table


def _describe(commit: RecordCommit | None) -> list[object]:
    if commit is None:
        return [NOTHING, "none yet", NOTHING, 0]
    gain = NOTHING
    if commit.gain_mean is not None and commit.gain_sd is not None:
        gain = format_effect(commit.gain_mean, commit.gain_sd)
    return [commit.experiment_id or "seed", format_metric(commit.posterior), gain, commit.posterior.runs]


def tabulate_hits(hits: Iterable[SearchHit]) -> Table:
    table = make_table(">finding", "*what was tried, and the claim", ">effect", ">n", "verdict")
    for hit in hits:
        posterior = hit.finding.posterior
        verdict = say_verdict(posterior) if posterior else hit.finding.outcome
        count = posterior.runs if posterior else 0
        add_row(table, [hit.finding.id, _tell(hit.finding), format_gain(posterior), count, verdict.split(",")[0]])
    return table


def _tell(finding: FindingSummary) -> str:
    """The step and what its author made of it."""
    return finding.title if finding.claim.startswith(finding.title) else f"{finding.title}: {finding.claim}"


def read_question(text: str) -> str:
    """What is asked: the content of a file, of stdin for `-`, or the sentence itself."""
    if text == "-":
        return typer.get_text_stream("stdin").read()
    path = Path(text)
    if len(text) <= MAX_ARGUMENT and "\n" not in text and path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CoordinatorError(f"{path} cannot be read: {error}.") from error
    return text


def show_tried(tried: Tried, console: Console) -> None:
    console.print(Text(tried.answer))
    if tried.before:
        table = make_table(">finding", "how alike", "*what was tried", ">effect", "verdict")
        for before in tried.before:
            finding = before.hit.finding
            verdict = say_verdict(finding.posterior).split(",")[0] if finding.posterior else finding.outcome
            likeness = str(before.likeness).replace("_", " ")
            add_row(table, [finding.id, likeness, finding.title, format_gain(finding.posterior), verdict])
        console.print(table)
    for running in tried.now:
        console.print(Text(f"Running now: {running.title} ({str(running.likeness).replace('_', ' ')})"))


def show_experiment(experiment: ExperimentDetail, paper: Paper | None, console: Console) -> None:
    """One experiment for people: numbers first, then the author's words, then what was measured."""
    posterior = experiment.posterior
    console.print(Text(f"#{experiment.id} {experiment.title}", style="bold"))
    facts = {
        "verdict": say_verdict(posterior) if posterior else experiment.outcome,
        "metric": f"{format_metric(posterior)}, n = {posterior.runs}" if posterior else NOTHING,
        "effect": format_gain(posterior),
        "axis": f"{experiment.axis} {experiment.direction} {experiment.value}".strip(),
        "measured on": experiment.hardware_class,
        "commit": f"{experiment.sha}",
        "parent": f"{experiment.parent_sha[:SHORT_SHA]}"
        + (f", #{experiment.parent_id}" if experiment.parent_id else ", the seed"),
        "why": experiment.why,
        "expected": experiment.hypothesis,
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if str(value):
            grid.add_row(Text(name, style="dim"), value if isinstance(value, Text) else Text(str(value)))
    console.print(grid)
    if paper is not None:
        _show_words(paper, console)
    table = make_table(">run", "worker", "outcome", ">metric", "*reason")
    for run in experiment.runs:
        metric = f"{run.metric:.6g}" if run.metric is not None else NOTHING
        add_row(table, [run.id, run.worker, run.outcome, metric, run.reason])
    console.print(table)


def _show_words(paper: Paper, console: Console) -> None:
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
    table = make_table("commit", ">#", "*what was changed", ">metric", ">effect", ">n")
    for step in steps:
        count = step.posterior.runs if step.posterior else 0
        number = step.experiment_id or "seed"
        cells = [step.sha[:SHORT_SHA], number, step.title, format_metric(step.posterior), format_gain(step.posterior)]
        add_row(table, [*cells, count])
    return table


def show_comparison(comparison: Comparison, console: Console, errors: Console) -> None:
    """The diff on stdout, coloured at a terminal; what was measured on stderr."""
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
