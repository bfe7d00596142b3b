"""Fits the weights by which it is judged whether something was tried, to the labelled questions of tests/data/tried.

    python -m tests.bench.fit_tried

Logistic regression: of a question, the experiment with the largest sum counts, which is found anew after each fit.
`twenty-eighth` is sealed: nothing is fit to it. Printed are the weights, those of all questions; and how well each
subject's questions are answered by weights of the other subjects'. `THRESHOLD`, which a sum must reach, is subtracted
from the first weight. What words mean (axes.py) was written with older sets in view: only the figures "at first sight"
of `make bench-findings` are of unseen questions.
"""

import sys

import numpy as np

from coordinator.findings.attempts import WEIGHTS, Features, compare, count_known, read_attempt
from coordinator.findings.prior_work import parse_question
from shared.findings import TriedVerdict
from tests.bench.report import format_table
from tests.coordinator.findings.tried import SESSIONS, SUBJECTS, read_attempts, read_questions

PENALTY, ROUNDS, STEPS = 1.0, 12, 25
THRESHOLD = 0.3
"""The highest, in tenths, at which no part of the questions fell below its goal when these weights were fit. Words of
the field that came later moved what is printed by 0.1 at most; with that, some parts would fall below theirs."""


def fit(questions: list[np.ndarray], is_tried: np.ndarray) -> np.ndarray:
    """The weights: Newton's method with a penalty on their squares, but for the first."""
    weights, penalty = np.array(WEIGHTS), np.eye(len(WEIGHTS)) * PENALTY
    penalty[0, 0] = 1e-6
    for _ in range(ROUNDS):
        best = np.array([one[np.argmax(one @ weights)] for one in questions])
        for _ in range(STEPS):
            odds = 1 / (1 + np.exp(-best @ weights))
            slope = best.T @ (odds - is_tried) + penalty @ weights
            weights = weights - np.linalg.solve((best * (odds * (1 - odds))[:, None]).T @ best + penalty, slope)
    return weights


def main() -> None:
    fitted = {letter for letters in SUBJECTS.values() for letter in letters}
    labelled = [one for one in read_questions() if one.session in fitted and one.part != "twenty-eighth"]
    attempts = {letter: read_attempts(letter) for letter in SESSIONS}
    asked = [parse_question(one.text).read() for one in labelled]
    known = {letter: count_known(of) for letter, of in attempts.items()}
    questions = [
        np.array([compare(reading, read_attempt(of), known[one.session]) for of in attempts[one.session]], float)
        for one, reading in zip(labelled, asked, strict=True)
    ]
    is_tried = np.array([one.verdict is TriedVerdict.TRIED for one in labelled])
    of = np.array([next((name for name, letters in SUBJECTS.items() if one.session in letters)) for one in labelled])
    rows = []
    for name in SUBJECTS:
        rest, left = np.flatnonzero(of != name), np.flatnonzero(of == name)
        weights = fit([questions[at] for at in rest], is_tried[rest])
        sums = np.array([np.max(questions[at] @ weights) for at in left])
        recall, wrong = sums[is_tried[left]] >= THRESHOLD, sums[~is_tried[left]] >= THRESHOLD
        rows.append((name, str(len(left)), *(f"{np.mean(some):.3f}" if some.size else "" for some in (recall, wrong))))
    weights = fit(questions, is_tried) - THRESHOLD * np.eye(len(WEIGHTS))[0]
    told = (f"{name} {weight:.1f}" for name, weight in zip(Features._fields, weights, strict=True))
    sys.stdout.write(", ".join(told) + "\n")
    sys.stdout.write(format_table(("subject left out", "questions", "recall of tried", "false tried"), rows) + "\n")


if __name__ == "__main__":
    main()
