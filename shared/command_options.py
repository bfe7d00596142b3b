"""Options that commands share, each declared once, and groups of commands that name a refused value in our words."""

import io
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from shared.mistakes import describe_value

Command = Callable[..., None]


class CommandGroup(TyperGroup):
    """A program's commands. What is wrong with an option's value is said in our words, and not in the library's."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # as `parse_args` of typer's own
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # what a locale's encoding lacks is escaped, and is no error
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                error.message = describe_value(error.__cause__.errors()[0])
            raise


def with_options(target: str, options: Mapping[str, Any]) -> Callable[[Command], Command]:
    """Gives a command an option for each annotation, by its parameter's name; their default is None.

    The command takes what was given as a dictionary, by the parameter `target`. In its help they come before its own.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> None:
            values = {name: given.pop(name) for name in options}
            command(**given, **{target: values})

        own = [one for one in signature(command).parameters.values() if one.name != target]
        shared = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=one) for name, one in options.items()
        ]
        named = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in own]
        run.__signature__ = Signature([*shared, *named])  # type: ignore[attr-defined]  # what typer reads
        return run

    return decorate
