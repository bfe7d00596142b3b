"""Has this been tried? Labelled questions on several sessions; some of them over HTTP, on both engines."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.findings.attempts import Attempt, count_known, judge
from coordinator.findings.prior_work import parse_question
from coordinator.findings.steps import read_change
from coordinator.projects.service import create_project
from shared.findings import Likeness, TriedVerdict
from shared.protocol import API_PREFIX
from tests.coordinator.findings.tried import (
    ALL,
    QUESTION_PARTS,
    SESSIONS,
    judge_all,
    measure,
    read_questions,
    write_session,
)
from tests.support.seeds import write_seed


def test_the_questions_are_many_and_a_third_is_of_what_nobody_tried() -> None:
    questions = read_questions()
    never = sum(one.verdict is not TriedVerdict.TRIED for one in questions)
    assert len(questions) >= 120 and 3 * never >= len(questions) and {one.session for one in questions} == set(SESSIONS)


@pytest.mark.parametrize("part", QUESTION_PARTS)
def test_what_was_tried_is_found_and_nothing_else_is_called_so(part: str) -> None:
    found, goal = measure(part, judge_all), QUESTION_PARTS[part]
    assert found.recall >= goal.recall and found.false_tried <= goal.false_tried, found


def test_of_all_questions_seven_in_eight_are_found_and_one_in_thirty_others_is_called_tried() -> None:
    found = measure(ALL, judge_all)
    assert found.recall >= 0.88 and found.false_tried <= 0.033, found


@pytest.mark.parametrize(
    "names",
    [
        ("TOTAL_BATCH_SIZE", "TRAIN_BATCH_TOKENS", "TOKENS_PER_STEP", "tokens a step", "tokens per optimizer update"),
        ("TRAIN_SEQ_LEN", "block_size", "MAX_SEQ_LEN", "context window", "sequence length"),
        ("DEVICE_BATCH_SIZE", "micro-batch size", "batch per device", "per-GPU batch size"),
        ("HEAD_DIM", "HEAD_WIDTH", "head size", "channels per head", "size of each head"),
        ("UNEMBEDDING_LR", "HEAD_LR", "lm_head lr", "classifier learning rate"),
        ("WARMUP_RATIO", "WARMUP_STEPS", "warmup_iters", "WARMUP_SHARE", "LR ramp-up"),
        ("WARMDOWN_RATIO", "WARMDOWN_ITERS", "WARM_DOWN_SHARE", "LR cooldown", "decay phase of the learning rate"),
        ("FINAL_LR_FRAC", "FINAL_LR_SHARE", "min_lr", "LR floor"),
        ("ns_steps", "Newton-Schulz iterations", "NS iterations", "number of Newton-Schulz steps"),
        ("GRAD_CLIP", "max_grad_norm", "torch.nn.utils.clip_grad_norm_", "clip the global gradient norm"),
        ("INIT_SCALE", "std of the initial weights", "weight init gain", "initialisation scale"),
        ("relu^2", "relu(x)**2", "F.relu(x).square()", "relu(x).pow(2)", "square of ReLU"),
        ("RMSNorm", "nn.RMSNorm", "root-mean-square normalisation"),
        ("qk-norm", "normalise queries and keys", "RMSNorm on q and k", "norm(q), norm(k)"),
        ("z_loss", "penalty on log Z", "logsumexp penalty", "penalise the log-partition function"),
        ("8-bit Adam", "AdamW8bit", "optimizer states in 8 bits"),
    ],
)  # fmt: skip
def test_a_constant_is_read_as_the_field_says_it(names: tuple[str, ...]) -> None:
    assert len({frozenset(parse_question(name).read().words) for name in names}) == 1


@pytest.mark.parametrize(
    ("question", "titles", "answer"),
    [
        # a word that this experiment lacks and another one uses
        ("snake units in the encoder", ["snake units in the decoder", "stride of the encoder 512"], Likeness.ALIKE),
        ("snake units in the encoder", ["snake units, encoder", "stride of the encoder 512"], Likeness.SAME_STEP),
        # only a part is changed
        ("mixup only in the first half of training", ["mixup alpha=0.2"], Likeness.ALIKE),
        ("mixup only in the first half of training", ["mixup only in the first half"], Likeness.SAME_STEP),
        # a number, where one named thing took another's place
        ("MLP 4x -> 6x", ["MLP squared_relu->gelu"], Likeness.SAME_AXIS),
        ("MLP 4x -> 6x", ["widen the MLP from 4x to 6x"], Likeness.SAME_STEP),
        # factors before and behind the x, a number in brackets, a name before the step, bytes in words
        ("feature matching loss x0.5", ["feature matching loss x2"], Likeness.SAME_AXIS),
        ("feature matching loss 2x", ["feature matching loss x2"], Likeness.SAME_STEP),
        ("LSTM with 4 layers", ["LSTM before the quantiser (2 layers)"], Likeness.SAME_AXIS),
        ("start the warmdown later: ratio 0.3", ["reduce WARMDOWN_RATIO to 0.3"], Likeness.SAME_STEP),
        ("eight gigabytes of shared buffers", ["shared_buffers 128MB -> 8GB"], Likeness.SAME_STEP),
        # a value beside another name, names that differ in their numbers, proportions, and halves of words
        ("reach = 3", ["reach=1, density 3"], Likeness.SAME_AXIS),
        ("reach = 3", ["reach=3, density 1"], Likeness.SAME_STEP),
        ("float2 loads for A and B", ["vectorised loads, float4 for A and B"], Likeness.ALIKE),
        ("float4 loads for A and B", ["vectorised loads, float4 for A and B"], Likeness.SAME_STEP),
        ("task weights 1:1", ["task weights 1:0.3"], Likeness.SAME_AXIS),
        ("task weights 1:0.3", ["task weights 1 : 0.3"], Likeness.SAME_STEP),
        ("half-life of 7 days", ["half-life of purchases, 30 days"], Likeness.SAME_AXIS),
        # a word that one experiment alone has tells more
        ("pre-heated swizzled loads", ["swizzle loads (xor)", "loads 2", "loads 3"], Likeness.SAME_STEP),
        ("pre-heated swizzled loads", ["swizzle loads (xor)", *(f"swizzle loads {n}" for n in "2345")], Likeness.ALIKE),
        # one thing in place of another, and what was removed
        ("unlogged accounts table", ["unlogged history table"], Likeness.ALIKE),
        ("chunked prefill with 8192 tokens", ["disable chunked prefill"], Likeness.SAME_AXIS),
        # abbreviations: by the first letters, without vowels, by initials
        ("sixteen environments", ["n_envs=16"], Likeness.SAME_STEP),
        ("wider cabins", ["cbn width 3"], Likeness.SAME_STEP),
        ("SG blocks", ["add slot-and-groove joints"], Likeness.SAME_STEP),
        # lines of code, and both betas of Adam where one is changed
        ("x = F.relu(x).square()", ["Squared ReLU in the MLP"], Likeness.SAME_STEP),
        ("y = F.scaled_dot_product_attention(q, k, v, is_causal=True)", ["SDPA"], Likeness.SAME_STEP),
        ("LeakyReLU(0.1)^2", ["LeakyReLU(0.5)^2 in MLP"], Likeness.SAME_AXIS),
        ("-        x = F.relu(x)\n+        x = F.gelu(x)", ["GELU"], Likeness.SAME_STEP),
        ("-        x = F.dropout(x)\n", ["MLP ratio 3"], None),
        ("ADAM_BETAS = (0.7, 0.95)", ["adam beta1 0.8 -> 0.7"], Likeness.SAME_STEP),
        ("ADAM_BETAS = (0.75, 0.95)", ["adam beta1 0.8 -> 0.7"], Likeness.SAME_AXIS),
        ("-BETAS = (0.8, 0.9)\n+BETAS = (0.7, 0.9)", ["beta2 0.9", "beta1 0.8"], Likeness.SAME_AXIS),
        # what stands behind a comma is removed, not what was asked for
        ("AdamW for all", ["AdamW for all parameters, no Muon"], Likeness.SAME_STEP),
        ("untie the output head at 2/3", ["decouple input and output embeddings at two thirds"], Likeness.SAME_STEP),
        ("flash attention", ["Bottleneck: memory traffic. Swap SDPA for flash attention 3"], Likeness.SAME_STEP),
    ],
)  # fmt: skip
def test_what_tells_a_near_miss_from_the_step_itself(question: str, titles: list[str], answer: Likeness) -> None:
    asked = parse_question(question).read()
    attempts = [Attempt(title, *read_change(title)[:3]) for title in titles]
    known = count_known(attempts)
    found = {judge(asked, attempt, known) for attempt in attempts} - {None}
    assert next((likeness for likeness in Likeness if likeness in found), None) is answer


def test_answers_over_http_are_those_of_all_experiments(database: Database, http: TestClient, tmp_path: Path) -> None:
    asked = [question for question in read_questions() if question.part == "held"][::4]
    for letter in {question.session for question in asked}:
        with database.write() as session:
            write_session(session, create_project(session, write_seed(tmp_path / letter, name=letter))[0], letter)
    for question in asked:
        answer = http.post(f"{API_PREFIX}/findings/tried", json={"project": question.session, "text": question.text})
        assert answer.json()["verdict"] == judge_all(question), question
