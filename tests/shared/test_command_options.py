"""shared/command_options.py: what is wrong with a command line is said in our words."""

import sys
from enum import StrEnum
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from shared.command_options import CommandGroup
from tests.shared.test_mistakes import LIBRARY


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


app = typer.Typer(cls=CommandGroup, rich_markup_mode=None)
inner = typer.Typer()
app.add_typer(inner, name="inner")


@app.command()
@inner.command()
def show(
    number: int = 1,
    size: float = 1.0,
    few: Annotated[int, typer.Option(min=1, max=9)] = 1,
    many: Annotated[list[int], typer.Option()] = [],  # noqa: B006 - typer copies it
    colour: Colour = Colour.RED,
    is_on: Annotated[bool | None, typer.Option()] = None,
) -> None:
    return


@app.command()
def say() -> None:
    sys.stdout.write("−3.1 ± 0.2\n")  # as rich does


@app.callback()
def main() -> None:
    return


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--number", "x"], "'--number': 'x' must be a whole number"), (["--number", "1.5"], "a whole number"),
        (["--size", "big"], "'big' must be a number"), (["--few", "0"], "'0' must be at least 1"),
        (["--few", "10"], "'10' must be at most 9"), (["--many", "1", "--many", "y"], "must be a whole number"),
        (["--colour", "gren"], "'gren' must be one of red, green; did you mean green?"),
        (["--colour", ""], "must be one of red, green"),
    ],
)  # fmt: skip
def test_a_refused_value_is_told_in_our_words(arguments: list[str], words: str) -> None:
    for command in (["show"], ["inner", "show"]):
        done = CliRunner().invoke(app, [*command, *arguments])
        said = " ".join(done.output.split())
        assert done.exit_code == 2 and words in said and not LIBRARY.search(said), said


def test_what_is_right_is_taken() -> None:
    done = CliRunner().invoke(app, ["show", "--number", "-3", "--few", "9", "--many", "1", "--colour", "green"])
    assert done.exit_code == 0, done.output


def test_what_a_terminal_cannot_show_is_escaped_and_ends_no_program() -> None:
    done = CliRunner(charset="latin-1").invoke(app, ["say"])
    assert done.exit_code == 0 and done.stdout == "\\u22123.1 ± 0.2\n"
