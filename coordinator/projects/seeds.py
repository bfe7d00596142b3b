"""A seed's folder as the start of a project."""

from pathlib import Path

from coordinator.http.errors import SwarmError
from shared import seeds
from shared.contract import Contract


class SeedInvalidError(SwarmError):
    """A folder that cannot become a project; the message says what to mend."""

    status = 422
    code = "seed-invalid"
    title = "The folder cannot become a project"


def read_seed(folder: Path) -> tuple[Contract, dict[str, str]]:
    """A seed's contract and all files of its root commit: path -> text. Raises SeedInvalidError."""
    try:
        return seeds.read_seed(folder)
    except seeds.SeedInvalid as error:
        raise SeedInvalidError(str(error)) from error
