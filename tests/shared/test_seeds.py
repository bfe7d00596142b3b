"""shared/seeds.py: a work tree from disk."""

from pathlib import Path

import pytest

from shared.seeds import CHANNEL_FILE, SeedInvalid, list_seeds, read_seed, resolve_seed
from tests.support.seeds import write_seed


def write_with_harness(folder: Path) -> Path:
    """A seed that names a harness beside it."""
    (folder / "harness").mkdir(parents=True)
    (folder / "harness" / "scorer.py").write_text("# shared\n")
    seed = write_seed(folder / "seed")
    contract = seed / "swarm.toml"
    contract.write_text(contract.read_text().replace("[files]\n", '[files]\nharness = "../harness"\n'))
    return seed


def test_reads_contract_and_files(tmp_path: Path) -> None:
    contract, files = read_seed(write_seed(tmp_path / "seed"))
    assert contract.project.name == "tiny"
    assert set(files) == {"swarm.toml", "train.py", "program.md"}


def test_a_name_is_a_seed_of_the_package_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list_seeds() == ["codec", "gpt", "gpt-cpu"]
    for name in list_seeds():
        assert read_seed(resolve_seed(name))[0].project.name == name
    (tmp_path / "codec").mkdir()
    assert resolve_seed("codec") != Path("codec"), "a folder without a contract is no seed"
    write_seed(tmp_path / "codec", "mine")
    assert read_seed(resolve_seed("codec"))[0].project.name == "mine"
    with pytest.raises(SeedInvalid, match=r"has no swarm\.toml.*: codec, gpt, gpt-cpu"):
        read_seed(resolve_seed("gtp"))


def test_copies_the_harness_in(tmp_path: Path) -> None:
    _, files = read_seed(write_with_harness(tmp_path))
    assert files["harness/scorer.py"] == "# shared\n"


def test_a_clone_keeps_its_own_harness(tmp_path: Path) -> None:
    seed = write_with_harness(tmp_path)
    (seed / "harness").mkdir()
    (seed / "harness" / "scorer.py").write_text("# its own\n")
    assert read_seed(seed)[1]["harness/scorer.py"] == "# its own\n"
    (tmp_path / "harness" / "scorer.py").unlink()
    (tmp_path / "harness").rmdir()
    assert read_seed(seed)[1]["harness/scorer.py"] == "# its own\n"


def test_a_harness_that_imports_the_channel_gets_a_copy(tmp_path: Path) -> None:
    assert read_seed(resolve_seed("codec"))[1]["harness/channel.py"] == CHANNEL_FILE.read_text()
    seed = write_seed(tmp_path / "seed")
    (seed / "harness").mkdir()
    (seed / "harness" / "trainer.py").write_text("from harness.channel import run\n")
    assert read_seed(seed)[1]["harness/channel.py"] == CHANNEL_FILE.read_text()
    (seed / "harness" / "channel.py").write_text("# its own\n")
    assert read_seed(seed)[1]["harness/channel.py"] == "# its own\n"
    (seed / "harness" / "channel.py").unlink()
    (seed / "harness" / "trainer.py").write_text("print('no channel')\n")
    assert "harness/channel.py" not in read_seed(seed)[1]


def test_says_what_to_mend(tmp_path: Path) -> None:
    seed = write_seed(tmp_path / "seed")
    (seed / "train.py").unlink()
    with pytest.raises(SeedInvalid, match=r"editable names train\.py, which the folder does not hold"):
        read_seed(seed)
    (seed / "train.py").write_bytes(b"\xff\xfe")
    with pytest.raises(SeedInvalid, match=r"train\.py is not UTF-8 text"):
        read_seed(seed)
    (seed / "train.py").unlink()
    (seed / "train.py").symlink_to("/etc/hostname")
    with pytest.raises(SeedInvalid, match=r"train\.py is a link"):
        read_seed(seed)
    with pytest.raises(SeedInvalid, match=r"has no swarm\.toml"):
        read_seed(tmp_path)
    harnessed = write_with_harness(tmp_path / "other")
    (tmp_path / "other" / "harness" / "scorer.py").unlink()
    (tmp_path / "other" / "harness").rmdir()
    with pytest.raises(SeedInvalid, match="harness, which is not a folder"):
        read_seed(harnessed)
