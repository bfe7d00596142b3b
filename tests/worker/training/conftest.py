"""A real copy of the seed, its budget cut to about a second, on a small text that comes over loopback HTTP."""

import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Event

import pytest

from shared.contract import Contract, parse_contract
from shared.runs import RunReport
from worker.data import PreparedData, prepare_data
from worker.hardware import detect_hardware
from worker.sandbox import Sandbox, choose_sandbox
from worker.training import Progress, TrainingJob, measure

SEED = Path(__file__).parents[3] / "seed"
MEMBER = "tiny-1.0/words.jsonl"
SMALL = {"DEPTH": 1, "WIDTH": 64, "BATCH_SIZE": 4, "LEARNING_RATE": 0.01}

Files = dict[str, str]
Measure = Callable[..., RunReport]


def seed_files() -> Files:
    """The work tree of a project made from seed/gpt-cpu, with a model so small that a second teaches it something."""
    files = {path.name: path.read_text() for path in (SEED / "gpt-cpu").iterdir() if path.is_file()}
    files |= {f"harness/{path.name}": path.read_text() for path in (SEED / "harness").glob("*.py")}
    for name, value in SMALL.items():
        files["train.py"], replaced = re.subn(rf"(?m)^{name} = \S+", f"{name} = {value}", files["train.py"])
        assert replaced == 1, name
    return files


def pack_text() -> bytes:
    """A source package in the manner of the seed's: JSON lines of a text with some order in it, about 400 kB."""
    draw = Random(0)
    nouns, verbs = ("king", "river", "lamp", "field", "city", "stone"), ("saw", "gave", "took", "made", "kept")
    lines = [
        f"And the {draw.choice(nouns)} {draw.choice(verbs)} the {draw.choice(nouns)} of {draw.randrange(1000)}."
        for _ in range(9000)
    ]
    content = "".join(json.dumps({"text": line}) + "\n" for line in lines).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as package:
        info = tarfile.TarInfo(MEMBER)
        info.size = len(content)
        package.addfile(info, io.BytesIO(content))
    return packed.getvalue()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def web_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the loopback server serves."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "tiny-1.0.tar.gz").write_bytes(pack_text())
    return folder


@pytest.fixture(scope="session")
def web_address(web_folder: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(web_folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def contract(web_folder: Path, web_address: str) -> Contract:
    """The seed's own contract, but for the text and the amounts."""
    contract = parse_contract((SEED / "gpt-cpu" / "swarm.toml").read_text())
    source = {
        "file": "tiny-1.0.tar.gz",
        "url": f"{web_address}/tiny-1.0.tar.gz",
        "sha256": hashlib.sha256((web_folder / "tiny-1.0.tar.gz").read_bytes()).hexdigest(),
    }
    settings = {"member": MEMBER, "vocab_size": 320, "sequence_length": 32, "validation_percent": 10}
    return Contract.model_validate(
        contract.model_dump()
        | {
            "data": {"sources": [source], "settings": settings | {"scored_bytes": 8192}},
            "budget": {"training_seconds": 1.2, "handover_seconds": 1, "starting_seconds": 60, "scoring_seconds": 60},
        }
    )


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    return choose_sandbox("auto")


@pytest.fixture(scope="session")
def data(contract: Contract, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare_data(contract, seed_files(), tmp_path_factory.mktemp("cache"), sandbox, lambda progress: None)


@pytest.fixture
def measure_files(contract: Contract, sandbox: Sandbox, data: PreparedData, tmp_path: Path) -> Measure:
    """Measure a work tree; `budget` replaces parts of the contract's, `limits` likewise."""

    def run(
        files: Files,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        stop: Event | None = None,
        budget: Mapping[str, float] | None = None,
        limits: Mapping[str, int] | None = None,
        sandbox: Sandbox = sandbox,
    ) -> RunReport:
        changed = contract.model_copy(
            update={
                "budget": contract.budget.model_copy(update=dict(budget or {})),
                "limits": contract.limits.model_copy(update=dict(limits or {})),
            }
        )
        hardware = detect_hardware("cpu", 1)
        job = TrainingJob(files, "c" * 40, changed, 7, "cpu", 1, data, sandbox, hardware, tmp_path / "run")
        return measure(job, on_progress, stop or Event())

    return run
