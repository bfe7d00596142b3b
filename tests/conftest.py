"""Databases of both kinds, a sandbox with torch in it, and the profiles of property tests."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import Past, PostgresServer, SqliteFolder, run_postgres
from tests.support.draws import repeat_draws
from tests.support.examples import register_profiles
from tests.support.leftovers import end_leftovers_with_this_process
from tests.support.preloaded_sandbox import PreloadedSandbox, enter_sandbox
from tests.support.statements import share_statements
from worker.sandbox.choose import choose_sandbox

register_profiles()
share_statements()
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "support" / "authority.pem")
"""Each new client reads all authorities that it trusts, in 18 ms of CPU time; who speaks to loopback needs none."""


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):  # a process that runs tests
        end_leftovers_with_this_process()


gc.disable()  # while modules load: their objects live as long as the process


ACCEPTANCE_SECONDS = 60
"""Weight of an acceptance test that sets no time-out of its own."""


def _weigh(item: pytest.Item) -> float:
    """Seconds by which long tests are dealt to processes, 0 for all others."""
    own = item.get_closest_marker("timeout")
    return own.args[0] if own else ACCEPTANCE_SECONDS * (item.get_closest_marker("acceptance") is not None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the modules of long tests, and deal them to the processes, each of which gets an equal part in order:
    else one process would have them all, and end long after the others."""
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.path, []).append(item)
    weights = {path: sum(map(_weigh, content)) for path, content in modules.items()}
    hands: list[list[pytest.Item]] = [[] for _ in range(processes)]
    loads = [0.0] * processes
    for path in sorted(filter(weights.__getitem__, weights), key=weights.__getitem__, reverse=True):
        least = loads.index(min(loads))
        loads[least] += weights[path]
        hands[least] += modules.pop(path)
    rest = [item for content in modules.values() for item in content]
    dealt: list[pytest.Item] = []
    for left, hand in zip(range(processes, 0, -1), hands, strict=True):
        count = (len(items) - len(dealt)) // left - len(hand)
        dealt += hand + rest[: max(0, count)]
        del rest[: max(0, count)]
    items[:] = dealt + rest


def pytest_collection_finish() -> None:
    """Leave all objects that exist now out of later garbage collections."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _repeat_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that passes by the draws of one run passes in all."""
    repeat_draws(monkeypatch.setattr)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, started when the first test asks."""
    with run_postgres() as server:
        server.configure("autovacuum", "off")  # which goes through the databases of all tests, and changes plans
        yield server


@pytest.fixture(scope="session")
def sqlite_folder(tmp_path_factory: pytest.TempPathFactory) -> SqliteFolder:
    return SqliteFolder(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture
def earlier() -> Past | None:
    """The rows of a database when a test begins: none, unless a module overrides this."""
    return None


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, earlier: Past | None, tmp_path: Path) -> Iterator[str]:
    """A migrated database with what happened `earlier` in it: the test runs once on each kind."""
    if request.param == "sqlite":
        folder: SqliteFolder = request.getfixturevalue("sqlite_folder")
        yield folder.create_filled(tmp_path, earlier) if earlier else folder.create_migrated(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    if earlier:
        with server.lend_filled(earlier) as address:
            yield address
        return
    address = server.create_migrated()
    yield address
    server.give_back(address)


@pytest.fixture(scope="session")
def preloaded() -> Iterator[PreloadedSandbox]:
    """The real sandbox, in which torch is imported once for all tests that can share it."""
    with enter_sandbox(choose_sandbox("auto")) as preloaded:
        yield preloaded
