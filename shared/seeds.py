"""Finds the seeds that come with the package, and reads a seed's folder or a clone of a project from disk."""

from collections.abc import Mapping
from pathlib import Path

from shared.contract import CONTRACT_FILE, Contract, ContractError, parse_contract

SEEDS_FOLDER = Path(__file__).parents[1] / "seed"  # in a checkout and in an installed package
HARNESS_FOLDER = "harness"
CHANNEL_FILE = SEEDS_FOLDER / HARNESS_FOLDER / "channel.py"  # of which every new project gets a copy
MAX_FILES = 200
MAX_FILE_BYTES = 1_048_576
_SKIPPED = {"__pycache__", ".git"}


class SeedInvalid(ValueError):
    """A folder holds no valid project; the message says what to mend."""


def list_seeds() -> list[str]:
    """Names of the seeds that come with the package."""
    return sorted(path.parent.name for path in SEEDS_FOLDER.glob(f"*/{CONTRACT_FILE}"))


def resolve_seed(name: str) -> Path:
    """The folder called `name`, or else the seed of that name that comes with the package."""
    if name in list_seeds() and not (Path(name) / CONTRACT_FILE).is_file():
        return SEEDS_FOLDER / name
    return Path(name)


def read_seed(folder: Path, known: Mapping[str, str] | None = None) -> tuple[Contract, dict[str, str]]:
    """The contract and all files of a project's work tree: path -> text.

    A harness that the contract names is copied in as `harness/`, and `channel.py` into a harness that imports it, so
    that old results stay reproducible: the `channel.py` of `known`, the files of the folder's project, goes before a
    newer one. Files that the folder has already, as clones do, stay. Raises SeedInvalid.
    """
    if not (folder / CONTRACT_FILE).is_file():
        raise SeedInvalid(
            f"{folder} has no {CONTRACT_FILE}. Seeds that come with the package: {', '.join(list_seeds())}."
        )
    files = _read_folder(folder)
    try:
        contract = parse_contract(files[CONTRACT_FILE])
    except ContractError as error:
        raise SeedInvalid(str(error)) from error
    if contract.files.harness is not None and not (folder / HARNESS_FOLDER).is_dir():
        harness = (folder / contract.files.harness).resolve()
        if not harness.is_dir():
            raise SeedInvalid(f"files.harness names {harness}, which is not a folder.")
        files |= {f"{HARNESS_FOLDER}/{path}": text for path, text in _read_folder(harness).items()}
    package = contract.commands.trainer.partition(".")[0]
    channel, imports = f"{package}/channel.py", f"from {package}.channel import"
    if channel not in files and any(imports in text for text in files.values()):
        files[channel] = (known or {}).get(channel) or CHANNEL_FILE.read_text(encoding="utf-8")
    missing = [path for path in contract.files.editable if path not in files]
    if missing:
        raise SeedInvalid(f"files.editable names {', '.join(missing)}, which the folder does not hold.")
    return contract, files


def _read_folder(folder: Path) -> dict[str, str]:
    files: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_dir() or _SKIPPED.intersection(relative.parts):
            continue
        if path.is_symlink() or path.stat().st_size > MAX_FILE_BYTES or len(files) >= MAX_FILES:
            raise SeedInvalid(
                f"{relative} is a link, larger than {MAX_FILE_BYTES} bytes, or one of more than {MAX_FILES} files."
            )
        try:
            files[relative.as_posix()] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise SeedInvalid(f"{relative} is not UTF-8 text.") from error
    return files
