"""Shared by the commands of `swarm-coordinator`: the database, one-line errors, and progress bars.

Commands import what they need, so that `--help` is quick.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shared.formatting import clean
from shared.mistakes import describe_mistake

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from coordinator.db.database import Database

Model = TypeVar("Model", bound=BaseModel)
Number = Annotated[int, typer.Argument(min=0, max=2**31 - 1, help="Its number.")]
ShowProgress = Callable[[str, int, int], None]
"""Called with the name of a task, the amount done, and the total."""


class CommandFailed(Exception):
    """A command cannot do its work; the message says why and what to do."""


@contextmanager
def clear_errors() -> Iterator[None]:
    """Print an expected error in one line and exit with status 1."""
    import sqlite3

    from sqlalchemy import exc

    from coordinator.db.database import DatabaseError
    from coordinator.db.engine import is_disk_full
    from coordinator.http.errors import SwarmError

    try:
        yield
    except (DatabaseError, CommandFailed) as error:
        problem = str(error)
    except SwarmError as error:
        problem = error.detail
    except ValidationError as error:
        problem = "; ".join(_describe_mistake(mistake, error.title) for mistake in error.errors())
    except exc.OperationalError as error:
        problem = f"the database cannot be used: {error.orig}."
        if is_disk_full(error):
            problem = f"the disk that holds the database is full: {error.orig}. Make room there."
        elif isinstance(error.orig, sqlite3.Error):
            problem += " Does this user have permission to write there?"
    except exc.DatabaseError as error:
        problem = f"the database is damaged or is none: {error.orig}."
    else:
        return
    typer.echo(clean(f"swarm-coordinator: {' '.join(problem.split())}"), err=True)  # some databases explain at length
    raise typer.Exit(1)


@contextmanager
def open_database() -> Iterator["Database"]:
    """The database that the settings name, up to date. An expected error is one line."""
    with clear_errors():
        from coordinator.db.migrate import open_upgraded
        from coordinator.settings import CoordinatorSettings

        with open_upgraded(CoordinatorSettings().database_url) as database:
            yield database


@contextmanager
def open_reading() -> Iterator["Session"]:
    """A session that reads from the database that the settings name. An expected error is one line."""
    with open_database() as database, database.read() as session:
        yield session


def read_values(model: type[Model], values: Mapping[str, object]) -> Model:
    """The values of a command line as a message. Raises CommandFailed."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise CommandFailed(f"{' '.join(map(str, wrong['loc'][:2]))}: {describe_mistake(wrong)}.") from error


def _describe_mistake(mistake: ErrorDetails, model: str) -> str:
    """A mistake in a setting or in a message; one without a place names the setting itself."""
    place = ".".join(map(str, mistake["loc"]))
    name = f"SWARM_{place.upper()}: " if model == "CoordinatorSettings" else f"{place}: "
    return (name if place else "") + describe_mistake(mistake)


@contextmanager
def progress_bars() -> Iterator[ShowProgress]:
    """Bars on stderr where that is a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield show
