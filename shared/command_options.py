"""Options that several commands of a program share: each is declared once, and a command gets their values together."""

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any

Command = Callable[..., None]


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
