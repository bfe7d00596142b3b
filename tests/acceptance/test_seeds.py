"""seed/gpt with a real coordinator and a real worker; test_installed.py has seed/gpt-cpu and seed/codec."""

from pathlib import Path

import pytest

from shared.runs import RunOutcome
from swarm import Client
from tests.acceptance.conftest import open_swarm
from tests.support.databases import SqliteFolder
from tests.support.shards import SHARDS, make_shards
from tests.support.tiny_project import serve_folder, write_gpt_seed

pytestmark = pytest.mark.acceptance


def test_gpt_from_its_shards_to_a_result(sqlite_folder: SqliteFolder, tmp_path: Path) -> None:
    """A worker that has nothing yet fetches the shards and measures the seed; then everybody can read the result."""
    web = tmp_path / "web"
    web.mkdir()
    for name, content in make_shards().items():
        (web / name).write_bytes(content)
    seed, database = write_gpt_seed(tmp_path / "seed"), sqlite_folder.create_migrated(tmp_path)
    with serve_folder(web) as address, open_swarm(seed, database, tmp_path) as volunteer:
        done = volunteer.work(jobs=1, SWARM_DATA_MIRROR=address)
        with Client(volunteer.url) as client:
            (run,) = client.list_runs("gpt")
    assert all(f"downloading {name}" in done.stderr for name in SHARDS)
    assert (run.outcome, run.reason) == (RunOutcome.OK, "")
    assert run.metric is not None and 0.1 < run.metric < 4, "untrained, it is about 3.2"
