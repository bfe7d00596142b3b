"""Tables and texts of `swarm` for people: what its commands show of what the coordinator answers."""

from collections.abc import Iterable

import typer
from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from shared.findings import FindingSummary, Paper, SearchHit, Tried
from shared.formatting import clean_lines, format_effect, format_measure, format_ratio, format_run
from shared.projects import ProjectView
from shared.records import Comparison, ExperimentDetail, LineageStep, PromotionView, Record, RecordCommit
from shared.runs import RunView
from shared.topics import TopicSummary
from swarm.output import NOTHING, count_runs, cut_title, format_gain, format_metric, make_table

SHORT_SHA = 10
WORDS_ONLY = "Search by meaning is not available now: these results match by words only."


def tabulate_records(records: Iterable[Record]) -> Table:
    rows: list[list[object]] = []
    for record in records:
        standing = record.record.posterior.standing_words if record.record else "verified"
        rows.append([f"{record.project}\n{record.hardware_class}", standing, *_describe_record(record.record)])
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
    gain = format_effect(said.gain_mean, said.gain_sd)
    return [of, format_measure(said.metric_mean, said.metric_sd), gain, said.runs]


def _describe_promotion(one: PromotionView) -> list[object]:
    """A row: the effect on the rung beside the commit that was promoted before, and the share that was carried over."""
    standing = "provisional" if one.holds is None else "promoted" if one.holds else "does not hold"
    return [
        "",
        f"{standing} on {one.rung}",
        one.experiment_id or "seed",
        f"transfer ratio {format_ratio(one.transfer_ratio, one.transfer_low, one.transfer_high)}",
        format_effect(one.effect_mean, one.effect_sd),
        one.pairs,
    ]


def _describe(commit: RecordCommit | None) -> list[object]:
    if commit is None:
        return [NOTHING, "none yet", NOTHING, 0]
    gain = format_effect(commit.gain_mean, commit.gain_sd)
    return [commit.experiment_id or "seed", format_metric(commit.posterior), gain, commit.posterior.runs]


def tabulate_hits(hits: Iterable[SearchHit]) -> Table:
    return tabulate_findings(hit.finding for hit in hits)


def tabulate_findings(findings: Iterable[FindingSummary]) -> Table:
    rows = (
        [
            found.id,
            cut_title(found.headline, 2),
            format_gain(found.posterior),
            count_runs(found.posterior),
            _conclude(found),
        ]
        for found in findings
    )
    return make_table([">finding", "*what was tried, and the claim", ">effect", ">n", "verdict"], rows)


def _conclude(finding: FindingSummary) -> str:
    """The verdict, or the outcome of a run without measurements."""
    return finding.posterior.conclusion.split(",")[0] if finding.posterior else finding.outcome


def show_tried(tried: Tried, console: Console) -> None:
    console.print(Text(tried.answer))
    if not tried.meaning_used:
        console.print(Text(WORDS_ONLY))
    if tried.before:
        rows = (
            [
                found.id,
                likeness.replace("_", " "),
                cut_title(found.title),
                format_gain(found.posterior),
                _conclude(found),
            ]
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
        "verdict": posterior.conclusion if posterior else experiment.outcome,
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
    runs = ([run.id, run.worker, run.outcome, format_run(run.metric), run.reason] for run in experiment.runs)
    console.print(make_table([">run", "worker", "outcome", ">metric", "*reason"], runs))


def _show_text(paper: Paper, console: Console) -> None:
    words = paper.words
    console.print(Text(f"\nFinding {words.id}, by {words.agent}: {words.claim}", style="bold"))
    parts = {
        "": words.mechanism, "But": words.caveats, "Changed together": ", ".join(paper.confounded),
        "Would be refuted by": words.refuted_by, "Next": words.follow_ups,
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
            step.sha[:SHORT_SHA], step.experiment_id or "seed", cut_title(step.title),
            format_metric(step.posterior), format_gain(step.posterior), count_runs(step.posterior),
        ]
        for step in steps
    )  # fmt: skip
    return make_table(["commit", ">#", "*what was changed", ">metric", ">effect", ">n"], rows)


def show_comparison(comparison: Comparison, console: Console, errors: Console) -> None:
    """Prints the diff on stdout, coloured at a terminal, and the measurements on stderr."""
    for known in comparison.classes:
        if known.a and known.b and known.difference_mean is not None:
            difference = format_effect(known.difference_mean, known.difference_sd)
            measured = f"{format_metric(known.a)} → {format_metric(known.b)}"
            errors.print(Text(f"{difference}  ({measured})  on {known.hardware_class}"), soft_wrap=True)
    if console.is_terminal:
        console.print(Syntax(clean_lines(comparison.diff), "diff", background_color="default", word_wrap=True))
    else:
        typer.echo(comparison.diff, nl=False)


def tabulate_topics(topics: Iterable[TopicSummary]) -> Table:
    rows = (
        [one.axis, one.experiments, one.improved, one.no_change, one.worse, one.unresolved, one.failed]
        for one in topics
    )
    return make_table(["*axis", ">tried", ">improved", ">no change", ">worse", ">unresolved", ">failed"], rows)


def tabulate_runs(runs: Iterable[RunView]) -> Table:
    rows = (
        [
            run.id, run.experiment_id or "seed", run.kind, run.worker, run.outcome,
            format_run(run.metric),
            f"{run.finished_at:%Y-%m-%d %H:%M}" if run.finished_at else NOTHING,
        ]
        for run in runs
    )  # fmt: skip
    return make_table([">run", ">#", "kind", "*worker", "outcome", ">metric", "ended, UTC"], rows)


def tabulate_projects(projects: Iterable[ProjectView]) -> Table:
    return make_table(["project", "mode", "*question"], ([one.name, one.mode, one.question] for one in projects))


def tabulate_comparison(comparison: Comparison) -> Table:
    rows = (
        [
            one.hardware_class, format_metric(one.a), format_metric(one.b),
            format_effect(one.difference_mean, one.difference_sd),
        ]
        for one in comparison.classes
    )  # fmt: skip
    names = (f"#{number}" if number else "seed" for number in (comparison.a_experiment_id, comparison.b_experiment_id))
    return make_table(["*hardware class", *(f">{name}" for name in names), ">difference"], rows)
