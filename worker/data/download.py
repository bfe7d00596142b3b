"""Downloads a file over HTTP: resumes it, retries network errors, and never fills the disk."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

MAX_SOURCE_BYTES = 64 * 1024**3
FREE_BYTES_KEPT = 512 * 1024**2
"""Bytes that stay free on the cache's disk."""

TIMEOUT_SECONDS = 30.0
ATTEMPTS = 4
"""Consecutive failures without a single new byte before the download fails."""

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 8.0
_BUSY = {408, 425, 429, 500, 502, 503, 504}


class DataError(RuntimeError):
    """A project's data is not available; the message is one line with reason and remedy."""


@dataclass(frozen=True)
class DataProgress:
    """Progress of the data: `what` is the step in words; `done` of `size` bytes, if known."""

    what: str
    done: int = 0
    size: int | None = None


class _Broken(Exception):
    """This attempt failed, but the next one may succeed."""


def download(url: str, part: Path, name: str, on_progress: Callable[[DataProgress], None]) -> None:
    """Download `url` into `part`, resuming earlier attempts if the server says the file is unchanged.

    Raises DataError.
    """
    failures = 0
    while True:
        before = _size(part)
        try:
            return _attempt(url, part, name, on_progress)
        except (httpx.TransportError, _Broken) as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures >= ATTEMPTS:
                raise DataError(f"{name} cannot be downloaded ({error}): is this machine online?") from error
        time.sleep(min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**failures))


def _attempt(url: str, part: Path, name: str, on_progress: Callable[[DataProgress], None]) -> None:
    tag_file = part.with_name(part.name + ".tag")
    done, tag = _size(part), tag_file.read_text() if tag_file.exists() else ""
    headers = {"Accept-Encoding": "identity"}
    if done and tag:
        headers |= {"Range": f"bytes={done}-", "If-Range": tag}
    with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()  # longer than the file: it was another file
            raise _Broken("the server's file is shorter than the part that was downloaded")
        if response.status_code in _BUSY:
            raise _Broken(f"the server answers {response.status_code}")
        if response.is_error:
            raise DataError(f"{name} cannot be downloaded: {url} answers {response.status_code}")
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            done = 0
        tag_file.write_text(_tag_of(response))
        length = int(response.headers.get("content-length", 0))
        _check_room(name, length, part)
        size = done + length or None
        with part.open("ab" if done else "wb") as file:
            for chunk in response.iter_bytes():  # small chunks: a larger one would be lost with the connection
                done += len(chunk)
                if done > MAX_SOURCE_BYTES:
                    limit = f"{MAX_SOURCE_BYTES // 1024**3} GiB"
                    raise DataError(f"{name} is larger than {limit}: the download was stopped")
                file.write(chunk)
                on_progress(DataProgress(f"downloading {name}", done, size))
    tag_file.unlink()


def _tag_of(response: httpx.Response) -> str:
    """The server's identifier of this version: a strong ETag, else the date of its last change."""
    etag: str = response.headers.get("etag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return str(response.headers.get("last-modified", ""))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _check_room(name: str, size: int, path: Path) -> None:
    free = shutil.disk_usage(path.parent).free
    if size + FREE_BYTES_KEPT > free:
        mib = 1024**2
        raise DataError(
            f"the disk of {path.parent} has {free // mib} MiB free; {name} needs {size // mib} MiB, "
            f"and {FREE_BYTES_KEPT // mib} MiB are kept free"
        )
