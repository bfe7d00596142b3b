"""Settings from the environment: misspelled names, addresses that cannot be used, names that the worker shares."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.db.database import Database, DatabaseError, parse_address
from coordinator.settings import CoordinatorSettings
from shared.environment import COORDINATOR_NAMES, KNOWN_NAMES, WORKER_NAMES, find_unknown
from tests.worker.small_disk import run_on_small_disk
from worker.settings import WorkerSettings, _variables


def migrate(folder: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> tuple[int, str]:
    """Run `swarm-coordinator migrate` in a folder; its exit status and words on stderr."""
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["migrate"], env=environment, catch_exceptions=False)
    assert done.stderr.count("\n") <= 1 and "Traceback" not in done.stderr
    return done.exit_code, done.stderr


def test_each_process_knows_the_names_of_both() -> None:
    assert {f"SWARM_{name.upper()}" for name in CoordinatorSettings.model_fields} == COORDINATOR_NAMES
    variables = {variable for name in WorkerSettings.model_fields for variable in _variables(name)}
    assert {name for name in variables if name.startswith("SWARM_")} == WORKER_NAMES, "add the new setting there"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SWARM_DATABSE_URL", "SWARM_DATABASE_URL"), ("SWARM_DATABASE", "SWARM_DATABASE_URL"),
        ("SWARM_DB_URL", "SWARM_DATABASE_URL"), ("SWARM_DATABASEURL", "SWARM_DATABASE_URL"),
        ("swarm_databse_url", "SWARM_DATABASE_URL"), ("SWARM_PUBLIC_READ", "SWARM_PUBLIC_READING"),
        ("SWARM_SIGNUPS_PER_HOUR", "SWARM_SIGN_UPS_PER_HOUR"), ("SWARM_LOGFORMAT", "SWARM_LOG_FORMAT"),
        ("SWARM_COORDINATOR", "SWARM_COORDINATOR_URL"), ("SWARM_", None), ("SWARM_QQQQ", None),
    ],
)  # fmt: skip
def test_a_misspelled_name_makes_no_empty_swarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str | None
) -> None:
    status, words = migrate(tmp_path, monkeypatch, **{name: f"sqlite:///{tmp_path}/swarm.db"})
    assert status == 1 and name in words and (f"Did you mean {meant}?" if meant else "maintainers.md") in words
    assert list(tmp_path.iterdir()) == []


def test_the_same_misspelling_unchecked_makes_an_empty_swarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.settings.find_unknown", lambda *names: [])
    assert migrate(tmp_path, monkeypatch, SWARM_DATABSE_URL="sqlite:////elsewhere.db")[0] == 0
    assert (tmp_path / ".swarm" / "coordinator.db").exists()


def test_names_of_the_worker_and_of_kubernetes_are_no_mistakes() -> None:
    service = {
        f"{name}{part}"
        for name in ("SWARM", "SWARM_COORDINATOR", "SWARM_COORDINATOR_2")
        for part in (
            "_SERVICE_HOST",
            "_SERVICE_PORT",
            "_SERVICE_PORT_HTTP",
            "_PORT",
            "_PORT_80_TCP",
            "_PORT_80_TCP_ADDR",
        )
    }
    assert (
        find_unknown(
            KNOWN_NAMES | service | {"swarm_database_url", "SWARMS_API_KEY", "PATH", "DOCKER_SWARM"}, COORDINATOR_NAMES
        )
        == []
    )
    assert find_unknown({"SWARM_COORDINATOR_PORT"}, WORKER_NAMES) == [
        ("SWARM_COORDINATOR_PORT", "SWARM_COORDINATOR_URL")
    ]


@pytest.mark.parametrize(
    "origins", ["example.org", "https://example.org/path", "null", "https://a.example https://b.example"]
)
def test_an_origin_that_no_browser_sends_is_refused(origins: str) -> None:
    with pytest.raises(ValidationError, match="origins as"):
        CoordinatorSettings(cors_origins=origins)
    assert CoordinatorSettings(cors_origins="*").readable_from == CoordinatorSettings().readable_from == ["*"]
    assert CoordinatorSettings(public_reading=False).readable_from == []


@pytest.mark.parametrize("proxies", ["10.0.0.5/24", "10.0.0.0/33", "caddy", "127.0.0.1, proxy.example.org"])
def test_a_proxy_that_no_request_comes_from_is_refused(proxies: str) -> None:
    with pytest.raises(ValidationError, match=r"addresses and networks as 10\.0\.0\.0/24"):
        CoordinatorSettings(trusted_proxies=proxies)
    for known in ("", "*", "127.0.0.1,::1", "172.31.94.0/24, fd00::/8"):
        assert CoordinatorSettings(trusted_proxies=known).trusted_proxies == known


def test_limits_below_which_nothing_would_work_are_refused() -> None:
    for name in ("max_body_bytes", "max_body_seconds", "event_poll_seconds", "epoch_check_seconds"):
        with pytest.raises(ValidationError, match="greater than"):
            CoordinatorSettings(**{name: 0})


UNUSABLE = {
    "sqlite:///": "must name a file", "sqlite://": "must name a file", "sqlite:///:memory:": "must name a file",
    "sqlite:///file::memory:?uri=true": "must name a file", "sqlite://host/x.db": "must name a file",
    "sqlite:///x.db?mode=ro": "no options", "sqlite:////tmp": "names the folder", "": "is not a database's address",
    "x.db": "is not a database's address", "sqlite:/x.db": "is not a database's address",
    "postgresql://h:abc/db": "is not a database's address", "mysql://x/y": "must be SQLite or PostgreSQL",
    "postgresql://swarm:secret@127.0.0.1:1/swarm": "cannot be opened",
    "postgres://swarm:secret@127.0.0.1:1/swarm": "cannot be opened",
    "postgresql://swarm:secret@127.0.0.1:1/swarm?colour=red": "colour",
}  # fmt: skip


@pytest.mark.parametrize(("address", "words"), UNUSABLE.items())
def test_an_address_that_cannot_be_used_is_one_clear_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, words: str
) -> None:
    status, said = migrate(tmp_path, monkeypatch, SWARM_DATABASE_URL=address)
    assert status == 1 and words in said and "secret" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["postgres://u@h/d", "postgresql+asyncpg://u@h/d", "postgresql+psycopg2://u@h/d"])
def test_usual_ways_to_write_postgresql_are_understood(address: str) -> None:
    assert parse_address(address).render_as_string() == "postgresql://u@h/d"


def test_usual_ways_to_write_sqlite_are_understood(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/x.db")
    assert database.migrate(), "it was empty"
    assert not database.migrate()
    database.close()
    with pytest.raises(DatabaseError, match="names the folder"):
        Database(f"sqlite:///{tmp_path}")


def test_a_full_disk_is_named_at_the_start(tmp_path: Path) -> None:
    """Of a database that is to be made, and of one that is there."""
    lines = run_on_small_disk(
        tmp_path,
        """
        from typer.testing import CliRunner
        from coordinator.cli import app
        os.environ["SWARM_DATABASE_URL"] = f"sqlite:///{DISK}/swarm.db"
        for _ in range(2):
            fill()
            done = CliRunner().invoke(app, ["serve", "--port", "0"])
            assert done.exit_code == 1, done
            print(done.stderr, end="")
            make_room()
            print(CliRunner().invoke(app, ["migrate"]).exit_code)
        """,
    )
    assert len(lines) == 4 and lines[1::2] == ["0", "0"], lines
    assert all("is full" in line and "Make room" in line for line in lines[::2]), lines


def test_a_mistake_in_a_value_names_the_setting() -> None:
    with pytest.raises(ValidationError, match="log_format"):
        CoordinatorSettings(log_format="xml")  # type: ignore[arg-type]
