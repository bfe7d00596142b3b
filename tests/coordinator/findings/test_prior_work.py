"""Has this been tried? Over HTTP, on both engines."""

from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.findings.prior_work import parse_question
from coordinator.models import Project
from shared.experiments import AxisDirection
from shared.findings import Likeness, Question, QuestionKind, Tried, TriedVerdict
from shared.protocol import API_PREFIX
from tests.coordinator.findings.conftest import Author
from tests.support.swarm_data import History


def ask(http: TestClient, text: str) -> Tried:
    response = http.post(f"{API_PREFIX}/findings/tried", json=Question(project="tiny", text=text).model_dump())
    assert response.status_code == 200, response.text
    return Tried.model_validate_json(response.content)


def test_the_same_step_is_known_however_it_is_written(http: TestClient, author: Author) -> None:
    same = author.write("Regularise more", axis="WEIGHT_DECAY", value="0.40", metric=3.2)
    other = author.write("Regularise less", axis="weight decay", value="0.1", metric=3.3)
    author.write("Shrink the weights of the embeddings", axis="EMBEDDING_DECAY", value="0.3")
    told = ask(http, "-WEIGHT_DECAY = 0.2\n+WEIGHT_DECAY = 0.4")
    assert told.kind is QuestionKind.DIFF
    assert [(one.hit.finding.id, one.likeness) for one in told.before] == [
        (same, Likeness.SAME_STEP), (other, Likeness.SAME_AXIS),
    ]  # fmt: skip
    assert told.verdict is TriedVerdict.TRIED
    assert told.answer.startswith("Tried: experiment") and "improved" in told.answer
    assert ask(http, "has wd been set to 40%?").verdict is TriedVerdict.TRIED
    for question in ("has weight_decay been set to 0.25?", "weight_decay = 0.25"):
        told = ask(http, question)
        assert told.verdict is TriedVerdict.NEAR and told.answer.startswith("Near: the same was tried at another value")


def test_what_nobody_tried_is_said_so(http: TestClient, author: Author) -> None:
    author.write("Wider")
    told = ask(http, "mixture of experts")
    assert told.before == [] and told.verdict is TriedVerdict.NOT_TRIED and told.answer.startswith("Not tried")


def test_words_that_are_only_alike_are_no_answer(http: TestClient, author: Author) -> None:
    author.write("Raise the dropout of the embeddings to 0.2", axis="EMBEDDING_DROPOUT", value="0.2")
    author.write("swap relu for gelu")
    for question in ("label smoothing", "batch size 64", "raise the weight decay", "a different tokenizer"):
        assert ask(http, question).before == [], question
    assert ask(http, "activation function").verdict is TriedVerdict.TRIED
    assert ask(http, "Swap RELU for GELU.").verdict is TriedVerdict.TRIED
    assert ask(http, "silu").verdict is TriedVerdict.NEAR


def test_of_several_steps_all_must_have_been_made(http: TestClient, author: Author) -> None:
    author.write("depth 8 to 9, aspect ratio 64 to 57")
    assert ask(http, "DEPTH 8 to 9 and ASPECT_RATIO 64 to 57").verdict is TriedVerdict.TRIED
    assert ask(http, "depth 8 to 9 and dropout 0 to 0.1").verdict is TriedVerdict.NEAR


def test_what_others_are_at_now_is_told(http: TestClient, database: Database, author: Author) -> None:
    with database.write() as session:
        project = session.query(Project).one()
        history = History(session, project)
        history.add_running_lease(history.add_worker(), project.root_sha, "LEARNING_RATE 0.003 → 0.004")
    told = ask(http, "learning_rate 0.003 -> 0.004")
    assert [(one.likeness, one.value) for one in told.now] == [(Likeness.SAME_STEP, "0.004")]
    assert "Running now: 1 similar job." in told.answer


DIFF = """\
diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -1,4 +1,4 @@
 DEPTH = 4
-WEIGHT_DECAY = 0.2  # range: 0 to 1
+WEIGHT_DECAY = 0.4  # range: 0 to 1
-    x = relu(x)
+    x = gelu(x)
"""


def test_a_diff_tells_which_constants_are_set_anew() -> None:
    parsed = parse_question(DIFF)
    assert parsed.kind is QuestionKind.DIFF
    assert parsed.steps[0][:3] == ("WEIGHT_DECAY", AxisDirection.UP, "0.4")
    assert "gelu" in parsed.words and "DEPTH" not in parsed.words


def test_a_few_changed_lines_are_a_diff_too() -> None:
    parsed = parse_question("-LEARNING_RATE: float = 3e-4\n+LEARNING_RATE: float = 6e-4")
    assert (parsed.kind, parsed.steps[0][:3]) == (QuestionKind.DIFF, ("LEARNING_RATE", AxisDirection.UP, "6e-4"))


def test_a_sentence_may_name_a_step() -> None:
    for sentence in ("weight_decay 0.2->0.4", "WEIGHT_DECAY from 0.2 to 0.4", "set weight_decay = 0.4"):
        parsed = parse_question(sentence)
        assert parsed.kind is QuestionKind.SENTENCE and [step.value for step in parsed.steps] == ["0.4"]
        assert parsed.steps[0].axis.casefold() == "weight_decay"
    assert parse_question("- has anybody tried this?").kind is QuestionKind.SENTENCE
    assert [step.value for step in parse_question("Has a gated MLP been tried?").steps] == [""]
