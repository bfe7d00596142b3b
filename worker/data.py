"""A project's data: download what the contract names, let the project's `prepare` turn it into token files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.contract import Contract
from worker.sandbox import Sandbox


class DataError(RuntimeError):
    """A project's data cannot be had; the message is one line: why, and what to do."""


@dataclass(frozen=True)
class PreparedData:
    """A project's tokens on this machine's disk. `validation` is opaque: only the project's scorer reads it."""

    train: Path
    validation: Path
    vocab_size: int
    sequence_length: int


@dataclass(frozen=True)
class DataProgress:
    """What is being done, for people; `share` of it is done, 0 to 1, or None where that is not known."""

    what: str
    share: float | None


def prepare_data(
    contract: Contract,
    files: Mapping[str, str],
    cache: Path,
    sandbox: Sandbox,
    on_progress: Callable[[DataProgress], None],
    package_index: str | None = None,
) -> PreparedData:
    """The data of a project whose work tree is `files`, from `cache` or made anew.

    `package_index` is the simple index to take `pypi` sources from (None: the public one). Raises DataError.
    """
    raise DataError(f"{contract.project.name}: not written yet")
