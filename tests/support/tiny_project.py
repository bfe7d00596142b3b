"""A project made from the real seed, with a small text that comes over loopback HTTP and a second of budget."""

import gzip
import hashlib
import io
import json
import re
import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

from shared.contract import Contract, parse_contract
from shared.seeds import read_seed
from tests.support.shards import make_shards

PACKAGE = "tiny-1.0.tar.gz"
SEED = Path(__file__).parents[2] / "seed"
MEMBER = "tiny-1.0/words.jsonl"
SMALL = {"DEPTH": 1, "WIDTH": 64, "BATCH_SIZE": 4, "LEARNING_RATE": 0.01}

Files = dict[str, str]


def seed_files() -> Files:
    """The work tree of a project made from seed/gpt-cpu, with a model so small that a second teaches it something."""
    files = read_seed(SEED / "gpt-cpu")[1]
    for name, value in SMALL.items():
        files["train.py"], replaced = re.subn(rf"(?m)^{name} = \S+", f"{name} = {value}", files["train.py"])
        assert replaced == 1, name
    return files


def files_that_log_their_budget() -> Files:
    """As those, but the training ends after a step, whose loss is the budget in seconds."""
    files = seed_files()
    loop = "while not ctx.out_of_time():\n        number += 1\n        ctx.log(number, step())"
    assert files["train.py"].count(loop) == 1
    return files | {"train.py": files["train.py"].replace(loop, "step()\n    ctx.log(1, ctx.budget_seconds)")}


def codec_files() -> Files:
    """The work tree of a project made from seed/codec."""
    return read_seed(SEED / "codec")[1]


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
    with tarfile.open(fileobj=packed, mode="w") as package:
        info = tarfile.TarInfo(MEMBER)
        info.size = len(content)
        package.addfile(info, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve a folder over loopback HTTP; its address."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serve_text(folder: Path) -> Iterator[str]:
    """Serve the text's package from a folder; its address."""
    (folder / PACKAGE).write_bytes(pack_text())
    with serve_folder(folder) as address:
        yield address


def codec_contract(address: str, package: bytes) -> Contract:
    """seed/codec's own contract, but for the text, which is `package` at `address`."""
    contract = parse_contract((SEED / "codec" / "swarm.toml").read_text())
    settings = contract.data.settings | {"member": MEMBER, "held_out_bytes": 100_000}
    return Contract.model_validate(
        contract.model_dump() | {"data": {"sources": [_source(address, package)], "settings": settings}}
    )


def _source(address: str, package: bytes) -> dict[str, str]:
    return {"file": PACKAGE, "url": f"{address}/{PACKAGE}", "sha256": hashlib.sha256(package).hexdigest()}


def tiny_contract(address: str, package: bytes) -> Contract:
    """The seed's own contract, but for the text, which is `package` at `address`, and the amounts."""
    contract = parse_contract((SEED / "gpt-cpu" / "swarm.toml").read_text())
    source = _source(address, package)
    settings = {"member": MEMBER, "vocab_size": 320, "sequence_length": 32, "validation_percent": 30}
    return Contract.model_validate(
        contract.model_dump()
        | {
            "data": {"sources": [source], "settings": settings | {"holdout_percent": 25, "scored_bytes": 8192}},
            "budget": {  # as late as on a busy machine it may be handed over
                "training_seconds": 1.2,
                "handover_seconds": 60,
                "starting_seconds": 120,
                "scoring_seconds": 120,
            },
        }
    )


def _set(toml: str, name: str, value: str) -> str:
    changed, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", toml)
    assert count == 1, name
    return changed


ONLY_IMPROVE = "draft = 0\nadopt = 0\nablate = 0\ntune = 0\ncontrol = 0\n"
"""For the end of a contract, which is its section `jobs`: after the seed, each job is of the same kind."""


def write_tiny_seed(folder: Path, address: str, package: bytes) -> Path:
    """The same project as a seed's folder beside its harness, for `create-project`; returns the seed's folder."""
    for path, text in seed_files().items():
        place = folder / path if path.startswith("harness/") else folder / "tiny" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    contract = folder / "tiny" / "swarm.toml"
    before, _, rest = contract.read_text().partition("[data.settings]")
    _, _, after = rest.partition("[evidence]")
    contract.write_text(
        _set(_set(before, "training_seconds", "1.2"), "plausible_floor", "0.01")  # so plain a text is learnt in no time
        + f'[data.settings]\nmember = "{MEMBER}"\nvocab_size = 320\nsequence_length = 32\nvalidation_percent = 30\n'
        "holdout_percent = 25\nscored_bytes = 8192\n\n"
        f'[[data.sources]]\nurl = "{address}/{PACKAGE}"\nfile = "{PACKAGE}"\n'
        f'sha256 = "{hashlib.sha256(package).hexdigest()}"\n\n[evidence]{_set(after, "replicate", "0")}{ONLY_IMPROVE}'
    )
    return folder / "tiny"


def write_gpt_seed(folder: Path) -> Path:
    """seed/gpt's folder beside its harness, for a CPU: three seconds, and little of the shards; returns the seed's."""
    shutil.copytree(SEED / "harness", folder / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(SEED / "gpt", folder / "gpt", ignore=shutil.ignore_patterns("__pycache__"))
    contract = folder / "gpt" / "swarm.toml"
    text = re.sub(r'(?m)^    { file = "shard_(?!00000|00001|06542).*\n', "", contract.read_text())
    text = re.sub(r"(?m)^\[\[rungs\]\]\n(.+\n)+", "", text)
    text = re.sub(r"(?m)^device_memory_mib = .*\n", "", text)
    changes = {
        "plausible_floor": "0.01",  # so plain a text is learnt in no time
        "training_seconds": "3",
        "handover_seconds": "60",
        "vocab_size": "300",
        "tokenizer_bytes": "100000",
        "sequence_length": "64",
        "scored_bytes": "6000",
        "memory_mib": "4096",
        "weights_mib": "64",
    }
    for name, value in changes.items():
        text = _set(text, name, value)
    for name, content in make_shards().items():
        text = re.sub(rf'(?<={name}", sha256 = ")\w+', hashlib.sha256(content).hexdigest(), text)
    contract.write_text(text)
    return folder / "gpt"


def write_codec_seed(folder: Path, address: str, package: bytes, more_code: str = "") -> Path:
    """seed/codec's folder with that text, a patient budget and more code at its file's end; returns it."""
    shutil.copytree(SEED / "codec", folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "codec.py").open("a") as file:
        file.write(more_code)
    contract = folder / "swarm.toml"
    text = re.sub(r"(?m)^pypi = .*$", f'url = "{address}/{PACKAGE}"', contract.read_text())
    changes = {
        "plausible_floor": "0.01",  # so plain a text takes little room
        "training_seconds": "60",
        "decompress_seconds": "60",
        "member": f'"{MEMBER}"',
        "held_out_bytes": "20000",
        "file": f'"{PACKAGE}"',
        "sha256": f'"{hashlib.sha256(package).hexdigest()}"',
    }
    for name, value in changes.items():
        text = _set(text, name, value)
    contract.write_text(_set(text, "replicate", "0") + ONLY_IMPROVE)
    return folder
