"""What commands print: tables and text for people, JSON lines for pipes."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.experiments import Posterior, Verdict
from shared.formatting import format_effect, format_measure
from shared.protocol import Message
from shared.records import ExperimentSummary
from swarm.checkout import CheckoutError
from swarm.client import Client, CoordinatorError
from swarm.demo import DemoError
from swarm.dump import DumpError
from swarm.reproduce import ReproductionError

ALL = "all"

Json = dict[str, Any]


class FieldUnknown(Exception):
    """`--json` names a field that there is not; the message says which there are."""


def write_json(rows: Iterable[Message], fields: str) -> None:
    """A JSON document a line; `fields` are names separated by commas, such as `id,posterior.effect_mean`, or `all`.

    Raises FieldUnknown.
    """
    names = None if fields == ALL else [name.strip() for name in fields.split(",")]
    for row in rows:
        document = row.model_dump(mode="json")
        chosen = document if names is None else {name: _look_up(document, name) for name in names}
        sys.stdout.write(json.dumps(chosen, ensure_ascii=False) + "\n")


def _look_up(document: Json, name: str) -> Any:
    """A field, or one within another: `posterior.runs`. Below null everything is null."""
    value: Any = document
    for part in name.split("."):
        if value is None:
            return None
        if not isinstance(value, dict) or part not in value:
            known = ", ".join(value) if isinstance(value, dict) else "none"
            raise FieldUnknown(f"--json: there is no field {name!r}. There are: {known}.")
        value = value[part]
    return value


def make_table(*columns: str) -> Table:
    """A table without lines. A column that begins with `>` is of numbers, one with `*` may be broken."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in columns:
        kind, name = (column[0], column[1:]) if column[0] in ">*" else ("", column)
        if kind == "*":
            table.add_column(name, overflow="fold", ratio=1)
        else:
            table.add_column(name, justify="right" if kind else "left", no_wrap=True)
    return table


def add_row(table: Table, cells: Sequence[object]) -> None:
    """Cells as they are: no text of theirs is read as markup."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))


def print_rows(table: Table, nothing: str) -> None:
    """The table, or a sentence on stderr where it has no rows."""
    if table.row_count:
        Console().print(table)
    else:
        typer.echo(nothing, err=True)


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


Url = Annotated[str, typer.Option(envvar="SWARM_COORDINATOR_URL", help="The coordinator's address.")]
Project = Annotated[str | None, typer.Option("--project", "-p", help="Its name.  [default: the only one]")]
AnyProject = Annotated[str | None, typer.Option("--project", "-p", help="Its name.  [default: all]")]
Limit = Annotated[int, typer.Option(min=1, max=200, help="Rows at most.")]
Json = Annotated[
    str | None, typer.Option("--json", metavar="FIELDS", help="JSON lines of these fields (id,title), or of all.")
]
Commit = Annotated[str, typer.Argument(help="A sha (four digits are enough), or an experiment's number.")]


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """A client. What a person can mend is a line on stderr and exit status 1."""
    try:
        with Client(url, _read_token()) as client:
            yield client
    except (CoordinatorError, FieldUnknown, CheckoutError, DumpError, DemoError, ReproductionError) as error:
        typer.echo(f"swarm: {error}", err=True)
        raise typer.Exit(1) from error


def _read_token() -> SecretStr | None:
    """The token of `SWARM_TOKEN_FILE`, else of `SWARM_TOKEN`. Raises CoordinatorError for a file that is not there."""
    path = os.environ.get("SWARM_TOKEN_FILE")
    if path is None:
        token = os.environ.get("SWARM_TOKEN")
        return SecretStr(token) if token else None
    try:
        return SecretStr(Path(path).read_text().strip())
    except OSError as error:
        raise CoordinatorError(f"SWARM_TOKEN_FILE: {path} cannot be read: {error.strerror}.") from error
