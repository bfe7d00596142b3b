"""seed/gpt, from parquet shards on a server to a scored run, small, on a CPU."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from threading import Event

import numpy
import pytest

from shared.contract import Contract, Data, DataSource
from shared.runs import RunOutcome
from shared.seeds import read_seed
from tests.support.preloaded_sandbox import PreloadedSandbox
from tests.support.shards import SHARDS, make_shards
from tests.support.tiny_project import SEED, Files
from tests.worker.flaky_server import FlakyServer, serve_flaky
from worker.data.download import DataError
from worker.data.prepare import PreparedData, prepare_data
from worker.machine.hardware import detect_machine
from worker.runs.runner import measure
from worker.runs.spec import RunSpec
from worker.sandbox.base import Sandbox
from worker.settings import Mirrors


@pytest.fixture(scope="module")
def server() -> Iterator[FlakyServer]:
    with serve_flaky() as flaky:
        flaky.files = make_shards()
        yield flaky


@pytest.fixture(scope="module")
def project() -> tuple[Contract, Files]:
    """The seed with its own contract but for the amounts."""
    contract, files = read_seed(SEED / "gpt")
    sources = [DataSource(file=name, sha256=sha256(content).hexdigest()) for name, content in make_shards().items()]
    settings = {"validation_shard": SHARDS[-1], "vocab_size": 300, "tokenizer_bytes": 100_000}
    settings |= {"sequence_length": 64, "holdout_percent": 20, "scored_bytes": 6000}
    small = {"training_seconds": 3, "handover_seconds": 3, "starting_seconds": 120, "scoring_seconds": 120}
    limits = {"memory_mib": 4096, "processes": 128, "disk_mib": 256, "weights_mib": 256}
    data = Data(sources=sources, base_url=contract.data.base_url, settings=settings)
    return Contract.model_validate(contract.model_dump() | {"budget": small, "limits": limits, "data": data}), files


@pytest.fixture(scope="module")
def data(
    server: FlakyServer, project: tuple[Contract, Files], sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> PreparedData:
    cache = tmp_path_factory.mktemp("cache")
    return prepare_data(*project, cache, sandbox, lambda progress: None, Mirrors(data=server.address))


def test_packs_shards_into_tokens(data: PreparedData) -> None:
    tokens = numpy.fromfile(data.train, dtype=numpy.uint16)
    assert tokens.max() == 299 and (tokens == 299).sum() == 800  # documents of the two training shards
    validation = numpy.load(data.validation)
    windows, sealed = validation["windows"], validation["sealed_windows"]
    assert 0.78 < len(windows) / (len(windows) + len(sealed)) < 0.81
    assert data.needs.facts == {"vocab_size": 300, "sequence_length": 64, "rows": 17}


def test_trains_and_is_scored_on_a_cpu(
    data: PreparedData, project: tuple[Contract, Files], preloaded: PreloadedSandbox, tmp_path: Path
) -> None:
    contract, files = project
    job = RunSpec(files, "c" * 40, contract, 7, "cpu", 1, data, preloaded, detect_machine("cpu", 1).hardware, tmp_path)
    report = measure(job, lambda progress: None, Event())
    assert (report.outcome, report.reason) == (RunOutcome.OK, "")
    assert report.metric is not None and 0.1 < report.metric < 3.2  # untrained: log2(300) bits a token of 2.6 bytes
    assert report.curve[-1].loss < report.curve[0].loss or len(report.curve) < 3


@pytest.mark.parametrize("name", ["gpt", "gpt-cpu"])
def test_what_a_host_can_learn_before_its_first_answer_is_little(name: str) -> None:
    budget = read_seed(SEED / name)[0].budget
    assert budget.answer_seconds is not None and 2 * budget.answer_seconds <= 0.07 * budget.training_seconds


@pytest.mark.parametrize(
    ("is_pinned", "words"),
    [
        (True, r"shard_00001.parquet has the wrong checksum"),
        (False, r"the project.s data could not be prepared: .*[Pp]arquet"),
    ],
)
def test_says_that_a_shard_is_damaged(
    server: FlakyServer, project: tuple[Contract, Files], sandbox: Sandbox, tmp_path: Path, is_pinned: bool, words: str
) -> None:
    """Where nobody states a shard's hash, only reading it shows that it is none."""
    contract, files = project
    if not is_pinned:
        unpinned = contract.data.model_copy(update={"sources": [DataSource(file=name) for name in SHARDS]})
        contract = contract.model_copy(update={"data": unpinned})
    whole = server.files[SHARDS[1]]
    server.files[SHARDS[1]] = whole[: len(whole) // 2]
    with pytest.raises(DataError, match=words):
        prepare_data(contract, files, tmp_path, sandbox, lambda progress: None, Mirrors(data=server.address))
    server.files[SHARDS[1]] = whole
