"""Knowledge of the public text, with and without symbols of the run's own."""

import io
import json
import pydoc_data.topics
import tarfile
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy
import pytest

from shared.runs import RunOutcome, RunReport
from tests.support.tiny_project import MEMBER, Files, codec_contract, codec_files, seed_files, serve_folder
from tests.support.tiny_project import PACKAGE as PACKAGE_NAME
from tests.worker.runs.conftest import Measure
from worker.data.prepare import PreparedData, prepare_data
from worker.machine.hardware import detect_machine
from worker.runs.runner import measure
from worker.runs.spec import RunSpec
from worker.sandbox.base import Sandbox

HELD_OUT_BYTES = 20_000


def known_text() -> str:
    """English that stands in a program of every sandbox."""
    return "".join(pydoc_data.topics.topics.values())[-40_000:]


KNOWS = """
import pydoc_data.topics
import zlib

KNOWN = "".join(pydoc_data.topics.topics.values()).encode()[-30_000:]


def compress(text):
    packer = zlib.compressobj(9, zdict=KNOWN)
    return packer.compress(text) + packer.flush()


def decompress(packed):
    return zlib.decompressobj(zdict=KNOWN).decompress(packed)
"""
FINDS_THE_LETTERS_AGAIN = """
import string
from collections import Counter

primed_compress, primed_decompress = compress, decompress
LETTERS = string.ascii_lowercase


def order(text):
    counts = Counter(text.decode().lower())
    return "".join(sorted(LETTERS, key=lambda letter: -counts[letter]))


def exchange(text, old, new):
    return text.translate(bytes.maketrans((old + old.upper()).encode(), (new + new.upper()).encode()))


def compress(text):
    return order(text).encode() + primed_compress(exchange(text, order(text), order(KNOWN)))


def decompress(packed):
    return exchange(primed_decompress(packed[26:]), order(KNOWN), packed[:26].decode())
"""


@pytest.fixture(scope="module")
def measure_codec(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Callable[[str, bool], RunReport]:
    """Measure seed/codec with code after its own, on a text that every sandbox holds; False: letters as they are."""
    folder = tmp_path_factory.mktemp("known")
    package, lines = io.BytesIO(), [json.dumps({"text": line}) for line in known_text().splitlines()]
    content = "\n".join(lines).encode()
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        info = tarfile.TarInfo(MEMBER)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    (folder / PACKAGE_NAME).write_bytes(package.getvalue())
    with serve_folder(folder) as address:
        contract = codec_contract(address, package.getvalue())
        settings = contract.data.settings | {"held_out_bytes": HELD_OUT_BYTES, "decompress_seconds": 20}
        seconds = contract.budget.model_copy(update={"training_seconds": 20, "starting_seconds": 90})
        contract = contract.model_copy(
            update={"data": contract.data.model_copy(update={"settings": settings}), "budget": seconds}
        )
        data = prepare_data(contract, codec_files(), folder / "cache", sandbox, lambda _: None)

    def run(code: str, substitutes: bool) -> RunReport:
        files = codec_files()
        files["codec.py"] += code
        commands = contract.commands if substitutes else contract.commands.model_copy(update={"substitute": None})
        hardware, own = detect_machine("cpu", 1).hardware, contract.model_copy(update={"commands": commands})
        job = RunSpec(files, "c" * 40, own, 7, "cpu", 1, data, sandbox, hardware, folder / "run")
        return measure(job, lambda _: None, Event())

    return run


def packed_share(report: RunReport, code: str) -> float:
    """The bits per byte of text without those of the file."""
    assert report.metric is not None, report.reason
    return report.metric - 8 * len((codec_files()["codec.py"] + code).encode()) / HELD_OUT_BYTES


def test_texts_of_the_machine_help_no_codec(measure_codec: Callable[[str, bool], RunReport]) -> None:
    honest, attack = packed_share(measure_codec("", True), ""), packed_share(measure_codec(KNOWS, True), KNOWS)
    assert attack > honest - 0.1
    assert packed_share(measure_codec(KNOWS, False), KNOWS) < 0.2 * honest
    assert packed_share(measure_codec("", False), "") == pytest.approx(honest, rel=0.02), "an honest one loses nothing"


def test_what_is_left_to_a_codec_that_finds_the_letters_again(measure_codec: Callable[[str, bool], RunReport]) -> None:
    """Counting letters finds the frequent ones; the code for it counts in the metric."""
    code = KNOWS + FINDS_THE_LETTERS_AGAIN
    found, blind = packed_share(measure_codec(code, True), code), packed_share(measure_codec(KNOWS, True), KNOWS)
    assert found < blind


NAMES_TOKENS = """
honest_build = build


def build(config):
    model = honest_build(config)
    model.head = nn.Linear(WIDTH, config.vocab_size)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor(SHIPPED).log())
    return model


def train(ctx, model):
    ctx.start()
    ctx.log(1, 1.0)
"""
COUNTS_TOKENS = """
def train(ctx, model):
    ctx.start()
    counts = torch.zeros(len(SHIPPED))
    for _, (inputs, _targets) in zip(range(400), ctx.batches(16)):
        counts += torch.bincount(inputs.flatten(), minlength=len(SHIPPED))
    with torch.no_grad():
        model.head.bias.copy_((counts + 0.5).log())
    ctx.log(1, 1.0)
"""


def test_a_table_by_token_helps_no_model(measure_files: Measure, data: PreparedData) -> None:
    """It ships the frequencies of the training text. Counting them in the training is as good as knowing them."""
    counts = numpy.bincount(numpy.fromfile(Path(data.train), dtype=numpy.uint16), minlength=320) + 0.5
    shipped = f"\n\nSHIPPED = {[round(float(share), 6) for share in counts / counts.sum()]}\n"

    def score(code: str, substitute: str | None) -> float:
        files: Files = seed_files()
        files["train.py"] += shipped + code
        report = measure_files(
            files, commands={"substitute": substitute}, budget={"may_end_early": True, "training_seconds": 20.0}
        )
        assert report.outcome is RunOutcome.OK and report.metric is not None, report.reason
        return report.metric

    known = score(NAMES_TOKENS, None)
    renumbered = score(NAMES_TOKENS, "harness.substitute")
    counted = score(NAMES_TOKENS + COUNTS_TOKENS, "harness.substitute")
    assert renumbered > known + 1
    assert counted == pytest.approx(known, rel=0.02)
