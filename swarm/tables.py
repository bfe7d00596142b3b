"""Tables for people: experiments with their uncertainty."""

from rich.table import Table
from rich.text import Text

from shared.experiments import ExperimentSummary, Posterior, Verdict

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
        return str(experiment.outcome), Text("–"), "0"
    return format_metric(posterior), format_effect(posterior), str(posterior.runs)


def format_metric(posterior: Posterior) -> str:
    return f"{posterior.metric_mean:.4f} ± {posterior.metric_sd:.4f}"


def format_effect(posterior: Posterior) -> Text:
    if posterior.effect_mean is None or posterior.effect_sd is None:
        return Text("–")
    style = _STYLE.get(posterior.verdict, "") if posterior.verdict else ""
    return Text(f"{posterior.effect_mean:+.4f} ± {posterior.effect_sd:.4f}", style=style)
