"""worker/agents/command.py: real programs in the real sandbox, useful ones and hostile ones."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from tests.support.messages import make_run
from tests.worker.agents.tasks import make_task, sha_of
from tests.worker.sandbox.conftest import choose_seconds
from worker.agents.base import AgentError, AgentMisconfigured, AgentUnavailable, Draft, Task
from worker.agents.command import CommandAgent, Tool
from worker.agents.programs import Program
from worker.agents.tool_room import RoomSettings
from worker.sandbox.tool import Mount

SOURCE = "LEARNING_RATE = 0.003\nDEPTH = 4\n"
TREE = {"harness/scorer.py": "METRIC = 1\n", "program.md": "# Lower val_bpb\n"}
TASK = replace(make_task(source=SOURCE), tree={**TREE, "train.py": SOURCE}, context="CONTEXT-PACK")
DEEPER = "sed -i 's/DEPTH = .*/DEPTH = 6/' train.py"
STATEMENT = """cat > /swarm/answer/proposal.json <<END
{"title": "$1", "hypothesis": "Deeper.", "axis": "DEPTH", "direction": "up", "value": "6",
 "predicted_effect": -0.01, "refuted_by": "No change."}
END"""


class Bench:
    """Runs shell scripts as an agent's tool, in a home of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.said: list[str] = []
        self.mounts: list[Mount] = []
        self.arguments = ["{prompt_file}"]
        self.stop = Event()

    def agent(self, script: str, seconds: float = 60.0) -> CommandAgent:
        program = self.home / "tool.sh"
        program.write_text(f"say() {{ {STATEMENT}\n}}\n{script}\n")
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "TOOL_KEY": "k-canary-tool"}
        argv = ["/bin/bash", str(program), *self.arguments]
        room = RoomSettings(self.home, environment, tuple(self.mounts), Program("/bin/bash", {program}))
        logs = self.home.with_name("logs")
        return CommandAgent(Tool("command bash", argv, room, seconds, logs), self.said.append, self.stop)

    def propose(self, script: str, seconds: float = 60.0, task: Task = TASK) -> Draft:
        return self.agent(script, seconds).propose(task)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    home = tmp_path / "home"
    home.mkdir()
    return Bench(home)


def test_takes_back_what_may_be_changed_and_says_what_else_was(bench: Bench) -> None:
    draft = bench.propose(f"""
        grep -q CONTEXT-PACK /swarm/brief/context.md && grep -q 'train.py' "$1" || exit 9
        {DEEPER}; say 'DEPTH 6'
        echo 'METRIC = 0' > harness/scorer.py; rm program.md; echo x > notes.txt; ln -s /etc out
    """)
    assert draft.files == {"train.py": SOURCE.replace("4", "6")}
    assert (draft.proposal.title, draft.proposal.settings["DEPTH"]) == ("DEPTH 6", 6)
    assert draft.made_by == "command bash"
    (line,) = bench.said
    for stray in ("harness/scorer.py was changed", "program.md was removed", "notes.txt is new", "out cannot be read"):
        assert stray in line


def test_an_experiment_without_words_is_one_all_the_same(bench: Bench) -> None:
    for words in ("", "[ -e $p ] || mkfifo $p"):
        draft = bench.propose(f"{DEEPER}; p=/swarm/answer/proposal.json; {words}")
        assert (draft.proposal.title, draft.proposal.settings["DEPTH"]) == ("DEPTH 4 -> 6", 6)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("true", "nothing is changed"),
        ("rm train.py; ln -s /etc/hostname train.py", "train.py cannot be read"),
        ("rm train.py; mkfifo train.py", "not a regular file"),
        ("rm train.py; mkdir train.py", "not a regular file"),
        ("printf '\\377' > train.py", "is not text"),
        ("head -c 5000000 /dev/zero > train.py", "larger than"),
        ("echo 'DEPTH = (' > train.py", "not valid Python"),
    ],
)
def test_what_cannot_be_taken_back_is_named(
    bench: Bench, script: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.agents.command.MAX_ROUNDS", 1)
    with pytest.raises(AgentError, match=words):
        bench.propose(script)


def test_sees_only_what_was_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_TOKEN", "canary-token")
    (bench.home / "secret").write_text("canary-home")
    (bench.home / "login").write_text("hello")
    bench.mounts = [Mount(bench.home / "login")]
    draft = bench.propose(f"""
        {DEEPER}
        for path in {bench.home}/secret /etc/shadow /root/.ssh /var/log; do [ -e $path ] && seen="$seen $path"; done
        env | grep -q canary-token && seen="$seen token"
        echo x >> {bench.home}/login; touch /swarm/brief/x /usr/x /x 2>/dev/null && seen="$seen wrote"
        [ $(ls /proc | grep -c '^[0-9]') -gt 6 ] && seen="$seen processes"
        say "$(cat ~/login) $(echo $TOOL_KEY | tail -c 5) seen:$seen"
    """)
    assert draft.proposal.title.split() == ["hellox", "tool", "seen:"]
    assert (bench.home / "login").read_text() == "hello", "the tool has a copy"


def test_may_use_the_network(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        draft = bench.propose(f"{DEEPER}; exec 3<>/dev/tcp/127.0.0.1/{port} && say connected")
    assert draft.proposal.title == "connected"


@pytest.mark.parametrize("where", ["train.py", "proposal"])
def test_a_login_that_was_copied_is_not_published(bench: Bench, where: str) -> None:
    (bench.home / "login").write_text('{"token": "sk-abc123def456ghi789"}')
    bench.mounts = [Mount(bench.home / "login")]
    copy = 'echo "# $(cat ~/login)" >> train.py' if where == "train.py" else 'say "$(cat ~/login | tr -d \\")"'
    with pytest.raises(AgentError, match=f"copied a secret from {bench.home}/login into its answer"):
        bench.propose(f"{DEEPER}; {copy}")
    with pytest.raises(AgentError, match="copied a secret from the variable TOOL_KEY"):
        bench.propose(f'{DEEPER}; echo "# $TOOL_KEY" >> train.py')


def test_what_the_tool_writes_beside_its_login_is_no_secret(bench: Bench) -> None:
    """Its transcript holds the very edit that is collected; its renewed login is guarded all the same."""
    login = bench.home / ".tool"
    login.mkdir()
    (login / "auth.json").write_text('{"refresh_token": "rt_Zp3x9Qw7Lk2Vn8Bt5Yc1Hd6Mf4"}')
    (login / "auth.json").chmod(0o600)
    bench.mounts = [Mount(login, writable=True)]
    noted = f"""{DEEPER}; echo 'weight_decay = 0.05  # nanochat_d12_600steps_lr3e-4' >> train.py
        umask 077; cat train.py > ~/.tool/session.jsonl; cat ~/.tool/session.jsonl; say 'weight_decay=0.05'"""
    for _ in range(2):
        assert bench.propose(noted).proposal.title == "weight_decay=0.05"
    renewed = (
        'echo \'{"refresh_token": "rt_Hq5Jt8Wm2Xs9Rb4Nv7Kd1Gz3Pc6"}\' > ~/.tool/new; mv ~/.tool/new ~/.tool/auth.json'
    )
    with pytest.raises(AgentError, match=r"copied a secret from .*auth.json"):
        bench.propose(f'{renewed}; {DEEPER}; say "$(tr -d \'"\' < ~/.tool/auth.json)"')


def test_a_tool_that_does_not_end_is_ended_with_all_it_started(
    bench: Bench, count_marked: Callable[[str], int]
) -> None:
    marker = choose_seconds()
    with pytest.raises(AgentError, match="took too long and was ended"):
        bench.propose(f"trap '' TERM; setsid sleep {marker} & sleep {marker}", seconds=1)
    assert count_marked(marker) == 0
    bench.stop.set()
    with pytest.raises(AgentError, match="stopping"):
        bench.propose(f"sleep {marker}")
    assert count_marked(marker) == 0


def test_a_tool_that_fails_or_is_missing_is_unavailable(bench: Bench) -> None:
    with pytest.raises(AgentUnavailable, match="exit status 3: no credit"):
        bench.propose("echo no credit; exit 3")
    agent = bench.agent("true")
    agent._tool = replace(agent._tool, argv=("/nowhere/tool", "{prompt_file}"))
    with pytest.raises(AgentUnavailable, match="No such file"):
        agent.propose(TASK)


def test_a_tool_that_does_not_answer_the_first_question_may_work_later_if_it_is_slow_or_its_provider_is_away(
    bench: Bench,
) -> None:
    said = "Warning for model ollama/qwen: Unknown context window size"
    later = (f"echo '{said}'; sleep {choose_seconds()}", "echo 'API Error: 529 Overloaded'; exit 1")
    for script, seconds in zip(later, (2, 60), strict=True):
        with pytest.raises(AgentUnavailable, match="did not answer a small question") as unavailable:
            bench.agent(script, seconds=seconds).begin()
        assert not isinstance(unavailable.value, AgentMisconfigured)
    with pytest.raises(AgentMisconfigured, match="--model NAME"):
        bench.agent(f"echo '{said}'; exit 1").begin()
    for script, why in (
        ("true", "it says nothing"),
        ("echo; exit 0", "it says nothing"),
        ("echo 'Odd'; exit 3", "Odd"),
    ):
        with pytest.raises(AgentMisconfigured, match=why):
            bench.agent(script).begin()
    bench.agent("echo 'It depends on the planet.'").begin()  # so does a model that knows little


def test_mends_a_crash(bench: Bench) -> None:
    draft = bench.propose(f"{DEEPER}; say 'DEPTH 6'")
    crash = make_run(sha_of("x"), None, reason="too deep", log_tail="ValueError")
    mender = bench.agent("grep -q ValueError $1 && grep -q 'DEPTH = 6' train.py && sed -i 's/= 6/= 5/' train.py; say x")
    repaired = mender.repair(TASK, draft, crash)
    assert repaired is not None
    assert repaired.files == {"train.py": SOURCE.replace("4", "5")}
    assert (repaired.proposal.title, repaired.proposal.settings["DEPTH"]) == ("DEPTH 6", 5)


def test_an_answer_that_cannot_be_used_is_asked_for_again(bench: Bench) -> None:
    """The tool asks a question, then forgets its words, then is done; all in one folder."""
    draft = bench.propose(f"""
        case $(ls .git/asked* 2>/dev/null | wc -l) in
            0) touch .git/asked1; echo 'Should I continue?';;
            1) touch .git/asked2; grep -q 'nothing is changed' "$1" && grep -q 'decide yourself' "$1" && {DEEPER};;
            *) grep -q 'proposal.json is missing' "$1" && grep -q 'DEPTH = 6' train.py && say 'at last';;
        esac
    """)
    assert (draft.proposal.title, draft.proposal.settings["DEPTH"]) == ("at last", 6)
    logs = sorted(bench.home.with_name("logs").iterdir())
    assert len(logs) == 3 and "Should I continue?" in logs[0].read_text()
    assert logs[0].stat().st_mode & 0o077 == 0


def test_the_prompt_comes_as_the_command_wants_it(bench: Bench) -> None:
    for arguments, script in (
        ([], "cat"),
        (["{prompt}"], 'echo "$1"'),
        (["--file={prompt_file}"], 'cat "${1#--file=}"'),
    ):
        bench.arguments = arguments
        draft = bench.propose(f"{script} | grep -q 'these files only: train.py' && {DEEPER}; cat > /dev/null; say ok")
        assert draft.proposal.title == "ok"


@pytest.mark.parametrize(("characters", "given"), [(50_000, "argument"), (63_500, "file")])
def test_a_prompt_is_an_argument_where_linux_takes_it(bench: Bench, characters: int, given: str) -> None:
    """It takes none of 128 KiB, and none with a null byte."""
    bench.arguments = ["{prompt}"]
    draft = bench.propose(
        f"""file=/swarm/brief/prompt.md
        case "$1" in "Read $file "*) given=file; set "$(tr -d '\\0' < $file)";; esac
        {DEEPER}; [ $(printf %s "$1" | wc -c) -gt {2 * characters} ] && say "${{given:-argument}}" """,
        task=replace(TASK, notes="é" * characters + "\0"),
    )
    assert draft.proposal.title == given


def test_the_room_has_one_user_and_a_git_repository(bench: Bench) -> None:
    draft = bench.propose(f"""
        [ "$(wc -l < /etc/passwd)" = 1 ] && [ "$(id -un):$HOME" = "volunteer:{bench.home}" ] || exit 7
        [ ~volunteer = "$HOME" ] || exit 8
        [ -z "$(git status --porcelain)" ] && git log --oneline | grep -q parent || exit 9
        {DEEPER}; git commit -qam changed; git diff HEAD~1 | grep -q '+DEPTH = 6' && say ok""")
    assert draft.proposal.title == "ok"
    assert bench.said == []


def test_a_file_that_is_renewed_by_renaming_is_put_back(bench: Bench) -> None:
    for name in ("may", "must-not", "became-a-link"):
        (bench.home / name).write_text("old")
        (bench.home / name).chmod(0o600)
    bench.mounts = [Mount(bench.home / "may", writable=True), Mount(bench.home / "must-not")]
    bench.mounts.append(Mount(bench.home / "became-a-link", writable=True))
    bench.propose(f"""{DEEPER}; for f in may must-not; do echo new > ~/x; mv ~/x ~/$f; done
        rm ~/became-a-link; ln -s /etc/passwd ~/became-a-link; say ok""")
    assert {name: (bench.home / name).read_text() for name in ("may", "must-not", "became-a-link")} == {
        "may": "new\n", "must-not": "old", "became-a-link": "old",
    }  # fmt: skip
    assert (bench.home / "may").stat().st_mode & 0o777 == 0o600


def test_what_the_owners_sessions_obey_cannot_be_changed(bench: Bench) -> None:
    folder = bench.home / ".tool"
    folder.mkdir()
    (folder / "settings").write_text("mine")
    bench.mounts = [Mount(folder, writable=True)]
    agent = bench.agent(
        f"{DEEPER}; echo evil > ~/.tool/settings; mv ~/.tool/settings ~/x; echo evil > ~/.tool/hooks; say ok"
    )
    room = replace(agent._tool.room, protected=(folder / "settings", folder / "hooks"))
    agent._tool = replace(agent._tool, room=room)
    agent.propose(TASK)
    assert (folder / "settings").read_text() == "mine" and not (folder / "hooks").exists()
    assert "which your own sessions would obey" in bench.said[0]


def test_its_paper_is_its_own(bench: Bench) -> None:
    draft = bench.propose(f"{DEEPER}; say 'DEPTH 6'")
    report = make_run(sha_of("x"), 0.9)
    paper = '{"claim": "Deeper is better.", "mechanism": "M", "caveats": "C", "follow_ups": "", "tags": ["Depth"]}'
    writer = bench.agent(
        f"grep -q 'DEPTH = 6' train.py && grep -q '0.9' $1 && echo '{paper}' > /swarm/answer/finding.json"
    )
    finding = writer.write_finding(TASK, draft, report)
    assert (finding.claim, finding.tags, finding.agent) == ("Deeper is better.", ["depth"], "command bash")
    with pytest.raises(AgentError, match=r"finding.json is missing"):
        bench.agent("echo 'Shall I?'").write_finding(TASK, draft, report)


def test_folders_that_a_tool_fills_by_itself_are_scratch(bench: Bench) -> None:
    folder = bench.home / ".tool"
    (folder / "skills").mkdir(parents=True)
    (folder / "skills/mine").write_text("mine")
    bench.mounts = [Mount(folder, writable=True)]
    agent = bench.agent(f"""{DEEPER}; [ $(cat ~/.tool/skills/mine) = mine ] || exit 8
        echo evil > ~/.tool/skills/mine && mkdir -p ~/.tool/plugins/x && echo evil > ~/.tool/plugins/x/y && say ok""")
    room = replace(agent._tool.room, scratch=(folder / "skills", folder / "plugins"))
    agent._tool = replace(agent._tool, room=room)
    assert agent.propose(TASK).proposal.title == "ok"
    assert (folder / "skills/mine").read_text() == "mine" and not list((folder / "plugins").iterdir())
    assert bench.said == []
