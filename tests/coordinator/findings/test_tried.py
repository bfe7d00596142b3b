"""Has this been tried? Labelled questions on three sessions, over HTTP and on both engines."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from shared.findings import TriedVerdict
from shared.protocol import API_PREFIX
from tests.coordinator.findings.tried import (
    QUESTION_PARTS,
    SESSIONS,
    LabelledQuestion,
    measure,
    read_questions,
    write_session,
)
from tests.support.seeds import write_seed


def test_the_questions_are_many_and_a_third_is_of_what_nobody_tried() -> None:
    questions = read_questions()
    never = sum(one.verdict is not TriedVerdict.TRIED for one in questions)
    assert len(questions) >= 120 and 3 * never >= len(questions) and {one.session for one in questions} == set(SESSIONS)


def test_what_was_tried_is_found_and_nothing_else_is_called_so(
    database: Database, http: TestClient, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for letter in SESSIONS:
        with database.write() as session:
            write_session(session, create_project(session, write_seed(tmp_path / letter, name=letter))[0], letter)

    def ask(question: LabelledQuestion) -> TriedVerdict:
        asked = {"project": question.session, "text": question.text}
        return TriedVerdict(http.post(f"{API_PREFIX}/findings/tried", json=asked).json()["verdict"])

    for part, goal in QUESTION_PARTS.items():
        if part != "held" and database.engine.dialect.name == "postgresql":
            continue  # what differs is where candidates come from
        with subtests.test(msg=part):
            found = measure(part, ask)
            assert found.recall >= goal.recall and found.false_tried <= goal.false_tried, found
