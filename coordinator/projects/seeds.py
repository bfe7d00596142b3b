"""Reading a seed's folder: the files that become a project's root commit."""

from pathlib import Path

from coordinator.errors import SwarmError
from shared.contract import CONTRACT_FILE, Contract, ContractError, parse_contract

MAX_FILES = 200
MAX_FILE_BYTES = 1_048_576
_SKIPPED = {"__pycache__", ".git"}


class SeedInvalidError(SwarmError):
    """A folder that cannot become a project; the message says what to mend."""

    status = 422
    code = "seed-invalid"
    title = "The folder cannot become a project"


def read_seed(folder: Path) -> tuple[Contract, dict[str, str]]:
    """A seed's contract and all files of its root commit: path -> text.

    The harness that the contract names is copied in as `harness/`, so that a project carries its own and old
    results stay reproducible. Raises SeedInvalidError.
    """
    if not (folder / CONTRACT_FILE).is_file():
        raise SeedInvalidError(f"{folder} has no {CONTRACT_FILE}.")
    files = _read_folder(folder)
    try:
        contract = parse_contract(files[CONTRACT_FILE])
    except ContractError as error:
        raise SeedInvalidError(str(error)) from error
    if contract.files.harness is not None:
        harness = (folder / contract.files.harness).resolve()
        if not harness.is_dir():
            raise SeedInvalidError(f"files.harness names {harness}, which is not a folder.")
        files |= {f"harness/{path}": text for path, text in _read_folder(harness).items()}
    missing = [path for path in contract.files.editable if path not in files]
    if missing:
        raise SeedInvalidError(f"files.editable names {', '.join(missing)}, which the folder does not hold.")
    return contract, files


def _read_folder(folder: Path) -> dict[str, str]:
    files: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_dir() or _SKIPPED.intersection(relative.parts):
            continue
        if path.is_symlink() or path.stat().st_size > MAX_FILE_BYTES or len(files) >= MAX_FILES:
            raise SeedInvalidError(
                f"{relative} is a link, larger than {MAX_FILE_BYTES} bytes, or one of more than {MAX_FILES} files."
            )
        try:
            files[relative.as_posix()] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise SeedInvalidError(f"{relative} is not UTF-8 text.") from error
    return files
