"""Downloads from a server that cuts, stalls, corrupts and vanishes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pyarrow.parquet
import pytest

from shared.contract import Data, DataSource
from tests.support.shards import write_shard
from tests.worker.flaky_server import FlakyServer, serve_flaky
from worker.data.download import ATTEMPTS, DataError, DataProgress
from worker.data.prepare import fetch
from worker.settings import Mirrors

CONTENT = write_shard([Random(number).randbytes(64).hex() for number in range(12_000)])  # about a megabyte
PINNED = DataSource(file="shard.parquet", sha256=hashlib.sha256(CONTENT).hexdigest())
UNPINNED = DataSource(file="shard.parquet")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyServer]:
    monkeypatch.setattr("worker.data.download.FIRST_PAUSE_SECONDS", 0.01)
    with serve_flaky() as flaky:
        flaky.files["shard.parquet"] = CONTENT
        yield flaky


def get(source: DataSource, server: FlakyServer, folder: Path, heard: list[DataProgress] | None = None) -> Path:
    data = Data(sources=[source], base_url="https://data.example.org/")
    follow = heard.append if heard is not None else lambda progress: None
    return fetch(source, data, folder, Mirrors(data=server.address), follow)


def test_downloads_with_its_progress(server: FlakyServer, tmp_path: Path) -> None:
    heard: list[DataProgress] = []
    path = get(PINNED, server, tmp_path, heard)
    assert (path.name, path.read_bytes()) == ("shard.parquet", CONTENT)
    assert heard[-2] == DataProgress("downloading shard.parquet", len(CONTENT), len(CONTENT))
    assert heard[-1] == DataProgress("checking shard.parquet")
    assert [p.done for p in heard] == [*sorted(p.done for p in heard[:-1]), 0]
    assert get(PINNED, server, tmp_path) == path
    assert server.requests == ["whole"]


def test_goes_on_where_it_broke_off(server: FlakyServer, tmp_path: Path) -> None:
    server.faults = ["cut", "busy", "cut"]
    assert get(PINNED, server, tmp_path).read_bytes() == CONTENT
    half, three_quarters = len(CONTENT) // 2, len(CONTENT) * 3 // 4
    assert server.requests == ["whole", f"bytes={half}-", f"bytes={half}-", f"bytes={three_quarters}-"]


def test_waits_for_a_server_that_is_slow(server: FlakyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole takes longer than what is waited for between two pieces."""
    monkeypatch.setattr("worker.data.download.TIMEOUT_SECONDS", 1.0)
    server.faults = ["slow"]
    path = get(PINNED, server, tmp_path)
    assert server.requests == ["whole"]
    assert pyarrow.parquet.read_table(path).num_rows == 12_000


def test_asks_again_where_a_server_vanishes_for_a_while(server: FlakyServer, tmp_path: Path) -> None:
    server.faults = ["vanish", "cut", "vanish", "vanish"]
    path = get(PINNED, server, tmp_path)
    assert server.requests == ["whole", "whole"] + 3 * [f"bytes={len(CONTENT) // 2}-"]
    assert pyarrow.parquet.read_table(path).num_rows == 12_000


def test_fetches_once_more_what_was_too_short(server: FlakyServer, tmp_path: Path) -> None:
    server.faults = ["truncate"]
    assert get(PINNED, server, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["whole", "whole"]


def test_goes_on_in_another_process(server: FlakyServer, tmp_path: Path) -> None:
    """Bytes fetched before a stop are not fetched again."""

    class Stopped(Exception):
        pass

    def stop(progress: DataProgress) -> None:
        if progress.done:
            raise Stopped

    with pytest.raises(Stopped):
        fetch(PINNED, Data(base_url="https://data.example.org/"), tmp_path, Mirrors(data=server.address), stop)
    assert get(PINNED, server, tmp_path).read_bytes() == CONTENT
    assert server.requests[1].startswith("bytes=")


def test_starts_again_where_the_file_has_changed(server: FlakyServer, tmp_path: Path) -> None:
    server.files["shard.parquet"] = b"an older file" * 100_000
    server.faults = ["cut"] + ["busy"] * ATTEMPTS
    with pytest.raises(DataError, match="the server answers 503"):
        get(PINNED, server, tmp_path)
    server.files["shard.parquet"] = CONTENT
    server.faults = []
    assert get(PINNED, server, tmp_path).read_bytes() == CONTENT


def test_starts_again_where_the_server_names_no_version(server: FlakyServer, tmp_path: Path) -> None:
    server.has_tags = False
    server.faults = ["cut"]
    assert get(PINNED, server, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["whole", "whole"]


def test_leaves_a_server_that_stalls(server: FlakyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.data.download.TIMEOUT_SECONDS", 1.0)
    server.faults = ["stall"]
    assert get(PINNED, server, tmp_path).read_bytes() == CONTENT
    assert server.requests[1] == f"bytes={len(CONTENT) // 2}-"


def test_fetches_a_damaged_file_once_more(server: FlakyServer, tmp_path: Path) -> None:
    server.faults = ["corrupt"]
    assert get(PINNED, server, tmp_path).read_bytes() == CONTENT
    server.faults = ["corrupt", "corrupt"]
    with pytest.raises(DataError, match=r"^shard\.parquet has the wrong checksum: "):
        get(PINNED, server, tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").rglob("*") if path.is_file()] == []


def test_gives_up_on_a_server_that_has_vanished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.data.download.FIRST_PAUSE_SECONDS", 0.01)
    with serve_flaky() as server:
        pass
    with pytest.raises(DataError, match="is this machine online"):
        get(PINNED, server, tmp_path)


def test_does_not_ask_again_for_what_is_not_there(server: FlakyServer, tmp_path: Path) -> None:
    server.files.clear()
    with pytest.raises(DataError, match=r"shard\.parquet cannot be downloaded: .* answers 404$"):
        get(PINNED, server, tmp_path)
    assert len(server.requests) == 1


def test_trusts_a_file_of_unknown_hash_as_it_first_came(server: FlakyServer, tmp_path: Path) -> None:
    path = get(UNPINNED, server, tmp_path)
    assert path.read_bytes() == CONTENT
    assert get(UNPINNED, server, tmp_path) == path and len(server.requests) == 1
    path.write_bytes(b"damaged on disk")
    assert get(UNPINNED, server, tmp_path).read_bytes() == CONTENT
    path.unlink()
    server.files["shard.parquet"] = b"exchanged"
    with pytest.raises(DataError, match="has the wrong checksum"):
        get(UNPINNED, server, tmp_path)


def test_a_mirror_does_not_change_which_file_it_is(server: FlakyServer, tmp_path: Path) -> None:
    path = get(UNPINNED, server, tmp_path)
    with serve_flaky() as other:
        assert get(UNPINNED, other, tmp_path) == path
        assert other.requests == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": "http://example.org/f"}, "plain http needs its `sha256`"),
        ({"url": "https://example.org/f", "pypi": "a==1"}, "not both"),
    ],
)
def test_refuses_sources_without_a_safe_place(fields: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataSource.model_validate({"file": "f", **fields})
    with pytest.raises(ValueError, match="there is no `base_url`"):
        Data(sources=[UNPINNED])
    with pytest.raises(ValueError, match="base_url"):
        Data(base_url="http://example.org/")
