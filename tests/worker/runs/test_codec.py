"""Whole runs of seed/codec: the same supervisor and sandboxes, nothing of machine learning."""

import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import psutil
import pytest

from shared.contract import Contract
from shared.leases import Phase
from shared.runs import RunOutcome, RunReport
from tests.support.tiny_project import Files, codec_contract, codec_files, pack_text, serve_text
from worker.data.prepare import PreparedData, prepare_data
from worker.machine.hardware import detect_machine
from worker.runs.runner import measure
from worker.runs.spec import RunProgress, RunSpec, RunStopped
from worker.sandbox.base import Sandbox
from worker.sandbox.choose import choose_sandbox

MeasureCodec = Callable[..., RunReport]


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[tuple[Contract, PreparedData]]:
    folder = tmp_path_factory.mktemp("web")
    with serve_text(folder) as address:
        contract = codec_contract(address, pack_text())
        yield contract, prepare_data(contract, codec_files(), folder / "cache", sandbox, lambda _: None)


@pytest.fixture
def measure_codec(codec: tuple[Contract, PreparedData], sandbox: Sandbox, tmp_path: Path) -> MeasureCodec:
    contract, data = codec

    def run(
        files: Files,
        budget: float = 20,
        decompress_seconds: float = 20,
        sandbox: Sandbox = sandbox,
        on_progress: Callable[[RunProgress], None] = lambda progress: None,
        stop: Event | None = None,
    ) -> RunReport:
        """With a budget that no busy machine exceeds."""
        seconds = contract.budget.model_copy(update={"training_seconds": budget, "starting_seconds": 90})
        settings = contract.data.settings | {"decompress_seconds": decompress_seconds}
        section = contract.data.model_copy(update={"settings": settings})
        changed = contract.model_copy(update={"budget": seconds, "data": section})
        job = RunSpec(
            files, "c" * 40, changed, 7, "cpu", 1, data, sandbox, detect_machine("cpu", 1).hardware, tmp_path / "run"
        )
        return measure(job, on_progress, stop or Event())

    return run


def with_code(code: str) -> Files:
    """codec.py with functions of the same names after its own."""
    files = codec_files()
    return files | {"codec.py": files["codec.py"] + "\n\n" + code}


def test_measures_the_seed(measure_codec: MeasureCodec, codec: tuple[Contract, PreparedData]) -> None:
    report = measure_codec(codec_files())
    assert (report.outcome, report.reason) == (RunOutcome.OK, "")
    text = codec[1].validation.read_bytes()
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 23, "lc": 3, "lp": 0, "pb": 2, "nice_len": 64}]
    packed = lzma.compress(text, format=lzma.FORMAT_RAW, filters=filters)
    own = len(codec_files()["codec.py"].encode())
    assert report.metric == pytest.approx(8 * (len(packed) + own) / len(text), rel=0.03)
    assert report.scored_bytes == len(text) == 100_000


def test_is_the_same_every_time_also_without_a_sandbox(measure_codec: MeasureCodec) -> None:
    confined, unconfined = (
        measure_codec(codec_files()),
        measure_codec(codec_files(), sandbox=choose_sandbox("unconfined")),
    )
    assert confined.metric == unconfined.metric
    assert (confined.sandbox, unconfined.sandbox) == ("bubblewrap", "unconfined")


def test_the_file_counts(measure_codec: MeasureCodec) -> None:
    """Bytes shipped in the file count: here 1,000 of no use."""
    first = measure_codec(codec_files()).metric
    second = measure_codec(with_code("# " + "x" * 995 + "\n")).metric
    assert first is not None and second is not None
    assert second - first == pytest.approx(8 * 1000 / 100_000)


TEXT = "TEXT = None\n\ndef compress(text):\n    global TEXT\n    TEXT = text\n    open('/tmp/text', 'wb').write(text)\n"
FAILURES = {
    "loses a byte": (
        "def decompress(packed):\n    return lzma.decompress(packed, format=lzma.FORMAT_RAW, filters=FILTERS)[:-1]\n",
        RunOutcome.INVALID,
        "99,999 bytes, is not the text of 100,000: they differ from byte 99,999 on",
    ),
    "changes a byte": (
        "def compress(text):\n    text = text[:50] + b'~' + text[51:]\n"
        "    return lzma.compress(text, format=lzma.FORMAT_RAW, filters=FILTERS)\n",
        RunOutcome.INVALID,
        "they differ from byte 50 on",
    ),
    "returns more than asked": (
        "def decompress(packed):\n"
        "    return lzma.decompress(packed, format=lzma.FORMAT_RAW, filters=FILTERS) + b'x' * 10**7\n",
        RunOutcome.INVALID,
        "10,100,000 bytes, is not the text of 100,000",
    ),
    "hides the text beside the channel": (
        TEXT + "    return b'see /tmp/text'\n\n"
        "def decompress(packed):\n    return TEXT or open('/tmp/text', 'rb').read()\n",
        RunOutcome.CRASHED,
        "No such file or directory: '/tmp/text'",
    ),
    "looks for the text": (
        "def decompress(packed):\n    import glob, os\n"
        "    for path in glob.glob('/proc/*/fd/*') + glob.glob('/project/**', recursive=True):\n"
        "        if os.path.isfile(path) and os.path.getsize(path) == 100_000:\n"
        "            return open(path, 'rb').read()\n    raise LookupError('nothing here')\n",
        RunOutcome.CRASHED,
        "nothing here",
    ),
    "hides the text behind the result": (
        "import os\n\ndef room():\n"
        "    for name in os.listdir('/proc/self/fd'):\n"
        "        if os.path.exists(f'/proc/self/fd/{name}') and os.fstat(int(name)).st_size == 4 << 20:\n"
        "            return int(name)\n    raise LookupError('no room')\n\n"
        "def compress(text):\n    os.pwrite(room(), text, 1 << 20)\n    return b'see there'\n\n"
        "def decompress(packed):\n    return os.pread(room(), 100_000, 1 << 20)\n",
        RunOutcome.CRASHED,
        "codec.py raised LookupError: no room",
    ),
    "no bytes": ("def compress(text):\n    return text.decode()\n", RunOutcome.CRASHED, "returned a str, not bytes"),
    "no function": ("del decompress\n", RunOutcome.CRASHED, "codec.py defines no function `decompress`"),
    "raises": (
        "def compress(text):\n    return text[10**9]\n",
        RunOutcome.CRASHED,
        "codec.py raised IndexError: index out of range",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_says_what_is_wrong(name: str, measure_codec: MeasureCodec) -> None:
    code, outcome, reason = FAILURES[name]
    report = measure_codec(with_code(code))
    assert report.outcome is outcome
    assert reason in report.reason
    assert report.metric is None


def test_holds_both_clocks(measure_codec: MeasureCodec) -> None:
    sleep = "import time\n\ndef compress(text):\n    time.sleep(99)\n"
    report = measure_codec(with_code(sleep), 1)
    assert report.outcome is RunOutcome.TIMEOUT
    assert report.reason.startswith("training and handing over the result took more than 1 + 0.2 s")
    slow = "import time\n\npack = decompress\n\ndef decompress(packed):\n    time.sleep(0.3)\n    return pack(packed)\n"
    report = measure_codec(with_code(slow), decompress_seconds=0.2)
    assert report.outcome is RunOutcome.INVALID
    assert report.reason.startswith("decompressing took ") and report.reason.endswith("0.2 s are allowed")


DECODE = """
import os, threading, time

honest, known = decompress, []

def decode(packed):
    time.sleep(3)  # what takes so long in a real attempt is decoding
    known.append(honest(packed))

def decompress(packed):
    if not known:
        decode(packed)
    return known[0]
"""
BEFORE_THE_CLOCK = {
    "hooks the harness": "\nread = os.pread\n\ndef pread(*place):\n    packed = read(*place)\n"
    "    if 0 < len(packed) < 90_000:\n        decode(packed)\n    return packed\n\nos.pread = pread\n",
    "watches for the packed bytes": "\ndef watch():\n    while not known:\n"
    "        for name in os.listdir('/proc/self/fd'):\n            try:\n"
    "                decode(os.pread(int(name), 1 << 22, 0))\n"
    "            except Exception:\n                time.sleep(0.001)\n\n"
    "threading.Thread(target=watch, daemon=True).start()\n",
}
CLOCK = "    asked_at = time.monotonic()\n"
UNTIMED = '    channel.send("ask", count=0)\n    channel.expect("answered")\n'
"""A first question without a watch: the host gets the packed bytes before the clock runs."""


@pytest.mark.parametrize("way", BEFORE_THE_CLOCK)
def test_nothing_is_decoded_before_the_clock(way: str, measure_codec: MeasureCodec) -> None:
    files = with_code(DECODE + BEFORE_THE_CLOCK[way])
    scorer = files["harness/scorer.py"]
    assert scorer.count(CLOCK) == 1
    without_defence = files | {"harness/scorer.py": scorer.replace(CLOCK, UNTIMED + CLOCK)}
    assert measure_codec(without_defence, 60, decompress_seconds=2).outcome is RunOutcome.OK
    report = measure_codec(files, 60, decompress_seconds=2)
    assert report.outcome is RunOutcome.INVALID
    assert report.reason.startswith("decompressing took ")


def test_tables_of_an_import_are_free(measure_codec: MeasureCodec) -> None:
    report = measure_codec(with_code("import time\n\ntime.sleep(3)\n"), decompress_seconds=2)
    assert (report.outcome, report.reason) == (RunOutcome.OK, "")


def descendants() -> set[psutil.Process]:
    """Live descendants of this process."""
    return {p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE}


@pytest.mark.parametrize(("phase", "slow"), [(Phase.TRAINING, "compress"), (Phase.SCORING, "decompress")])
def test_stops_when_asked(measure_codec: MeasureCodec, phase: Phase, slow: str) -> None:
    stop, others = Event(), descendants()

    def ask(progress: RunProgress) -> None:
        if progress.phase is phase:
            stop.set()

    sleep = (
        "import signal, time\n\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n\n"
        f"def {slow}(data):\n    time.sleep(999)\n"
    )
    with pytest.raises(RunStopped, match="asked to stop"):
        measure_codec(with_code(sleep), 900, decompress_seconds=900, on_progress=ask, stop=stop)
    assert descendants() <= others
