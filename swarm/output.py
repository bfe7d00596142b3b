"""Output of `swarm`: tables and text for people, JSON lines for pipes; and the options that commands share."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import BaseModel, SecretStr, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.command_options import Command, with_options
from shared.environment import WORKER_NAMES, describe_unknown
from shared.experiments import JobKind, Posterior, Standing, Verdict
from shared.findings import FailureClass
from shared.formatting import clean_lines, format_effect, format_measure
from shared.mistakes import describe_first
from shared.protocol import Message
from shared.records import ExperimentSummary
from swarm.client import Client, CoordinatorError
from swarm.listing import CommandError, list_fields

ALL = "all"
NOTHING, TITLE_WIDTH = "–", 120
_STYLE = {Verdict.IMPROVED: "green", Verdict.WORSE: "red"}

Url = Annotated[str, typer.Option(envvar="SWARM_COORDINATOR_URL", help="The coordinator's address.")]
Project = Annotated[str | None, typer.Option("--project", "-p", help="Its name.  [default: the only one]")]
_PLACES: dict[str, Any] = {
    "named": Annotated[
        str | None, typer.Argument(metavar="PROJECT", help="Its name.  [default: the only one; of records: all]")
    ],
    "project": Annotated[str | None, typer.Option("--project", "-p", help="As PROJECT.")],
}
AnyProject = Annotated[str | None, typer.Option("--project", "-p", help="Its name.  [default: all]")]
Limit = Annotated[int, typer.Option(min=1, help="Maximum number of rows.")]
Ascending = Annotated[bool, typer.Option("--ascending", help="The other way round: oldest, lowest or worst first.")]
Json = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="FIELDS", help="JSON lines of these fields, as id,posterior.effect_mean, or of all."
    ),
]
Commit = Annotated[str, typer.Argument(help="A sha (four digits are enough), or an experiment's number.")]


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """A client, with `expected_errors`."""
    with expected_errors():
        if problem := describe_unknown(os.environ, WORKER_NAMES):
            raise CommandError(problem)
        with Client(url, _read_token()) as client:
            yield client


@contextmanager
def expected_errors(*more: type[Exception]) -> Iterator[None]:
    """Turns an expected error, or one of `more` kinds, into a line on stderr and exit status 1."""
    kinds: tuple[type[Exception], ...] = (CommandError, ValidationError, *more)
    try:
        yield
    except kinds as error:
        said = describe_first(error) if isinstance(error, ValidationError) else error
        typer.echo(clean_lines(f"swarm: {said}"), err=True)
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


def write(model: type[Message], rows: Iterable[Message], fields: str | None, show: Callable[[], None]) -> None:
    """Shows the rows to people, or writes a JSON document per line if `fields` are given.

    `fields` are names with commas, as `id,posterior.effect_mean`, or `all`. Raises CommandError.
    """
    if fields is None:
        show()
        return
    names = None if fields == ALL else [name.strip() for name in fields.split(",")]
    for name in names or ():
        _check_field(model, name)
    for row in rows:
        document = row.model_dump(mode="json")
        chosen = document if names is None else {name: _look_up(document, name.split(".")) for name in names}
        sys.stdout.write(json.dumps(chosen, ensure_ascii=False) + "\n")


def _check_field(model: type[Message], name: str) -> None:
    """Raises CommandError for a field that rows of a model do not have; names those that they have."""
    if _has_field(model, name.split(".")):
        return
    known = list_fields(model)
    meant = next(iter(get_close_matches(name, known, 1)), None)
    hint = f" Did you mean {meant}?" if meant else ""
    raise CommandError(f"--json: there is no field {name!r}.{hint} Known fields: {', '.join(known)}.")


def _has_field(kind: Any, parts: Sequence[str]) -> bool:
    """Whether values of a type have a field, or one within others, also where they are in a list."""
    if not parts or get_origin(kind) is dict:
        return True
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(parts[0])
        return field is not None and _has_field(field.annotation, parts[1:])
    return any(_has_field(one, parts) for one in get_args(kind))


def _look_up(value: Any, parts: Sequence[str]) -> Any:
    """A field, or one within another, as `posterior.runs`; of a list, that of each entry; null within null."""
    if parts and isinstance(value, list):
        return [_look_up(one, parts) for one in value]
    if not parts:
        return value
    return _look_up(value.get(parts[0]), parts[1:]) if isinstance(value, dict) else None


_OPTIONS: dict[str, Any] = {
    "verdict": (Verdict, "Only this verdict; `worse` finds failed ideas."),
    "standing": (Standing, "Only this standing."),
    "kind": (JobKind, "Only this kind of job."),
    "failure": (FailureClass, "Only this failure, for example `slower`."),
    "axis": (str, "Only along this axis, for example WEIGHT_DECAY."),
    "branch": (str, "Only this research direction."),
    "worker": (str, "Only this worker: its name, or volunteer/worker."),
    "volunteer": (str, "Only this volunteer's."),
    "hardware_class": (str, "Only this hardware class."),
    "since": (str, "Only what was done from this day or moment on (UTC)."),
    "until": (str, "Only what was done before it."),
    "effect_above": (float, "Only effects of at least this."),
    "effect_below": (float, "Only effects of at most this."),
    "has_code": (bool, "Only those whose code is there, or is lost."),
    "failed": (bool, "Only those that failed, or did not."),
    "text": (str, "Only with these words, or words that begin so."),
    "metric_above": (float, "Only metrics of at least this."),
    "metric_below": (float, "Only metrics of at most this."),
}
"""The filters of lists: type and help."""


def with_project(command: Command) -> Command:
    """Gives a list the project that it is of, whether people write `swarm runs codec` or `--project codec`."""

    @wraps(command)
    def run(*, project: dict[str, str | None], **own: Any) -> None:
        named = {name for name in project.values() if name is not None}
        if len(named) > 1:
            raise typer.BadParameter("give one project", param_hint="--project")
        command(project=next(iter(named), None), **own)

    return with_options("project", _PLACES)(run)


with_filters = with_options(
    "filters", {name: Annotated[kind | None, typer.Option(help=words)] for name, (kind, words) in _OPTIONS.items()}
)
"""Gives a command an option for each filter; it gets all of them as `filters`, None where not given."""


def make_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table without lines. `>` before a column's name aligns it to the right, `*` lets its text wrap.

    Cells are plain text: none is read as markup.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in columns:
        kind, name = (column[0], column[1:]) if column[0] in ">*" else ("", column)
        if kind == "*":
            table.add_column(name, overflow="fold", ratio=1)
        else:
            table.add_column(name, justify="right" if kind else "left", no_wrap=True)
    for cells in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))
    return table


def print_rows(table: Table, nothing: str) -> None:
    """Prints the table, or a sentence on stderr if it has no rows."""
    if table.row_count:
        Console().print(table)
    else:
        typer.echo(nothing, err=True)


def cut_title(title: str, times: int = 1) -> str:
    """As much of a title, or of so many texts, as a table has room for; imported ones are whole paragraphs."""
    return shorten(title, times * TITLE_WIDTH, placeholder="…")


def build_experiments_table(experiments: Iterable[ExperimentSummary], metric: str) -> Table:
    """One row for each experiment, in the given order."""
    rows = (
        [
            experiment.id, experiment.parent_id or "seed", cut_title(experiment.title),
            format_metric(experiment.posterior) if experiment.posterior else experiment.outcome,
            format_gain(experiment.posterior), count_runs(experiment.posterior),
        ]
        for experiment in experiments
    )  # fmt: skip
    return make_table([">id", ">parent", "*what was tried", f">{metric}", ">effect", ">n"], rows)


def format_metric(posterior: Posterior | None) -> str:
    """`0.9712 ± 0.0004`; a dash without measurements."""
    return format_measure(posterior.metric_mean, posterior.metric_sd) if posterior else NOTHING


def format_gain(posterior: Posterior | None) -> Text:
    """The effect against the parent with its uncertainty, in the verdict's colour."""
    if posterior is None:
        return Text(NOTHING)
    style = _STYLE.get(posterior.verdict, "") if posterior.verdict else ""
    return Text(format_effect(posterior.effect_mean, posterior.effect_sd), style=style)


def count_runs(posterior: Posterior | None) -> int:
    return posterior.runs if posterior else 0
