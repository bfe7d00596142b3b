"""A real coordinator and two real workers of unequal machines, as processes, on the compressor.

The machine with the lower priority stands for a slower one: the seed's own code makes its results longer by so many
bytes, always the same, so that what the coordinator finds out about it can be compared with what is so.
"""

import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import mean

import httpx
import pytest

from coordinator.db.database import Database
from shared.commits import CommitWords, build_blob, build_commit, build_trees
from shared.experiments import JobKind
from shared.records import EvidenceRun
from shared.runs import RunView
from swarm import Client
from tests.acceptance.conftest import BIN, Volunteer, open_swarm
from tests.support.databases import SqliteFolder
from tests.support.tiny_project import pack_text, write_codec_seed
from tests.support.tokens import create_token

NICE = 5
TEXT_BYTES = 20_000
OFFSET = NICE * 40 * 8 / TEXT_BYTES
"""By how many bits per byte the slower machine's results are too high."""

UNEQUAL = """
import os

_compress = compress


def compress(text: bytes) -> bytes:
    return _compress(text) + bytes(40 * os.getpriority(os.PRIO_PROCESS, 0))
"""
JOBS = 6

pytestmark = pytest.mark.acceptance


@pytest.fixture
def swarm(text_server: str, sqlite_folder: SqliteFolder, tmp_path: Path) -> Iterator[tuple[str, list[Volunteer]]]:
    """A database's address, and two volunteers; every second job is a control, or a replication that is due."""
    seed = write_codec_seed(tmp_path / "seed", text_server, pack_text(), UNEQUAL)
    contract = (seed / "swarm.toml").read_text()
    assert "control = 0" in contract and "noise_sd = 0.0012" in contract
    contract = contract.replace("control = 0", "control = 4").replace("noise_sd = 0.0012", "noise_sd = 0.001")
    contract = contract.replace('substitute = "harness.substitute"\n', "")  # so that equal commits give equal results
    (seed / "swarm.toml").write_text(contract.replace("effect_sd", "offset_sd = 0.05\neffect_sd"))
    url = sqlite_folder.create_migrated(tmp_path)
    with open_swarm(seed, url, tmp_path) as quick:
        database = Database(url)
        with database.write() as session:
            token = create_token(session, "bob", "test")
        database.close()
        yield url, [quick, replace(quick, token=token)]


def work_together(quick: Volunteer, slow: Volunteer, jobs: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        ends = [
            pool.submit(quick.work, "--name", "quick", jobs=jobs),
            pool.submit(slow.work, "--name", "slow", "--nice", str(NICE), jobs=jobs),
        ]
        for end in ends:
            end.result()


def list_controls(runs: Iterable[RunView]) -> list[RunView]:
    """The controls, but for those of the seed: it is also measured again by the one that began while it is alone."""
    return [run for run in runs if run.kind is JobKind.CONTROL and run.experiment_id is not None]


def has_control(volunteer: Volunteer) -> bool:
    with Client(volunteer.url) as client:
        return bool(list_controls(client.list_runs("codec", limit=200)))


def test_two_unequal_workers_do_research(swarm: tuple[str, list[Volunteer]]) -> None:
    database_url, (quick, slow) = swarm
    work_together(quick, slow, JOBS)
    for _ in range(6):  # what their trust makes due comes before controls
        if has_control(quick):
            break
        work_together(quick, slow, 2)
    environment = {**quick.environment, "SWARM_DATABASE_URL": database_url}
    subprocess.run([BIN / "swarm-coordinator", "new-epoch"], env=environment, check=True, capture_output=True)
    with Client(quick.url) as client, httpx.Client(base_url=quick.url, timeout=60) as http:
        runs = list(client.list_runs("codec", limit=200))
        check_runs(runs)
        check_offsets(client, runs)
        experiments = quick.list_experiments()
        assert experiments and all(row.finding is not None and row.why for row in experiments)
        check_commit(http, experiments[0].sha)
        check_page(http, experiments[0].id, experiments[0].title)
        assert client.list_live_leases("codec") == []


def check_runs(runs: list[RunView]) -> None:
    assert {run.outcome for run in runs} <= {"ok", "crashed"}, "constants that LZMA does not take together crash"
    assert {run.sandbox for run in runs} == {"bubblewrap"}
    assert len({run.hardware_class for run in runs}) == 1
    assert {run.worker.partition("/")[2].partition("-")[0] for run in runs} == {"quick", "slow"}
    controls = list_controls(runs)
    assert controls
    for control in controls:
        others = {run.worker for run in runs if run.commit_sha == control.commit_sha} - {control.worker}
        assert others, "a control measures what another worker measured"


def check_offsets(client: Client, runs: list[RunView]) -> None:
    """The coordinator's offsets agree with the workers' runs of the same commits."""
    differences = []
    for sha in {run.commit_sha for run in runs}:
        by_worker: dict[str, list[float]] = {}
        for run in runs:
            if run.commit_sha == sha and run.metric is not None:
                by_worker.setdefault(run.worker.partition("/")[2].partition("-")[0], []).append(run.metric)
        if len(by_worker) == 2:
            differences.append(mean(by_worker["slow"]) - mean(by_worker["quick"]))
    assert len(differences) >= 2, "the seed, and what was controlled"
    assert differences == pytest.approx([OFFSET] * len(differences), abs=1e-9)
    told: dict[str, EvidenceRun] = {}
    for experiment in client.list_experiments("codec"):
        evidence = client.get_evidence(experiment.id)
        assert evidence.story and evidence.would_change
        for used in evidence.runs:
            if used.metric is not None:
                assert used.read_as == pytest.approx(used.metric - used.offset.mean)
            told[used.worker.partition("/")[2].partition("-")[0]] = used
    slow, quick = told["slow"].offset, told["quick"].offset
    assert slow.mean - quick.mean == pytest.approx(OFFSET, abs=3 * (slow.sd + quick.sd))
    assert slow.mean - quick.mean > 0.8 * OFFSET, "and not merely the prior"


def check_commit(http: httpx.Client, sha: str) -> None:
    """The files that the coordinator serves are the tree that the sha names."""
    files = http.get(f"/api/v1/projects/codec/commits/{sha}/files").json()
    tree_sha, _ = build_trees({path: build_blob(text).sha for path, text in files["files"].items()})
    parent = http.get(f"/api/v1/projects/codec/commits/{files['parent_sha']}/files").json()
    changed = [path for path, text in files["files"].items() if parent["files"][path] != text]
    assert changed == ["codec.py"]
    assert build_commit(tree_sha, files["parent_sha"], CommitWords("A <a@b>", 0, "m")).sha != sha


def check_page(http: httpx.Client, experiment_id: int, title: str) -> None:
    page = http.get(f"/experiments/{experiment_id}")
    assert page.status_code == 200
    assert title.split(" ")[0] in page.text and "codec.py" in page.text
    assert http.get(f"/experiments/{experiment_id}.json").json()["id"] == experiment_id
