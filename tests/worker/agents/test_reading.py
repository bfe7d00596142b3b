"""Replies of endpoints and models as they are: `replies/` has one a file, with what is to be read of it.

expect     `read`, with the fields below where they differ from those of GOOD; or `refused`, with a part of the reason
body       the body of the answer: JSON, or the text of a stream
"""

import json
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pydantic import SecretStr

from tests.support.chat_server import PAPER, ChatServer, Response, serve_chat
from worker.agents.chat import Chat, ChatError
from worker.agents.dialect import Turn
from worker.agents.edits import EditError, apply_changes
from worker.agents.reading import Unreadable, read_form
from worker.agents.replies import ExperimentReply, PaperReply, RepairReply

SOURCE = "LEARNING_RATE = 0.003\nDEPTH = 4\n"
TURNS = [Turn("system", "Answer with JSON."), Turn("user", "Propose.")]
CASES = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("replies/*.json")
}


def ask(server: ChatServer, body: Any) -> tuple[ExperimentReply, Chat]:
    """Ask once; the server answers with this body."""
    server.script = [Response(body=body)]
    chat = Chat(server.url, "test", SecretStr("sk-canary-0123456789"))
    return chat.ask(TURNS, ExperimentReply, 60.0, Event())[0], chat


def test_each_reply_is_read_or_refused_as_its_file_says() -> None:
    assert len(CASES) >= 60
    with serve_chat() as server:
        wrong = [problem for name, case in sorted(CASES.items()) if (problem := find_problem(server, name, case))]
    assert not wrong, "\n".join(wrong)


def find_problem(server: ChatServer, name: str, case: dict[str, Any]) -> str:
    try:
        reply, chat = ask(server, case["body"])
    except ChatError as error:
        is_right = case["expect"] == "refused" and case["reason"] in str(error)
        return "" if is_right else f"{name}: {type(error).__name__}: {error}"
    if case["expect"] != "read":
        return f"{name}: was read as {reply}"
    try:
        files = apply_changes(reply.edits, reply.files, {"train.py": SOURCE})
    except EditError as error:
        return f"{name}: {error}"
    found = {
        "files": {path: text.rstrip() for path, text in files.items()},
        "words": (reply.title, reply.direction.value, reply.predicted_effect),
        "read": chat.spent.input_tokens,
    }
    expected = {
        "files": {"train.py": SOURCE.replace("4", "6").rstrip()},
        "words": ("DEPTH 6", case.get("direction", "up"), case.get("effect", -0.01)),
        "read": case.get("read", 90) or len("Answer with JSON.Propose.") // 3 + 1,
    }
    if "usage" not in str(case["body"]) and "eval_count" not in str(case["body"]):
        expected["read"] = found["read"]
    return (
        "" if found == expected and case.get("hypothesis", reply.hypothesis) == reply.hypothesis else f"{name}: {found}"
    )


def test_what_needed_no_repair_is_not_called_repaired() -> None:
    text = json.dumps(PAPER)
    assert read_form([text], PaperReply)[1] is False
    assert read_form([f"```\n{text}\n```"], PaperReply)[1] is True


def test_reading_is_liberal_for_other_forms_too() -> None:
    paper = {"Finding": "Depth helps.", "mechanism": ["More layers.", "More steps."], "tags": "depth, layers"}
    found, _ = read_form([json.dumps({"paper": {"claim": "x", **paper}})], PaperReply)
    assert (found.claim, found.mechanism, found.tags) == ("x", "More layers.; More steps.", ["depth", "layers"])
    assert read_form(['{"edits": []}'], RepairReply)[0].edits == []
    with pytest.raises(Unreadable):
        read_form(['{"file": "train.py", "search": "a", "replace": "b"}'], RepairReply)


def test_no_edits_are_guessed_of_a_text_that_was_cut_off_or_quotes_others() -> None:
    words = {"title": "DEPTH 6", "hypothesis": "Deeper.", "axis": "DEPTH", "direction": "up"}
    said = json.dumps(words)
    diff = "--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,2 @@\n-DEPTH = 4\n-WIDTH = 8\n+DEPTH = 6\n"  # and WIDTH to come
    other = {"edits": [{"file": "train.py", "search": "DEPTH = 4", "replace": "DEPTH = 9"}]}
    assert read_form([f"{said}\n{diff}"], ExperimentReply)[0].edits
    for text, is_cut_off in (
        (f"{said}\n{diff}", True),
        (json.dumps(words | {"parent": {"title": "DEPTH 9", **other}}), False),
        (f"{said}\nUnlike {json.dumps({'title': 'DEPTH 9'})} with {json.dumps(other)}", False),
        (f"{said}\n{json.dumps(other)}\n{json.dumps(other)}", False),  # two halves of a change
    ):
        with pytest.raises(Unreadable):
            read_form([text], ExperimentReply, is_cut_off=is_cut_off)


@pytest.mark.parametrize(
    "text", ["{" * 3000, "[" * 3000, '{"a":' * 2000, "{}" * 500, "\x00{", '{"title": NaN, "edits": []}']
)
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(Unreadable):
        read_form([text], PaperReply)
