"""What the commands of `swarm` share: how to reach a coordinator, and their common options."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from swarm.checkout import CheckoutError
from swarm.client import Client, CoordinatorError
from swarm.demo_processes import DemoError
from swarm.dump import DumpError
from swarm.output import FieldUnknown
from swarm.reproduce import ReproductionError

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
