"""Downloads over loopback HTTP, prepared in the real sandbox."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy
import pytest

from shared.contract import Contract
from tests.support.tiny_project import PACKAGE, pack_text, seed_files, serve_folder, tiny_contract
from worker.data.download import DataError, DataProgress
from worker.data.prepare import PreparedData, prepare_data
from worker.sandbox.choose import choose_sandbox
from worker.settings import Mirrors


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """The folder that the server serves."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / PACKAGE).write_bytes(pack_text())
    return folder


@pytest.fixture
def contract(web: Path) -> Iterator[Contract]:
    with serve_folder(web) as address:
        yield tiny_contract(address, pack_text())


def prepare(contract: Contract, cache: Path, files: dict[str, str] | None = None) -> PreparedData:
    return prepare_data(contract, files or seed_files(), cache, choose_sandbox("auto"), lambda progress: None)


def test_makes_tokens_of_a_download(contract: Contract, tmp_path: Path) -> None:
    heard: list[DataProgress] = []
    data = prepare_data(contract, seed_files(), tmp_path / "cache", choose_sandbox("auto"), heard.append)
    assert data.needs.facts == {"vocab_size": 320, "sequence_length": 32, "rows": 27}
    train = numpy.fromfile(data.train, dtype=numpy.uint16)
    assert 50_000 < len(train) < 400_000
    assert train.max() == 319
    validation = numpy.load(data.validation)
    assert validation["windows"].shape[1] == 33
    pool, sealed = (validation["byte_lengths"][validation[f"{name}windows"][:, 1:]].sum() for name in ("", "sealed_"))
    assert pool > 6 * 8192 and sealed == pytest.approx((pool + sealed) / 4, rel=0.2)
    assert len(validation["features"]) == len(validation["windows"])
    assert {p.what for p in heard} == {f"downloading {PACKAGE}", f"checking {PACKAGE}", "preparing the data"}
    assert (heard[0].what, heard[0].size) == (f"downloading {PACKAGE}", len(pack_text()))


def test_does_it_once(contract: Contract, web: Path, tmp_path: Path) -> None:
    first = prepare(contract, tmp_path / "cache")
    (web / PACKAGE).unlink()
    assert prepare(contract, tmp_path / "cache") == first


def test_does_it_again_for_another_harness_but_not_for_another_experiment(contract: Contract, tmp_path: Path) -> None:
    first = prepare(contract, tmp_path / "cache")
    files = seed_files()
    assert prepare(contract, tmp_path / "cache", files | {"train.py": "DEPTH = 9\n"}) == first
    changed = files | {"harness/prepare.py": files["harness/prepare.py"] + "\n# changed\n"}
    assert prepare(contract, tmp_path / "cache", changed).train != first.train


def test_lets_workers_share_a_cache(contract: Contract, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        made = list(pool.map(prepare, [contract] * 3, [cache] * 3))
    assert made[0] == made[1] == made[2]
    assert [p.name for p in (cache / "tokens").iterdir() if p.is_dir()] == [made[0].train.parent.name]


def test_refuses_a_wrong_checksum(contract: Contract, web: Path, tmp_path: Path) -> None:
    (web / PACKAGE).write_bytes(pack_text() + b"tampered")
    with pytest.raises(DataError, match=f"^{PACKAGE} has the wrong checksum: "):
        prepare(contract, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.tar.gz"))


def test_checks_a_cached_source_again(contract: Contract, tmp_path: Path) -> None:
    first = prepare(contract, tmp_path / "cache")
    (source,) = (tmp_path / "cache").rglob(PACKAGE)
    source.write_bytes(b"damaged on disk")
    files = seed_files()
    changed = files | {"harness/prepare.py": files["harness/prepare.py"] + "\n# changed\n"}
    second = prepare(contract, tmp_path / "cache", changed)
    assert second.train.read_bytes() == first.train.read_bytes()


def test_says_that_a_file_is_gone(contract: Contract, web: Path, tmp_path: Path) -> None:
    (web / PACKAGE).unlink()
    with pytest.raises(DataError, match=f"^{PACKAGE} cannot be downloaded: .* answers 404$"):
        prepare(contract, tmp_path / "cache")


def test_says_that_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.data.download.FIRST_PAUSE_SECONDS", 0.01)
    with serve_folder(tmp_path) as address:
        contract = tiny_contract(address, pack_text())
    with pytest.raises(DataError, match="is this machine online"):
        prepare(contract, tmp_path / "cache")


def test_says_that_the_disk_is_full(contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.data.download.FREE_BYTES_KEPT", 2**60)  # more than any disk of today has
    with pytest.raises(DataError, match=r"MiB free; .* needs \d+ MiB"):
        prepare(contract, tmp_path / "cache")


def test_says_that_the_cache_cannot_be_written(contract: Contract, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="cannot be used"):
        prepare(contract, tmp_path / "cache")


def test_takes_a_release_from_a_package_index(contract: Contract, web: Path, tmp_path: Path) -> None:
    (web / "tiny").mkdir()
    page = f'<!DOCTYPE html><html><body><a href="../{PACKAGE}">{PACKAGE}</a></body></html>'
    (web / "tiny" / "index.html").write_text(page)
    (source,) = contract.data.sources
    address = str(source.url).rpartition("/")[0]
    released = source.model_copy(update={"url": None, "pypi": "tiny==1.0"})
    asked = contract.model_copy(update={"data": contract.data.model_copy(update={"sources": [released]})})
    data = prepare_data(
        asked, seed_files(), tmp_path / "cache", choose_sandbox("auto"), lambda progress: None, Mirrors(address)
    )
    assert data.train.stat().st_size > 0
    missing = asked.model_copy(
        update={"data": asked.data.model_copy(update={"sources": [released.model_copy(update={"pypi": "other==1"})]})}
    )
    with pytest.raises(DataError, match="the package index has no project other"):
        prepare_data(
            missing, seed_files(), tmp_path / "other", choose_sandbox("auto"), lambda _: None, Mirrors(address)
        )


def test_tells_why_prepare_failed(contract: Contract, tmp_path: Path) -> None:
    settings = contract.data.settings | {"member": "tiny-1.0/missing.jsonl"}
    asked = contract.model_copy(update={"data": contract.data.model_copy(update={"settings": settings})})
    with pytest.raises(DataError, match=r"could not be prepared: .*missing.jsonl"):
        prepare(asked, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("train.bin"))
