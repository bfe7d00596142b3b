"""What a question is about."""

from coordinator.findings.prior_work import AskedStep, parse_question
from shared.findings import QuestionKind

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
    assert parsed.steps[0] == AskedStep("WEIGHT_DECAY", "0.4")
    assert "gelu" in parsed.words and "DEPTH" not in parsed.words


def test_a_few_changed_lines_are_a_diff_too() -> None:
    parsed = parse_question("-LEARNING_RATE: float = 3e-4\n+LEARNING_RATE: float = 6e-4")
    assert (parsed.kind, parsed.steps) == (QuestionKind.DIFF, [AskedStep("LEARNING_RATE", "6e-4")])


def test_a_sentence_may_name_a_step() -> None:
    for sentence in ("weight_decay 0.2->0.4", "WEIGHT_DECAY from 0.2 to 0.4", "set weight_decay = 0.4"):
        parsed = parse_question(sentence)
        assert (parsed.kind, parsed.steps) == (QuestionKind.SENTENCE, [AskedStep(parsed.steps[0].name, "0.4")])
        assert parsed.steps[0].name.casefold() == "weight_decay"
    assert parse_question("- has anybody tried this?").kind is QuestionKind.SENTENCE
    assert parse_question("Has a gated MLP been tried?").steps == []
