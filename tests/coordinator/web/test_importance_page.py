"""The page of settings: the importances of a model of its runs, and lines through parallel axes."""

import re
from pathlib import Path

from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from coordinator.web.parallel_picture import ParallelRow, draw_parallel
from tests.support.messages import make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import History


def test_the_setting_that_matters_stands_first(http: TestClient, database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        project, _ = create_project(session, write_seed(tmp_path / "seed"))
        history = History(session, project)
        ada = history.add_worker("gpu", "ada")
        history.measure(ada, project.root_sha, 3.3)
        for number in range(24):
            rate, depth = (0.003, 0.006, 0.012)[number % 3], (4.0, 16_000.0)[number % 2]
            axis = "LEARNING_RATE" if number % 2 else "DEPTH"
            proposal = make_proposal(f"try {number}").model_copy(
                update={"axis": axis, "settings": {"LEARNING_RATE": rate, "DEPTH": depth, "NAME <b>": "a"}}
            )
            metric = 3.3 - 20 * (rate - 0.003) + 1e-8 * depth
            history.add_experiment(ada, project.root_sha, metric, proposal)
    page = http.get("/projects/tiny/importance").text
    found = re.findall(r'\?axis=(\w+)"', page)
    cells = re.sub(r"\s+(?=<)", "", page)
    assert found[0] == "LEARNING_RATE" and "<td><bdi>0.012</bdi></td><td><bdi>0.003</bdi></td>" in cells
    assert re.search(r"<td><bdi>(4|16000)</bdi></td><td><bdi>(4|16000)</bdi></td>", cells)
    assert '<span class="muted">16000</span>' in cells, "no exponent"
    assert page.count("<path") == 24 and "<bdi>DEPTH</bdi>" in page and "NAME <b>" not in page


def test_few_runs_say_so(http: TestClient, project: str) -> None:
    page = http.get(f"/projects/{project}/importance").text
    assert "too few runs" in page and "too few experiments" in page


def test_lines_run_where_values_are_and_better_is_higher() -> None:
    rows = [
        ParallelRow(1, {"A": 1, "B": "x", "C": 1}, 3.0), ParallelRow(2, {"A": 100, "C": 1}, 3.1),
        ParallelRow(3, {"A": 10, "B": "y", "C": 1}, 3.2),
    ]  # fmt: skip
    picture = draw_parallel(rows, ["A", "B", "C"], 6, "loss", 1.0)
    assert picture is not None and [axis.name for axis in picture.axes] == ["A", "B", "loss"], "all have the same C"
    assert [line.path for line in picture.lines] == ["M0 160L500 0L1000 320", "M0 0M1000 160", "M0 320L500 320L1000 0"]
    assert [line.is_best for line in picture.lines] == [False, False, True]
    assert (picture.axes[-1].low, picture.axes[-1].high) == ("3.2", "3")
    assert draw_parallel(rows, ["A"], 6, "score", -1.0).lines[0].path.endswith("1000 0")  # type: ignore[union-attr]
    assert draw_parallel(rows[:1], ["A"], 6, "loss", 1.0) is None
