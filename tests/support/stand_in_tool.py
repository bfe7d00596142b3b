"""Runs in place of a coding tool, and behaves as its documentation says. Standard library only; copied, not imported.

It insists on what the real one needs: its own sandbox switched off, its login, a user with a name, a git repository. It
renews the login by renaming, and writes a transcript beside it. `plan.json` in its folder lists what it does, one word
for each time it is run; after the last it begins again. The small question before the first job does not count.
"""

import json
import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

NAME = "@NAME@"  # filled in by tests/support/coding_tools.py
FOLDER = Path.home() / "@FOLDER@"
LOGIN = FOLDER / "@LOGIN@"
FLAGS = "@FLAGS@".split("|")
LIMIT = "@LIMIT@"
REFUSALS = "@REFUSALS@"


def end(text: str, status: int = 0) -> None:
    print(text, flush=True)
    sys.exit(status)


def read_prompt() -> str:
    if NAME == "aider":
        return Path(sys.argv[sys.argv.index("--message-file") + 1]).read_text()
    if NAME == "codex" and sys.argv[-1] != "-":
        end("error: no prompt provided", 2)
    return sys.stdin.read()


def check_room() -> str:
    given = "\n".join([*sys.argv, *(f"{name}={value}" for name, value in os.environ.items())])
    missing = [flag for flag in FLAGS if flag not in given]
    if missing:
        end(f"bwrap: No permissions to create a new namespace; {missing} is not given", 1)
    assert pwd.getpwuid(os.getuid()).pw_dir == os.environ["HOME"] == str(Path.home())
    assert len(Path("/etc/passwd").read_text().splitlines()) == 1
    status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True)
    if status.returncode:
        end(f"fatal: this is no git repository: {status.stderr}", 1)
    if not LOGIN.exists():
        end("@LOGGED_OUT@", 1)
    return str(json.loads(LOGIN.read_text())["refresh_token"])


def write_own_files() -> None:
    """Ends with an error where it may not write what the real one writes."""
    if NAME == "opencode":
        (Path.home() / ".config/opencode/.gitignore").write_text("node_modules\n")
    if NAME == "aider":
        cache = Path(".aider.tags.cache.v4/cache.db")
        cache.parent.mkdir(exist_ok=True)
        cache.write_bytes(b"\xff\0")


def renew_login(refresh: str) -> None:
    serial = int(refresh.rpartition("_")[2]) + 1
    fresh = LOGIN.with_name("fresh")
    fresh.write_text(json.dumps({"refresh_token": f"rt_{NAME}Qw7Lk2Vn8Bt5Yc1Hd6Mf4Zp3x9_{serial}"}))
    fresh.chmod(0o600)
    fresh.replace(LOGIN)


def next_act(counts: bool) -> str:
    plan, count = FOLDER / "plan.json", FOLDER / "count"
    done = int(count.read_text()) if count.exists() else 0
    if counts:
        count.write_text(str(done + 1))
    acts = json.loads(plan.read_text()) if plan.exists() else ["good"]
    return str(acts[done % len(acts)])


def answer_folder(prompt: str) -> Path:
    return Path(re.search(r"`(\S+)/(?:proposal|finding)\.json`", prompt)[1])


def write_paper(prompt: str, act: str, refresh: str) -> None:
    mechanism = f"The login is {refresh}." if act == "leak" else "One more name costs nothing."
    paper = {"claim": f"Written by {NAME}.", "mechanism": mechanism, "caveats": "One run.",
             "refuted_by": "A second run.", "follow_ups": "None.", "tags": ["stand-in"]}  # fmt: skip
    (answer_folder(prompt) / "finding.json").write_text(json.dumps(paper))


def write_edit(prompt: str, act: str, refresh: str) -> None:
    if "LEARNING_RATE" in prompt and "toy" not in act and "train.py` to 0.006" in prompt:
        Path("train.py").write_text("LEARNING_RATE = 0.006\n")
        change = "LEARNING_RATE 0.003 -> 0.006"
    else:
        file = Path(re.search(r"in these files only: ([^\s,]+?)[.,]\s", prompt)[1])
        number = (FOLDER / "count").read_text()
        change = f"BY_{NAME.upper()}_{number}"
        text = file.read_text() + f"\n{change} = {number}  # weight_decay=0.05, betas=(0.8, 0.95)\n"
        if act == "leak":
            text += f"# {refresh}\n"
        file.write_text(text)
    with (FOLDER / "@TRANSCRIPTS@").open("a") as transcript:  # as the real one, it keeps what it did beside its login
        transcript.write(json.dumps({"edit": change, "comment": "weight_decay=0.05, betas=(0.8, 0.95)"}) + "\n")
    statement = {"title": f"{change} by {NAME}", "hypothesis": "It may help: weight_decay=0.05.", "axis": change,
                 "direction": "up", "value": "1", "predicted_effect": -0.001, "refuted_by": "No change.",
                 "insists": "Another name."}  # fmt: skip
    text = json.dumps(statement)
    if act == "fenced":
        text = f"Here is the proposal:\n```JSON\n{json.dumps(statement | {'confidence': 'high'})}\n```\n"
    if act != "wordless":
        (answer_folder(prompt) / "proposal.json").write_text(text)


def main() -> None:
    refresh = check_room()
    prompt = read_prompt()
    if not prompt.strip():
        end("no prompt", 2)
    is_question = "colour has a clear" in prompt
    act = next_act(not is_question)
    if act == "limit":
        end(LIMIT, 0 if NAME == "aider" else 1)
    if act == "logged-out":
        end("@LOGGED_OUT@", {"aider": 0, "gemini": 41}.get(NAME, 1))
    if act == "version-1" and "--standalone" in sys.argv:
        end("opencode run [message..]\n\nPositionals:\n  message\n\nOptions:\n  --format", 1)
    if act in REFUSALS:
        end(REFUSALS[act], 0 if NAME == "aider" else 1)
    renew_login(refresh)
    write_own_files()
    if is_question:
        end("Blue.")
    if act == "question":
        end("I have a plan. Should I continue?")
    if "finding.json" in prompt:
        write_paper(prompt, act, refresh)
    else:
        write_edit(prompt, act, refresh)
    end("Done.")


if __name__ == "__main__":
    main()
