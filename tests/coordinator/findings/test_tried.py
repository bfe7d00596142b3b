"""Has this been tried? Labelled questions on several sessions; some of them over HTTP, on both engines."""

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


def test_answers_over_http_are_those_of_all_experiments(database: Database, http: TestClient, tmp_path: Path) -> None:
    asked = [question for question in read_questions() if question.part == "held"][::4]
    for letter in {question.session for question in asked}:
        with database.write() as session:
            write_session(session, create_project(session, write_seed(tmp_path / letter, name=letter))[0], letter)
    for question in asked:
        answer = http.post(f"{API_PREFIX}/findings/tried", json={"project": question.session, "text": question.text})
        assert answer.json()["verdict"] == judge_all(question), question
