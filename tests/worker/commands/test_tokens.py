"""Accounts of volunteers as people use them: a second machine, rotation, revocation; and the advice in each error is
followed, and works."""

import io
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from coordinator.db.database import Database
from coordinator.events.audit import Actor
from coordinator.moderation import service as moderation
from coordinator.settings import CoordinatorSettings, Joining
from tests.support.tokens import create_token
from tests.worker.conftest import FormulaRunner, LiveCoordinator, serve
from tests.worker.test_cli import Done
from tests.worker.workers import WorkerFactory, make_script
from worker.api.client import Unauthorized
from worker.loop.loop import Ending

Shell = Callable[..., Done]


class Machine:
    """A volunteer's machine at one coordinator: what is typed into its prompt comes from a pipe."""

    def __init__(self, tell: Shell, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._tell, self._folder, self._url, self._monkeypatch = tell, folder, url, monkeypatch
        self.token_path = folder / "research-swarm" / "token"

    def tell(self, *words: str, typed: str = "", **changes: str) -> Done:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        here = {"XDG_CONFIG_HOME": str(self._folder), "SWARM_TOKEN": "", "SWARM_COORDINATOR_URL": self._url}
        return self._tell(*words, **(here | changes))

    def log_in(self, secret: str, *words: str) -> Done:
        return self.tell("login", *words, typed=f"{secret}\n")

    @property
    def token(self) -> str:
        return self.token_path.read_text().strip()

    def list_tokens(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.tell("tokens", "list", "--json").stdout)
        return listed

    def list_labels(self) -> list[str]:
        return [one["label"] for one in self.list_tokens()]

    @property
    def number(self) -> str:
        """The number of its token."""
        return next(str(one["id"]) for one in self.list_tokens() if one["is_this_machines"])


@pytest.fixture
def machines(
    tell: Shell, empty: LiveCoordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Machine, Machine]:
    """Two, of which the first is logged in to a new account."""
    first, second = (Machine(tell, tmp_path / name, empty.url, monkeypatch) for name in ("first", "second"))
    done = first.tell("login", "--new", "grace")
    assert done.returncode == 0, done.stderr
    return first, second


def test_a_second_machine_logs_in_by_a_code_and_each_has_a_token_of_its_own(
    machines: tuple[Machine, Machine],
) -> None:
    first, second = machines
    code = first.tell("tokens", "code")
    assert code.returncode == 0 and "swarm-worker login --coordinator http" in code.stderr
    done = second.log_in(code.stdout.strip())
    assert done.returncode == 0 and "logged in as grace" in done.stderr
    assert second.token != first.token and second.token_path.stat().st_mode & 0o777 == 0o600
    assert second.token not in done.stdout + done.stderr
    assert len(second.list_labels()) == 2
    assert second.tell("tokens", "label", "3", "the attic").returncode == 0
    assert first.list_labels()[1] == "the attic"
    listed = first.tell("tokens", "list").stdout.splitlines()
    assert listed[0].startswith("*") and "made with 2" in listed[1]
    again = second.log_in(code.stdout.strip(), "--replace")
    assert again.returncode == 1 and "A code works once, for 10 minutes. Make another" in again.stderr
    made = first.tell("tokens", "make", "rented", "--days", "7")
    assert second.log_in(made.stdout.strip()).returncode == 0, "a token of the same account may take the place"
    assert "rented" in second.list_labels() and made.stdout.strip() == second.token
    assert first.tell("tokens", "revoke", "3").stdout == "Token 3 (the attic) is revoked.\n"
    assert "no token 3 that counts" in first.tell("tokens", "revoke", "3").stderr


def test_no_login_loses_another_accounts_token_unasked(
    machines: tuple[Machine, Machine], empty: LiveCoordinator
) -> None:
    first, _ = machines
    before, other = first.token, empty.token.get_secret_value()
    for done in (first.log_in(other), first.tell("login", "--new", "linus"), first.log_in("ABCD-EFGH-JKMN")):
        assert done.returncode == 4 and "logged in as grace already" in done.stderr and "--replace" in done.stderr
    closed = first.tell("login", "--new", "linus", "--coordinator", "http://127.0.0.1:9")
    assert closed.returncode == 4 and "refused. Correct the address (--coordinator), or give --replace" in closed.stderr
    assert first.token == before
    assert first.log_in(before).returncode == 0, "its own again"
    done = first.log_in(other, "--replace")
    assert done.returncode == 0 and first.token == other
    kept = first.token_path.with_name("token.before")
    assert kept.read_text().strip() == before and kept.stat().st_mode & 0o777 == 0o600


def test_what_is_no_token_is_named_with_the_way_on(machines: tuple[Machine, Machine], empty: LiveCoordinator) -> None:
    _, second = machines
    for typed, words in {
        "swl_abc": "a sign-in link, for a browser",
        f"{empty.url}/sign-in?link=swl_abc": "a sign-in link, for a browser",
        f"{empty.url}/join?invitation=swi_abc": "swarm-worker login --new NAME --invitation swi_abc",
        "two words": "holds no token: it must be one line without spaces",
        "": "holds no token",
        "swt_nobodys": "This token is unknown here",
        "ABCD-EFGH-JKMN": "swarm-worker tokens code",
    }.items():
        done = second.log_in(typed)
        assert done.returncode in (1, 4) and words in done.stderr, (typed, done.stderr)
        assert not second.token_path.exists()


def test_where_an_account_waits_for_approval_its_token_is_kept(
    tell: Shell, coordinator_settings: CoordinatorSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(coordinator_settings.model_copy(update={"joining": Joining.APPROVAL})) as url:
        machine = Machine(tell, tmp_path / "first", url, monkeypatch)
        done = machine.tell("login", "--new", "grace")
        assert done.returncode == 0 and "has not approved grace yet" in done.stderr and machine.token
        waiting = machine.tell("tokens", "list")
        assert waiting.returncode == 4 and "has not approved grace yet" in waiting.stderr
        waits = machine.tell("--once")
        assert waits.returncode == 75 and "has not approved grace yet" in waits.stderr, waits.stderr
        with closing(Database(coordinator_settings.database_url)) as database, database.write() as session:
            moderation.approve_account(session, Actor("root"), "grace", "known to us")
        assert machine.tell("tokens", "list").returncode == 0, "to wait was the right advice"


def test_rotation_and_revocation_and_the_advice_that_follows(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    second.log_in(first.tell("tokens", "code").stdout.strip())
    old = first.token
    done = first.tell("tokens", "rotate")
    assert done.returncode == 0 and first.token != old and first.token not in done.stdout + done.stderr
    assert len(first.list_labels()) == 2, "what was made with the old one goes on"
    # With the old token, given in each way, each refusal's advice leads back.
    lost = first.tell("tokens", "list", SWARM_TOKEN=old)
    assert lost.returncode == 4 and "was revoked on" in lost.stderr
    assert "It stands in the setting 'token' (SWARM_TOKEN): remove it there" in lost.stderr
    assert first.tell("tokens", "list").returncode == 0
    fixed = first.tell("tokens", "rotate", SWARM_TOKEN=first.token)
    assert fixed.returncode == 2 and "remove it there" in fixed.stderr
    aside = first.token_path.with_name("aside")
    aside.write_text(old)
    worker = first.tell("--once", "--token-file", str(aside))
    assert worker.returncode == 4 and f"It stands in {aside}: write another into that file" in worker.stderr
    aside.write_text(second.token)
    assert first.tell("--once", "--token-file", str(aside)).returncode == 75
    # This machine's own token is revoked by the other one.
    assert second.tell("tokens", "revoke", first.number).returncode == 0
    gone = first.tell("--once")
    assert gone.returncode == 4 and "was revoked on" in gone.stderr and "`swarm-worker login`" in gone.stderr
    assert first.log_in(second.tell("tokens", "code").stdout.strip()).returncode == 0
    assert first.tell("--once").returncode == 75
    # The account's last token is not ended by accident.
    number = second.number
    kept = second.tell("tokens", "revoke", number)
    assert kept.returncode == 1 and "--last" in kept.stderr
    last = second.tell("tokens", "revoke", number, "--last")
    assert last.returncode == 0 and "which this machine used" in last.stdout
    assert second.tell("tokens", "list").returncode == 4


def test_a_token_that_cannot_be_stored_is_not_made(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    second.token_path.parent.parent.mkdir()
    second.token_path.parent.write_text("a file where the folder should be")
    code = first.tell("tokens", "code").stdout.strip()
    failed = second.log_in(code)
    assert failed.returncode == 1 and "cannot store the token" in failed.stderr
    second.token_path.parent.unlink()
    assert second.log_in(code).returncode == 0, "the code was not used up"


def test_a_run_under_way_survives_rotation_and_a_revoked_token_is_said(
    live: LiveCoordinator,
    coordinator_settings: CoordinatorSettings,
    make_worker: WorkerFactory,
    runner: FormulaRunner,
    tell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(tell, tmp_path / "first", live.url, monkeypatch)
    machine.log_in(live.token.get_secret_value())

    def rotate() -> None:
        runner.hook = lambda: None
        assert machine.tell("tokens", "rotate").returncode == 0

    runner.hook = rotate
    read_token = lambda: SecretStr(machine.token)  # noqa: E731 - as the worker reads it
    assert make_worker(live.url, read_token=read_token).loop.run(max_jobs=1) is Ending.DONE
    assert len(live.list("runs")) == 1

    def revoke() -> None:
        runner.hook = lambda: None
        assert machine.tell("tokens", "revoke", machine.number, "--last").returncode == 0

    runner.hook = revoke
    worker = make_worker(live.url, make_script(5), token=read_token())
    with pytest.raises(Unauthorized, match="was revoked on"):
        worker.loop.run()
    assert len(worker.outbox) == 1 and len(live.list("runs")) == 1
    with closing(Database(coordinator_settings.database_url)) as database, database.write() as session:
        fresh = SecretStr(create_token(session, "ada", "again"))
    make_worker(live.url, token=fresh).loop.run(max_jobs=1)
    assert "DEPTH 5" in [one["title"] for one in live.list("experiments")]
