"""Fits the weights by which it is judged whether something was tried, to the labelled questions of tests/data/tried.

    python -m tests.bench.fit_tried

Logistic regression: of a question, the experiment with the largest sum counts, which is found anew after each fit.
Printed are the weights, those of all questions; and how well each session's are answered by weights of the others',
at several thresholds. What is subtracted from the first weight is the threshold.
"""

import sys

import numpy as np

from coordinator.findings.attempts import WEIGHTS, Attempt, Features, compare, read_attempt
from coordinator.findings.prior_work import parse_question
from coordinator.findings.steps import read_change
from shared.findings import TriedVerdict
from tests.bench.report import format_table
from tests.coordinator.findings.tried import SESSIONS, read_questions

PENALTY, ROUNDS, STEPS = 0.3, 12, 25
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 1.0)


def read_attempts(letter: str) -> list[Attempt]:
    titles = [line.split("\t")[4] for line in SESSIONS[letter].read_text().splitlines()[2:]]
    return [Attempt(title[:200], *read_change(title)[:3]) for title in titles]


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
    labelled = read_questions()
    attempts = {letter: read_attempts(letter) for letter in SESSIONS}
    asked = [parse_question(one.text).read() for one in labelled]
    questions = [
        np.array([compare(reading, read_attempt(attempt)) for attempt in attempts[one.session]], float)
        for one, reading in zip(labelled, asked, strict=True)
    ]
    is_tried = np.array([one.verdict is TriedVerdict.TRIED for one in labelled])
    of = np.array([one.session for one in labelled])
    sums = np.zeros(len(labelled))
    for letter in SESSIONS:
        others = fit(
            [one for one, session in zip(questions, of, strict=True) if session != letter], is_tried[of != letter]
        )
        sums[of == letter] = [
            np.max(one @ others) for one, session in zip(questions, of, strict=True) if session == letter
        ]
    weights = fit(questions, is_tried)
    sys.stdout.write(
        ", ".join(f"{name} {weight:.1f}" for name, weight in zip(Features._fields, weights, strict=True)) + "\n"
    )
    rows = [
        (f"{at:.1f}", f"{np.mean(sums[is_tried] >= at):.3f}", f"{np.mean(sums[~is_tried] >= at):.3f}")
        for at in THRESHOLDS
    ]
    sys.stdout.write(format_table(("threshold", "recall of tried", "false tried"), rows) + "\n")


if __name__ == "__main__":
    main()
