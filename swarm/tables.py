"""Tables for people: experiments with their uncertainty."""

from rich.table import Table
from rich.text import Text

from shared.experiments import Posterior, Verdict
from shared.formatting import format_effect, format_measure
from shared.records import ExperimentSummary

NOTHING = "–"
_STYLE = {Verdict.IMPROVED: "green", Verdict.WORSE: "red"}


def build_experiments_table(experiments: list[ExperimentSummary], metric: str) -> Table:
    """One row an experiment, in the given order."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("id", justify="right", no_wrap=True)
    table.add_column("parent", justify="right", no_wrap=True)
    table.add_column("what was tried", overflow="fold", ratio=1)
    table.add_column(metric, justify="right", no_wrap=True)
    table.add_column("effect", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for experiment in experiments:
        table.add_row(
            str(experiment.id),
            str(experiment.parent_id) if experiment.parent_id else "seed",
            Text(experiment.title),
            *_describe(experiment),
        )
    return table


def _describe(experiment: ExperimentSummary) -> tuple[str, Text, str]:
    posterior = experiment.posterior
    if posterior is None:
        return str(experiment.outcome), Text(NOTHING), "0"
    return format_metric(posterior), format_gain(posterior), str(posterior.runs)


def format_metric(posterior: Posterior | None) -> str:
    """`0.9712 ± 0.0004`; a dash where nothing was measured."""
    return format_measure(posterior.metric_mean, posterior.metric_sd) if posterior else NOTHING


def format_gain(posterior: Posterior | None) -> Text:
    """The effect against the parent with its uncertainty, in the verdict's colour."""
    if posterior is None or posterior.effect_mean is None or posterior.effect_sd is None:
        return Text(NOTHING)
    style = _STYLE.get(posterior.verdict, "") if posterior.verdict else ""
    return Text(format_effect(posterior.effect_mean, posterior.effect_sd), style=style)


def say_verdict(posterior: Posterior | None) -> str:
    """`improved, provisional`."""
    if posterior is None:
        return NOTHING
    words = [str(posterior.verdict), str(posterior.standing)] if posterior.verdict else [str(posterior.standing)]
    return ", ".join(words).replace("_", " ")
