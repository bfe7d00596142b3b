"""worker/commands: login, doctor, status, pause, resume, finish and logs, as a person gives them."""

import io
import json
import re
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from coordinator.accounts.service import create_invitation
from coordinator.db.database import Database
from coordinator.settings import CoordinatorSettings, Joining
from tests.support.chat_server import Body, Response, refuse, say, serve_chat
from tests.support.gpus import H100, OLD, FakeDriver
from tests.worker.conftest import LiveCoordinator, serve
from tests.worker.test_cli import PROGRAM, Done, at
from tests.worker.workers import wait_until
from worker.commands.doctor import examine
from worker.machine.gpu import DriverError
from worker.machine.probe import CPU_STEPS
from worker.sandbox import bubblewrap

PATIENCE_SECONDS = 60.0


def test_a_running_worker_is_seen_paused_resumed_and_finished(
    tell: Callable[..., Done],
    environment: dict[str, str],
    empty: LiveCoordinator,
) -> None:
    def state() -> str:
        (told,) = json.loads(tell("status", "--json").stdout)
        return str(told.get("state")) if told["running"] else "not running"

    with subprocess.Popen(
        [PROGRAM, "--plain"], env=environment | at(empty), stderr=subprocess.PIPE, text=True
    ) as popen:
        wait_until(lambda: tell("status").returncode == 0 and "no project yet" in state())
        assert "box-cpu: pausing until" in tell("pause", "--for", "2h").stdout
        wait_until(lambda: state().startswith("Paused until"))
        assert tell("resume").stdout == "box-cpu: resumed\n"
        wait_until(lambda: "no project yet" in state())
        assert tell("finish").stdout == "box-cpu: stops after this run\n"
        assert popen.wait(PATIENCE_SECONDS) == 0
    assert state() == "not running"
    assert tell("status").returncode == 1
    assert "event=stopping" in tell("logs").stdout


def test_commands_without_a_worker_say_so(tell: Callable[..., Done]) -> None:
    for command in ("pause", "resume", "finish"):
        done = tell(command)
        assert (done.returncode, done.stdout) == (1, "")
        assert "no worker runs with this data folder" in done.stderr
    assert tell("status").stdout == "No worker has run with this data folder.\n"
    assert tell("pause", "--for", "soon").returncode == 2


def test_login_keeps_a_token_that_works_for_its_owner_alone(
    tell: Callable[..., Done],
    environment: dict[str, str],
    empty: LiveCoordinator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Path(environment["XDG_CONFIG_HOME"], "research-swarm")
    monkeypatch.setattr("sys.stdin", io.StringIO(empty.token.get_secret_value() + "\n"))
    done = tell("login", "--coordinator", empty.url, SWARM_TOKEN="", SWARM_COORDINATOR_URL="")
    assert done.returncode == 0, done.stderr
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    assert empty.token.get_secret_value() not in done.stdout + done.stderr
    once = tell("--once", SWARM_TOKEN="", SWARM_COORDINATOR_URL="")
    assert once.returncode == 75, once.stderr
    monkeypatch.setattr("sys.stdin", io.StringIO("t0-that-nobody-gave-out"))
    refused = tell("login", SWARM_TOKEN="")
    assert refused.returncode == 4 and "does not accept this token" in refused.stderr
    assert (folder / "token").read_text().strip() == empty.token.get_secret_value()


def test_login_makes_an_account_and_keeps_its_token(
    tell: Callable[..., Done], environment: dict[str, str], empty: LiveCoordinator
) -> None:
    done = tell("login", "--new", "grace", "--coordinator", empty.url, SWARM_TOKEN="")
    assert done.returncode == 0, done.stderr
    token = Path(environment["XDG_CONFIG_HOME"], "research-swarm", "token")
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text().strip() not in done.stdout + done.stderr
    assert tell("--once", SWARM_TOKEN="").returncode == 75
    kept = tell("login", "--new", "linus", SWARM_TOKEN="")
    assert kept.returncode == 4 and "may be the only one of its account" in kept.stderr
    taken = tell("login", "--new", "grace", "--replace", SWARM_TOKEN="")
    assert taken.returncode == 1 and "There is a volunteer of that name" in taken.stderr
    odd = tell("login", "--new", "Grace H", "--replace", SWARM_TOKEN="")
    assert odd.returncode == 4 and "lower-case letters" in odd.stderr


def test_login_with_an_invitation(tell: Callable[..., Done], coordinator_settings: CoordinatorSettings) -> None:
    with closing(Database(coordinator_settings.database_url)) as database, database.write() as session:
        invitation = create_invitation(session, "boss", uses=1, days=1)[1]
    with serve(coordinator_settings.model_copy(update={"joining": Joining.INVITATION})) as url:
        refused = tell("login", "--new", "grace", "--coordinator", url, SWARM_TOKEN="")
        assert refused.returncode == 1 and "invitation" in refused.stderr
        alone = tell("login", "--invitation", invitation, "--coordinator", url, SWARM_TOKEN="")
        assert alone.returncode == 2 and "--new NAME" in alone.stderr
        done = tell("login", "--new", "grace", "--invitation", invitation, "--coordinator", url, SWARM_TOKEN="")
        assert done.returncode == 0, done.stderr


def test_the_doctor_says_what_is_there_and_what_to_do(tell: Callable[..., Done]) -> None:
    done = tell("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    names = ["driver", "device", "torch", "memory", "disk", "sandbox", "coordinator", "clock", "data", "agent"]
    assert list(checks) == names
    assert all(checks[name]["ok"] for name in names if name not in ("memory", "disk")), done.stdout
    assert done.returncode == (0 if all(check["ok"] for check in checks.values()) else 1)
    assert "the coordinator has no project" in checks["data"]["found"]
    assert "holds its limits only if it wants to" in checks["sandbox"]["found"]
    held = tell("doctor", "sandbox", SWARM_SANDBOX="bubblewrap").stdout
    assert "bubblewrap · system calls filtered, cores held, memory watched by worker" in held
    ill = tell("doctor", "--gpu", "7", SWARM_TOKEN="wrong", PATH="/nowhere", SWARM_SANDBOX="bubblewrap")
    assert ill.returncode == 1
    for words in ("BAD device", "BAD torch", "BAD sandbox", "apt-get install bubblewrap", "swarm-worker login"):
        assert words in ill.stdout
    assert tell("doctor", "feelings").returncode == 2
    assert tell("doctor", "--gpu", "0", "--device", "cpu").returncode == 2


def test_the_doctor_sees_a_gpu_that_runs_will_use() -> None:
    """There is none here, so that a driver answers from data; torch is then what cannot use it."""
    checks = {
        check.name: check
        for check in examine({"device": "cuda:0,1"}, ("driver", "device", "torch"), FakeDriver((OLD, H100)))
    }
    assert checks["driver"].ok and "1: NVIDIA H100 80GB HBM3, 81559 MiB" in checks["driver"].found
    assert not checks["torch"].ok and "GPU" in checks["torch"].advice
    (away,) = examine({"device": "cuda:0"}, ("driver",), FakeDriver((), error=DriverError("restart this machine")))
    assert not away.ok and away.advice == "restart this machine"
    (needless,) = examine({"device": "cpu"}, ("driver",), FakeDriver((), error=DriverError("restart this machine")))
    assert needless.ok


def test_the_doctor_compares_versions_and_clocks(
    tell: Callable[..., Done], coordinator_settings: CoordinatorSettings, token: SecretStr
) -> None:
    with serve(coordinator_settings.model_copy(update={"oldest_worker": "99"})) as url:
        settings = {"SWARM_COORDINATOR_URL": url, "SWARM_TOKEN": token.get_secret_value()}
        done = tell("doctor", "coordinator", "clock", "data", **settings)
    assert "BAD coordinator" in done.stdout and "pip install --upgrade" in done.stdout
    assert "ok  clock" in done.stdout
    assert "not yet: tiny (`swarm-worker prepare NAME`" in done.stdout


def test_the_doctor_tries_the_agent_that_a_run_with_these_flags_would_have(tell: Callable[..., Done]) -> None:
    unread = tell("doctor", "agent", "--model", "m")
    assert unread.returncode == 2 and "add --agent openai" in unread.stderr
    assert "command false cannot work (exit status 1" in tell("doctor", "agent", "--agent-command", "false").stdout


def test_the_doctor_asks_the_model(tell: Callable[..., Done]) -> None:
    def ask(**settings: str) -> Done:
        return tell("doctor", "agent", "--agent", "openai", **settings)

    def model(body: Body) -> Response:
        if body["model"] != "test":
            return refuse(404, "model_not_found", f"no model {body['model']}")
        return say({"answer": "blue"}, usage=(20, 5))

    with serve_chat(model) as server:
        given = {
            "SWARM_MODEL": "test",
            "SWARM_BASE_URL": server.url,
            "SWARM_INPUT_PRICE": "1",
            "SWARM_OUTPUT_PRICE": "2",
        }
        found = ask(**given)
        assert re.search(
            r"ok  agent +openai test answered 'blue' in \d+\.\d s: 1 request, 20 \+ 5 tokens", found.stdout
        )
        assert "cost 0.000030" in found.stdout
        assert "did you mean test?" in ask(**(given | {"SWARM_MODEL": "tset"})).stdout
        assert "the endpoint has: test" in ask(**(given | {"SWARM_MODEL": "other"})).stdout
        server.model = lambda body: refuse(401, "invalid_api_key")
        assert "it wants a key, and none is set (SWARM_API_KEY_FILE)" in ask(**given).stdout
        assert "the key is not accepted (SWARM_API_KEY_FILE)" in ask(**given, SWARM_API_KEY="sk-of-another").stdout
        server.model = lambda body: say("Blue, I think.")
        assert "BAD agent" in ask(**given).stdout
    away = ask(SWARM_MODEL="test", SWARM_BASE_URL="http://127.0.0.1:1/v1")
    assert "cannot be reached" in away.stdout
    assert ask().returncode == 1


def test_settings_are_shown_with_their_source_and_without_secrets(
    tell: Callable[..., Done], environment: dict[str, str]
) -> None:
    kept = Path(environment["XDG_CONFIG_HOME"], "research-swarm", "token")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("swt_canary")
    index = "https://me:pw-canary@packages.test/simple"
    keys = {"OPENAI_API_KEY": "sk-canary", "PIP_INDEX_URL": index, "SWARM_TOKEN": ""}
    done = tell("--show-config", "--cores", "1", **keys)
    assert done.returncode == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert rows["cores"].split()[1:] == ["1", "flag"]
    assert rows["device"].split()[1:] == ["cpu", "environment", "(SWARM_DEVICE)"]
    assert rows["agent"].split()[1:] == ["search", "default"]
    assert "environment (OPENAI_API_KEY)" in rows["api_key"] and "**********" in rows["api_key"]
    assert "**********" in rows["token"] and str(kept) in rows["token"]
    assert "packages.test" in rows["package_index"]
    assert "canary" not in done.stdout


def test_the_deep_check_takes_every_step_of_a_run_in_the_sandbox() -> None:
    """With a CPU; on a GPU there are more steps."""
    flags = {"device": "cpu", "cores": 1}
    found = list(examine(flags, only=("memory",), deep=True, seed_seconds=1.0))
    assert [check.name for check in found] == ["memory", *CPU_STEPS, "seed"]
    assert [check.describe() for check in found if not check.ok] == []
    assert "gpt-cpu trains in bubblewrap: " in found[-1].found and "steps" in found[-1].found


def test_the_doctor_says_how_caches_come_to_be_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "find_group", lambda: None)
    (found,) = examine({"device": "cpu", "sandbox": "bubblewrap"}, only=("sandbox",))
    assert found.ok and "not covered" in found.found and "systemd-run --user --scope swarm-worker" in found.found


def test_the_deep_check_says_why_it_is_not_made() -> None:
    (told,) = list(examine({"device": "cuda:0"}, only=("memory",), driver=FakeDriver(()), deep=True))[1:]
    assert (told.name, told.ok, told.found) == ("deep", False, "not tried") and told.advice
