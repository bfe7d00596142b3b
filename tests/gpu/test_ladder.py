"""The ladder itself, on a CPU: a GPU is seldom at hand, and then it must not fail for reasons of its own."""

import pytest

from tests.bench import bench_train
from tests.gpu import ladder

SMALL = {"vocab_size": 300, "sequence_length": 64, "tokenizer_bytes": 100_000, "scored_bytes": 4_096}


def test_steps_and_a_run_work_on_a_cpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the steps only the first; all of them are tried by the test of `doctor --deep`."""
    monkeypatch.setattr(ladder, "CPU_STEPS", ("add",))
    monkeypatch.setattr(bench_train, "CPU_SHARD_BYTES", 100_000)
    for name, value in SMALL.items():
        monkeypatch.setitem(bench_train.CPU_SETTINGS, name, value)
    arguments = ["--device", "cpu", "--seconds", "2", "--sandboxes", "bubblewrap", "--runs", "1"]
    status = ladder.main(arguments)
    told = capsys.readouterr().out
    assert status == 0, told
    assert [line.split()[1:3] for line in told.splitlines() if line.startswith("bubblewrap ")] == [["add", "ok"]]
    row = [cell.strip() for cell in told.splitlines()[-1].strip("|").split("|")]
    assert row[:3] == ["auto", "cold", "1"] and row[-1] == "ok"


def test_a_gpu_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(SystemExit, match="NVIDIA driver"):
        ladder.main(["--device", "cuda:4096"])
